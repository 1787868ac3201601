"""Jobs that wait for their payment: what the stages before settlement leave in the store."""

from collections.abc import Sequence

import sqlalchemy as sa
from eth_account.signers.local import LocalAccount

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.domain.jobs import JobReason
from gristmill_coordinator.stages.settlement import statement_key
from gristmill_coordinator.store import jobs as job_rows
from gristmill_coordinator.store.store import Row
from gristmill_coordinator.store.tables import certificates, jobs
from gristmill_protocol.jobs import SignedStatement, Statement, StatementLine
from gristmill_protocol.signing import STATEMENT_TYPE, Domain, sign, statement_message

FAR = 2**39


def sign_statement(key: LocalAccount, domain: Domain, statement: Statement) -> SignedStatement:
    return SignedStatement(
        statement=statement, signature=sign(key, domain, STATEMENT_TYPE, statement_message(statement))
    )


async def hold_job(
    co: Coordinator,
    renter: LocalAccount,
    line: StatementLine,
    *,
    nonce: int,
    deadline_s: int = FAR,
    rungs: Sequence[int] = (),
) -> str:
    """A job whose renter has signed the statement that pays it, and rungs of smaller totals; its id."""
    job_id = f"job_{renter.address[2:10].lower()}_{nonce}"
    domain = co.chain.info.ledger_domain
    statement = Statement(nonce=nonce, deadline_s=deadline_s, lines=(line,))
    smaller = [line.model_copy(update={"amount_usd_micros": amount}) for amount in rungs]
    ladder = [statement.model_copy(update={"lines": (one,)}) for one in smaller]
    values = {
        "job_id": job_id, "renter": renter.address.lower(), "request_id": job_id, "quote_id": job_id, "recipe": "text",
        "spec": {}, "quote": {}, "order": {}, "nonce": nonce, "cap_usd_micros": line.amount_usd_micros, "steps": 1,
        "created_s": co.clock(), "reason": JobReason.STATEMENT_HELD, "statement_id": statement_key(statement),
    }  # fmt: skip
    async with co.store.write() as tx:
        await tx.run(sa.insert(jobs).values(**values))
        # Nobody trained it, so there is nothing to certify.
        await tx.run(sa.insert(certificates).values(job_id=job_id, signatures={}, unsigned={}, issued=True))
        for one in (statement, *ladder):
            await job_rows.hold(tx, job_id, sign_statement(renter, domain, one))
    return job_id


async def job(co: Coordinator, job_id: str) -> Row:
    async with co.store.read() as tx:
        row = await tx.row(sa.select(jobs).where(jobs.c.job_id == job_id))
    assert row is not None
    return row
