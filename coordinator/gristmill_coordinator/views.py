"""What a renter sees of jobs, accounts and the market. Reads only; a renter sees only its own jobs.

A renter is named by the lower-case 0x address of its hot key.
"""

from gristmill_coordinator.app import Coordinator
from gristmill_protocol.api import AccountView, OfferView
from gristmill_protocol.jobs import JobEvent, JobView


async def job(co: Coordinator, renter: str, job_id: str) -> JobView:
    """Raises:
    NotFound: no such job of this renter.
    """
    raise NotImplementedError


async def jobs(co: Coordinator, renter: str) -> list[JobView]:
    """The renter's jobs, newest first."""
    raise NotImplementedError


async def events(co: Coordinator, renter: str, job_id: str, after: int, wait_s: float = 0) -> list[JobEvent]:
    """The job's events with seq > after, oldest first, at most 500; waits up to wait_s for the first one.

    Raises:
        NotFound: no such job of this renter.
    """
    raise NotImplementedError


async def account(co: Coordinator, renter: str) -> AccountView:
    """The renter's money. Raises ChainUnavailable."""
    raise NotImplementedError


async def market(co: Coordinator) -> list[OfferView]:
    """What the connected machines offer, cheapest ask first."""
    raise NotImplementedError
