"""Stage 6, settlement: the statement that pays exactly the accepted work, settled once, and the bill."""

from gristmill_coordinator.app import Coordinator
from gristmill_protocol.jobs import JobView, SignedStatement


async def add_statement(co: Coordinator, renter: str, job_id: str, signed: SignedStatement) -> JobView:
    """Take the statement that the job's signature_wanted asked for; the same again changes nothing.

    Raises:
        NotFound: no such job of this renter.
        BadSignature: the renter's key did not sign it.
        Conflict: this is not the statement that was asked for.
    """
    raise NotImplementedError
