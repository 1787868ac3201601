"""`gristmill-node earnings`: what was earned, what is still to come, and what is at stake."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

import typer
from web3 import Web3

from gristmill_contracts.ledger import Ledger
from gristmill_contracts.registry import Registry
from gristmill_protocol.money import format_usd
from gristmill_provider.config import NodeConfig
from gristmill_provider.direct import Standing, chain_of, survey
from gristmill_provider.exit_codes import ExitCode, ends_as
from gristmill_provider.owner import Market
from gristmill_provider.payables import Payable
from gristmill_provider.payday import open_journal

# Not settled, and may still be.
_WAITING = (Standing.READY, Standing.EARLY, Standing.UNFUNDED)


@dataclass(frozen=True)
class Earnings:
    """Micro-USD; None where only the chain knows it.

    Args:
        jobs: with accepted work that is not settled, as far as is known.
        pending_gross_usd_micros: that work, before fee and shares.
        pending_usd_micros: what of it we are left with.
        earned_usd_micros: settled to date: collected and credit.
    """

    provider_id: int
    jobs: int
    pending_gross_usd_micros: int
    pending_usd_micros: int | None = None
    earned_usd_micros: int | None = None
    collected_usd_micros: int | None = None
    credit_usd_micros: int | None = None
    bonded_usd_micros: int | None = None


def show_earnings(config: NodeConfig, *, as_json: bool) -> None:
    """Say what the journal knows, and what the chain does if a node of it is named.

    Raises:
        NodeEnded: with the exit code that says what is in the way.
    """
    with closing(open_journal(config)) as journal:
        markets, owed = journal.markets(), journal.owed()
    found = Earnings(config.provider_id, len(owed), _gross(owed))
    if config.rpc_url and markets:
        with ends_as(ExitCode.CHAIN), chain_of(markets, config.rpc_url) as w3:
            found = _on_chain(w3, config.provider_id, markets, owed)
    typer.echo(json.dumps(asdict(found)) if as_json else "\n".join(_lines(found, markets)))


def _on_chain(w3: Web3, provider: int, markets: Sequence[Market], owed: Sequence[Payable]) -> Earnings:
    chain_id = w3.eth.chain_id
    here = [market for market in markets if market.ledger.chain_id == chain_id]
    ledgers = [Ledger(w3, address) for address in sorted({market.ledger.contract for market in here})]
    registries = [Registry(w3, address) for address in sorted({market.registry.contract for market in here})]
    claims = survey(w3, [payable for payable in owed if payable.ledger.chain_id == chain_id])
    waiting = [claim for claim in claims if claim.standing in _WAITING]
    credit = sum(ledger.payee(provider).credit_usd_micros for ledger in ledgers)
    collected = sum(ledger.collected_total(provider) for ledger in ledgers)
    return Earnings(
        provider,
        len(waiting),
        _gross([claim.payable for claim in waiting]),
        pending_usd_micros=sum(claim.net_usd_micros for claim in waiting),
        earned_usd_micros=collected + credit,
        collected_usd_micros=collected,
        credit_usd_micros=credit,
        bonded_usd_micros=sum(registry.stake(provider).bonded_usd_micros for registry in registries),
    )


def _gross(owed: Iterable[Payable]) -> int:
    return sum(payable.share_usd_micros for payable in owed)


def _lines(found: Earnings, markets: Sequence[Market]) -> Iterator[str]:
    jobs = f"{found.jobs} job{'s' * (found.jobs != 1)}"
    if found.pending_usd_micros is None:
        gross = format_usd(found.pending_gross_usd_micros)
        yield f"Pending    {gross} USD  before fee and shares, for accepted work of {jobs}, unless it is paid already"
        chains = " or ".join(sorted({str(market.ledger.chain_id) for market in markets}))
        if chains:
            yield f"What was earned and collected, and the bond, are on chain {chains}: name a node of it with --rpc."
        else:
            yield "This node has not met a coordinator yet, so it does not know where it is paid."
        return
    shown = (
        ("Earned", found.earned_usd_micros, "settled to date"),
        ("Collected", found.collected_usd_micros, "of it, paid out"),
        ("Credit", found.credit_usd_micros, "of it, to be collected"),
        ("Pending", found.pending_usd_micros, f"yours of accepted work that is not settled, {jobs}"),
        ("Bond", found.bonded_usd_micros, "at stake"),
    )
    for name, amount, meaning in shown:
        yield f"{name:<10} {format_usd(amount or 0)} USD  {meaning}"
