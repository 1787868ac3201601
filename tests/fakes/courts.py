"""What Disputes does, for the chain in memory. Referees are drawn in the order in which they took their seats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gristmill_coordinator.chain.port import (
    AdvanceCall,
    AllowBondsCall,
    BondFunds,
    CollectCall,
    DisputeCall,
    DrawCall,
    OpenDisputeCall,
)
from gristmill_coordinator.domain.disputes import Outcome, Phase
from gristmill_protocol.commitments import SignedRecord
from gristmill_protocol.signing import SEGMENT_RECORD_TYPE, recover

if TYPE_CHECKING:
    from fakes.chain import FakeChain

LEAST_BOND = 1_000_000
ANSWER_S, RULING_S, ARBITER_S = 24 * 3600, 48 * 3600, 72 * 3600
_ANY_AMOUNT = 2**256 - 1


@dataclass(frozen=True)
class Dispute:
    provider: int
    renter: str
    amount: int
    bond: int
    evidence: bytes
    work: SignedRecord
    phase: Phase
    deadline_s: int
    answered: bool = False
    seats: int = 3
    draw_block: int = 0
    referees: tuple[int, ...] = ()
    guilty: tuple[int, ...] = ()
    clear: tuple[int, ...] = ()


def bond(amount: int) -> int:
    return max(amount // 10, LEAST_BOND)


def funds(chain: FakeChain, amount: int) -> BondFunds:
    operator, us = chain.operator.address.lower(), chain.info.challenger_payee
    return BondFunds(
        bond(amount), chain.state.tokens.get(operator, 0), chain.state.allowed, chain.state.credits.get(us, 0)
    )


def refusal(chain: FakeChain, call: DisputeCall) -> str:
    """The error with which the contract would refuse; "" if it would not."""
    match call:
        case OpenDisputeCall():
            return _open_refusal(chain, call)
        case DrawCall(dispute=id_):
            found = chain.state.disputes.get(id_)
            if found is None or found.phase is not Phase.RULING:
                return f"WrongPhase(id={id_})"
            if found.referees:
                return f"AlreadyDrawn(id={id_})"
            return "" if len(chain.blocks) + 1 > found.draw_block else f"TooEarly(until={found.draw_block})"
        case AdvanceCall(dispute=id_):
            found = chain.state.disputes.get(id_)
            if found is None or found.phase is Phase.CLOSED:
                return f"WrongPhase(id={id_})"
            return "" if chain.clock() > found.deadline_s else f"TooEarly(until={found.deadline_s})"
    return ""


def carry_out(chain: FakeChain, call: DisputeCall) -> None:
    """What the call does that would not be refused."""
    match call:
        case OpenDisputeCall():
            _open(chain, call)
        case AllowBondsCall():
            chain.state.allowed = _ANY_AMOUNT
        case CollectCall():
            operator = chain.operator.address.lower()
            amount = chain.state.credits.pop(chain.info.challenger_payee, 0)
            chain.state.tokens[operator] = chain.state.tokens.get(operator, 0) + amount
            chain.state.held -= amount
        case DrawCall(dispute=id_):
            _draw(chain, id_)
        case AdvanceCall(dispute=id_):
            found = chain.state.disputes[id_]
            if found.phase is Phase.ANSWERING:
                _close(chain, id_, Outcome.UNANSWERED)
            elif found.phase is Phase.ARBITRATING:
                _close(chain, id_, Outcome.UNDECIDED)
            elif found.seats == 3:
                _to_referees(chain, id_, 5)
            else:
                _enter(chain, id_, Phase.ARBITRATING, ARBITER_S)


# What others do, each in a block of its own


def concede(chain: FakeChain, id_: int) -> None:
    assert chain.state.disputes[id_].phase is Phase.ANSWERING
    _close(chain, id_, Outcome.CONCEDED)
    chain.seal()


def answer(chain: FakeChain, id_: int, evidence: bytes) -> None:
    assert chain.state.disputes[id_].phase is Phase.ANSWERING
    chain.state.disputes[id_] = replace(chain.state.disputes[id_], answered=True)
    chain.emit("disputes", "Answered", id=id_, evidence=evidence)
    _to_referees(chain, id_, 3)
    chain.seal()


def rule(chain: FakeChain, id_: int, referee: int, *, guilty: bool) -> None:
    found = chain.state.disputes[id_]
    assert found.phase is Phase.RULING
    assert referee in found.referees
    assert referee not in (*found.guilty, *found.clear)
    side = "guilty" if guilty else "clear"
    found = replace(found, **{side: (*getattr(found, side), referee)})  # type: ignore[arg-type]
    chain.state.disputes[id_] = found
    chain.emit("disputes", "Ruled", id=id_, referee=referee, guilty=guilty)
    if len(getattr(found, side)) >= _quorum(found.seats):
        _close(chain, id_, Outcome.FOUND_GUILTY if guilty else Outcome.FOUND_CLEAR)
    chain.seal()


def _open_refusal(chain: FakeChain, call: OpenDisputeCall) -> str:
    stake = chain.state.providers.get(call.provider)
    if call.renter.lower() not in chain.state.accounts:
        return f"NotOpen(renter={call.renter})"
    if not _signed_by_its_machine(chain, call):
        return f"NotItsWork(provider={call.provider})"
    if any((one.provider, one.work) == (call.provider, call.work) for one in chain.state.disputes.values()):
        return f"AlreadyDisputed(provider={call.provider})"
    if stake is None or stake.free_usd_micros < call.amount_usd_micros:
        return f"StakeTooLow(provider={call.provider})"
    needed = bond(call.amount_usd_micros)
    if chain.state.allowed < needed:
        return "ERC20InsufficientAllowance()"
    have = chain.state.tokens.get(chain.operator.address.lower(), 0)
    return "" if have >= needed else "ERC20InsufficientBalance()"


def _signed_by_its_machine(chain: FakeChain, call: OpenDisputeCall) -> bool:
    typed = call.work.record.typed()
    signer = recover(chain.info.registry_domain, SEGMENT_RECORD_TYPE, typed, call.work.signature)
    return signer == chain.state.providers[call.provider].node_key


def _open(chain: FakeChain, call: OpenDisputeCall) -> None:
    id_, taken = len(chain.state.disputes) + 1, bond(call.amount_usd_micros)
    evidence = bytes.fromhex(call.evidence)
    chain.state.disputes[id_] = Dispute(
        call.provider, call.renter, call.amount_usd_micros, taken, evidence, call.work, Phase.NONE, deadline_s=0
    )
    _enter(chain, id_, Phase.ANSWERING, ANSWER_S)
    chain.state.tokens[chain.operator.address.lower()] -= taken
    parties = {"provider": call.provider, "challenger": chain.info.challenger_payee, "renter": call.renter}
    chain.emit("disputes", "Opened", id=id_, **parties, amount=call.amount_usd_micros, evidence=evidence)
    _lock(chain, call.provider, call.amount_usd_micros)


def _enter(chain: FakeChain, id_: int, phase: Phase, time_s: int) -> None:
    deadline_s = int(chain.clock()) + time_s
    chain.state.disputes[id_] = replace(chain.state.disputes[id_], phase=phase, deadline_s=deadline_s)
    chain.emit("disputes", "Entered", id=id_, phase=phase.value, deadline=deadline_s)


def _to_referees(chain: FakeChain, id_: int, seats: int) -> None:
    fresh = {"seats": seats, "draw_block": len(chain.blocks) + 2, "referees": (), "guilty": (), "clear": ()}
    chain.state.disputes[id_] = replace(chain.state.disputes[id_], **fresh)  # type: ignore[arg-type]
    _enter(chain, id_, Phase.RULING, RULING_S)


def _draw(chain: FakeChain, id_: int) -> None:
    found = chain.state.disputes[id_]
    others = [one for one in chain.state.seats if one != found.provider]
    referees = tuple(others[: found.seats])
    chain.state.disputes[id_] = replace(found, referees=referees)
    chain.emit("disputes", "Drawn", id=id_, referees=referees)
    if len(referees) < _quorum(found.seats):
        _enter(chain, id_, Phase.ARBITRATING, ARBITER_S)


def _quorum(seats: int) -> int:
    return (2 * seats + 2) // 3


def _close(chain: FakeChain, id_: int, outcome: Outcome) -> None:
    found = replace(chain.state.disputes[id_], phase=Phase.CLOSED)
    chain.state.disputes[id_] = found
    _lock(chain, found.provider, -found.amount)
    us, slashed = chain.info.challenger_payee, 0
    if outcome is Outcome.UNDECIDED:
        chain.award(us, found.bond)
        chain.award(found.provider, found.bond)
    elif outcome is Outcome.FOUND_CLEAR:
        _pay_bonds(chain, found.provider, found.bond, found.bond, found.clear)
    else:
        _pay_bonds(chain, us, found.bond, found.bond if found.answered else 0, found.guilty)
        slashed = _slash(chain, found)
    chain.emit("disputes", "Closed", id=id_, outcome=outcome.value, slashed=slashed)


def _pay_bonds(chain: FakeChain, party: int, own: int, lost: int, judges: tuple[int, ...]) -> None:
    each = lost // 2 // len(judges) if judges else 0
    chain.award(party, own + lost - each * len(judges))
    for judge in judges:
        chain.award(judge, each)


def _slash(chain: FakeChain, found: Dispute) -> int:
    stake = chain.state.providers[found.provider]
    total = min(found.amount, stake.bonded_usd_micros + stake.unbonding_usd_micros)
    bonded = max(0, stake.bonded_usd_micros - total)
    unbonding = stake.unbonding_usd_micros - (total - (stake.bonded_usd_micros - bonded))
    chain.state.providers[found.provider] = replace(
        stake,
        bonded_usd_micros=bonded,
        unbonding_usd_micros=unbonding,
        active=bonded >= chain.minimum_bond_usd_micros,
    )
    chain.emit("registry", "Slashed", provider=found.provider, amount=total, evidence=found.evidence)
    each = total * 15 // 100 // len(found.guilty) if found.guilty else 0
    parts: list[tuple[str | int, int]] = [(found.renter, total // 2), (chain.info.challenger_payee, total * 15 // 100)]
    parts += [(judge, each) for judge in found.guilty]
    rest = total - sum(part for _, part in parts)
    for to, part in (*parts, (0, rest)):  # here the treasury's payee is the commons', too
        chain.award(to, part)
    chain.state.slashes.append((found.provider, total))
    return total


def _lock(chain: FakeChain, provider: int, amount: int) -> None:
    stake = chain.state.providers[provider]
    locked = stake.locked_usd_micros + amount
    chain.state.providers[provider] = replace(stake, locked_usd_micros=locked)
    chain.emit("registry", "Locked", provider=provider, locked=locked)
