"""The renter's money: wallet balance, deposit, withdraw, history."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from gristmill._client import Client, direct_money
from gristmill._money import Money
from gristmill.cli.screen import Json, print_json, print_table, remark, require_yes, say
from gristmill_protocol.api import AccountView
from gristmill_protocol.errors import BadRequest, BadSettings, NotFound
from gristmill_protocol.renter_checks import check_contracts
from gristmill_protocol.wallet import Movement
from gristmill_protocol.wording import usd

app = typer.Typer(help="Your money: it lies on chain, and only you can withdraw it.", no_args_is_help=True)

Rpc = Annotated[str, typer.Option("--rpc", help="Without a coordinator: a chain node's URL. Your key pays the gas.")]
Deployment = Annotated[
    Path | None, typer.Option("--deployment", help="The contracts, as published; refuse to sign for any others.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_KINDS = {
    "opened": "account opened",
    "deposit": "deposit",
    "award": "from a cheat's bond",
    "payment": "paid for a job",
    "withdrawal_asked": "withdrawal asked for",
    "withdrawal_cancelled": "withdrawal taken back",
    "withdrawal": "withdrawn",
}


@app.command("balance")
def balance(rpc: Rpc = "", deployment: Deployment = None, as_json: Json = False) -> None:
    """Show what your account holds, what jobs may still take, and what is on its way out."""
    with _money(rpc, deployment) as money:
        _show(money.account(), as_json=as_json)


@app.command("deposit")
def deposit(
    amount: Annotated[str, typer.Argument(help='USD, like "10" or "2.50".')],
    owner: Annotated[
        str, typer.Option(help="Address that can withdraw, when the account is opened; by default your key's own.")
    ] = "",
    rpc: Rpc = "",
    deployment: Deployment = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Move stablecoin from your key's address into its account, which is opened first if need be."""
    with _money(rpc, deployment) as money:
        plan = money.plan_deposit(amount, owner=owner)
        remark(str(plan))
        require_yes("Sign this?", yes=yes)
        account = plan.start()
    if not as_json:
        say(f"{usd(plan.amount_usd_micros)} is in the account.")
    _show(account, as_json=as_json)


@app.command("withdraw")
def withdraw(
    amount: Annotated[str, typer.Argument(help='USD, or "all".')] = "",
    cancel: Annotated[bool, typer.Option("--cancel", help="Take back what you asked for.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Have it paid, if nobody does: needs --rpc.")] = False,
    account: Annotated[str, typer.Option(help="Of another key, which yours owns: needs --rpc.")] = "",
    rpc: Rpc = "",
    deployment: Deployment = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Ask to have money paid back to the account's owner; it comes in 24 hours."""
    if sum((bool(amount), cancel, finish)) != 1:
        raise BadRequest("Name an amount, --cancel or --finish.", effect="Nothing was signed.")
    if account and not re.fullmatch("0x[0-9a-fA-F]{40}", account):
        raise BadRequest(f"{account!r} is no address.", effect="Nothing was signed.")
    with _money(rpc, deployment, account) as money:
        if cancel:
            left = money.cancel_withdrawal()
        elif finish:
            left = money.pay_out()
        else:
            _warn(money.account())
            require_yes(
                f"Withdraw {'all of it' if amount == 'all' else f'{amount} USD'}?", yes=yes, what="This can stop jobs"
            )
            left = money.withdraw(None if amount == "all" else amount)
    _show(left, as_json=as_json)


@app.command("history")
def history(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    rpc: Rpc = "",
    deployment: Deployment = None,
    as_json: Json = False,
) -> None:
    """List what came in and went out, newest first."""
    with _money(rpc, deployment) as money:
        found = list(islice(money.history(), limit))
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    print_table(("when", "what", "amount", "job", "transaction"), map(_row, found))


@contextmanager
def _money(rpc: str, deployment: Path | None, account: str = "") -> Iterator[Money]:
    """The coordinator's way, or the way without one."""
    if account and not rpc:
        raise BadSettings("--account needs --rpc: a coordinator shows accounts to their own keys only.")
    if rpc:
        if deployment is None:
            raise BadSettings("--rpc needs --deployment FILE: the contracts, as the operator published them.")
        yield direct_money(rpc, deployment, account=account)
        return
    with Client() as client:
        if deployment is not None:
            check_contracts(client.info(), published(deployment))
        yield client.money


def published(deployment: Path) -> dict[str, object]:
    """What a published deployment file says.

    Raises:
        NotFound, BadSettings: there is none that can be read.
    """
    try:
        said = json.loads(deployment.read_text())
    except OSError as err:
        raise NotFound(f"There is no deployment at {deployment}.", effect="Nothing was signed.") from err
    except ValueError as err:
        raise BadSettings(f"{deployment} is no JSON.", effect="Nothing was signed.") from err
    return said if isinstance(said, dict) else {}


def _show(account: AccountView, *, as_json: bool) -> None:
    if as_json:
        print_json(account)
        return
    say(f"Account    {account.key}")
    if account.owner is None:
        say("           not open yet: `gristmill wallet deposit` opens it")
    elif account.owner.lower() != account.key.lower():
        say(f"Owner      {account.owner}")
    say(f"Balance    {usd(account.balance_usd_micros)}")
    say(f"Reserved   at most {usd(account.reserved_usd_micros)} by jobs")
    say(f"Available  {usd(account.available_usd_micros)}")
    if account.withdrawal_at_s:
        leaving = usd(account.withdrawing_usd_micros)
        say(f"Leaving    {leaving}, paid to the owner from {_local(account.withdrawal_at_s)} on")
    say(f"Outside    {usd(account.outside_usd_micros)} on the key's own address, not deposited")


def _warn(account: AccountView) -> None:
    remark("The money is paid to the account's owner 24 hours after this. Until then what jobs earn is still paid.")
    if account.reserved_usd_micros:
        remark(
            f"Jobs may still take {usd(account.reserved_usd_micros)}; those that the rest does not cover are stopped "
            "at their last verified step, and you pay for no more than that."
        )


def _row(movement: Movement) -> tuple[str, ...]:
    amount = usd(movement.amount_usd_micros) if movement.amount_usd_micros else ""
    job = movement.job_name or movement.job_id or ""
    return _local(movement.at_s), _KINDS[movement.kind], amount, job, movement.tx


def _local(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC).astimezone():%Y-%m-%d %H:%M}"
