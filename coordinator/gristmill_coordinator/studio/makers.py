"""People who teach: who they are, the key that is held for each, and the links with which they sign in.

Whoever runs these pages can open the keys, and so can spend a maker's balance on jobs. It holds nothing else of them.
"""

import asyncio
import hmac
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256

import sqlalchemy as sa
from eth_account import Account
from eth_account.signers.local import LocalAccount

from gristmill_coordinator.store.store import Row, Tx
from gristmill_coordinator.store.studio_tables import drafts, makers, payins, sign_ins
from gristmill_coordinator.studio.parts import Studio
from gristmill_protocol.errors import BadRequest, Conflict, NotAllowed, NotSignedIn
from gristmill_protocol.renter_key import Wallet

_EMAIL = re.compile(r"[^@\s<>,;\"']{1,64}@[^@\s<>,;\"']{1,190}\.[^@\s<>,;\"'.]{2,}")
_ROUNDS = 1  # the password is 256 random bits: there is nothing to guess
_LINKS_PER_HOUR = 5  # to one address
_HOUR_S = 3_600


@dataclass(frozen=True)
class Maker:
    """A person who teaches; email is None for a guest."""

    id: str
    email: str | None
    renter: str  # lower-case 0x address

    @staticmethod
    def of(row: Row) -> "Maker":
        return Maker(row.maker_id, row.email, row.renter)


async def find(studio: Studio, maker_id: str) -> Maker | None:
    async with studio.co.store.read() as tx:
        row = await tx.row(sa.select(makers).where(makers.c.maker_id == maker_id))
    return None if row is None else Maker.of(row)


async def create_guest(studio: Studio) -> Maker:
    """Somebody who just begins.

    Raises:
        NotSignedIn: money is real here, so people sign in first.
    """
    if not studio.settings.test_money:
        raise NotSignedIn("This needs a sign-in.", todo="Sign in with your e-mail address first.")
    async with studio.co.store.write() as tx:
        return await _create(studio, tx, None)


async def wallet(studio: Studio, maker_id: str) -> Wallet:
    """The key that is held for a maker."""
    async with studio.co.store.read() as tx:
        sealed = await tx.value(sa.select(makers.c.sealed_key).where(makers.c.maker_id == maker_id))
    key = await asyncio.to_thread(Account.decrypt, sealed, _password(studio, maker_id))
    return Wallet(Account.from_key(key))


async def send_link(studio: Studio, email: str, guest: Maker | None) -> None:
    """Send a link that signs in as this address.

    Args:
        guest: who asks, if they began without an address: it becomes theirs.
    Raises:
        BadRequest: that is no address.
        Conflict: too many links were asked for.
        Unavailable: no e-mail can be sent.
    """
    email = email.strip().lower()
    if not _EMAIL.fullmatch(email):
        raise BadRequest("That is not an e-mail address.", effect="No link was sent.", todo="Check it for typos.")
    secret, now = secrets.token_urlsafe(32), studio.co.clock()
    async with studio.co.store.write() as tx:
        since_s = now + studio.settings.link_s - _HOUR_S
        recent = sa.select(sa.func.count()).where(sign_ins.c.email == email, sign_ins.c.expires_s > since_s)
        if int(await tx.value(recent)) >= _LINKS_PER_HOUR:
            raise Conflict(
                "Several links were sent to this address within an hour.",
                effect="No other one was sent.",
                todo="Use the newest of them, or wait an hour.",
            )
        row = {
            "digest": _digest(secret),
            "email": email,
            "guest_id": guest.id if guest is not None and guest.email is None else None,
            "expires_s": now + studio.settings.link_s,
            "used": False,
        }
        await tx.run(sa.insert(sign_ins).values(**row))
    link = f"{studio.co.config.public_url.rstrip('/')}/sign-in/{secret}"
    minutes = studio.settings.link_s // 60
    text = f"Open this link to sign in. It works once, for {minutes} minutes:\n\n{link}\n\nNot you? Then do nothing."
    await studio.mail.send(email, "Your link to sign in", text)


async def use_link(studio: Studio, secret: str, visitor: Maker | None) -> Maker:
    """Who signs in with this link; it is used up then.

    Args:
        visitor: who this browser was so far. Only the guest who asked for the link brings along what they have begun:
            whoever else asked must get nothing of who opens it.
    Raises:
        NotAllowed: it is too old, was used, or was never sent.
        Conflict: the guest has more than can be brought along; the link stays good.
    """
    one = sign_ins.c
    good = sa.and_(one.digest == _digest(secret), sa.not_(one.used), one.expires_s > studio.co.clock())
    async with studio.co.store.write() as tx:
        found = await tx.row(sa.update(sign_ins).where(good).values(used=True).returning(one.email, one.guest_id))
        if found is None:
            raise NotAllowed(
                "This link does not work any more.",
                effect="You are not signed in.",
                todo="A link works once and for a short time. Ask for a new one.",
            )
        guest_id = found.guest_id if visitor is not None and visitor.id == found.guest_id else None
        return await _signed_in(studio, tx, found.email, guest_id)


async def _signed_in(studio: Studio, tx: Tx, email: str, guest_id: str | None) -> Maker:
    known = await tx.row(sa.select(makers).where(makers.c.email == email))
    if known is not None:
        if guest_id is not None:  # what they have begun goes on under their own name
            await _require_nothing_paid(tx, guest_id)
            moved = sa.update(drafts).where(drafts.c.maker_id == guest_id)
            await tx.run(moved.values(maker_id=known.maker_id, spec=None, quote=None))
        return Maker.of(known)
    if guest_id is not None:
        nameless = sa.and_(makers.c.maker_id == guest_id, makers.c.email.is_(None))
        named = await tx.row(sa.update(makers).where(nameless).values(email=email).returning(makers))
        if named is not None:
            return Maker.of(named)
    return await _create(studio, tx, email)


async def _require_nothing_paid(tx: Tx, guest_id: str) -> None:
    """Money and trainings belong to the guest's own key, which no other account has."""
    started = sa.select(drafts.c.draft_id).where(drafts.c.maker_id == guest_id, drafts.c.job_id.is_not(None))
    paid_in = sa.select(payins.c.payin_id).where(payins.c.maker_id == guest_id)
    if await tx.row(started.limit(1)) is not None or await tx.row(paid_in.limit(1)) is not None:
        raise Conflict(
            "This address has an account already, and you have put money in here without it.",
            effect="You are not signed in; what you have here is still yours.",
            todo="Use another address here, or open the link in another browser.",
        )


async def _create(studio: Studio, tx: Tx, email: str | None) -> Maker:
    key: LocalAccount = Account.create()
    maker = Maker(studio.co.new_id("maker"), email, key.address.lower())
    sealed = Account.encrypt(key.key, _password(studio, maker.id), kdf="pbkdf2", iterations=_ROUNDS)
    row = {"maker_id": maker.id, "email": email, "renter": maker.renter, "sealed_key": sealed}
    await tx.run(sa.insert(makers).values(**row, created_s=studio.co.clock()))
    return maker


def _password(studio: Studio, maker_id: str) -> str:
    return hmac.digest(studio.secret, b"key\0" + maker_id.encode(), sha256).hex()


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
