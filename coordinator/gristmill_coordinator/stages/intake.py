"""Stage 1, intake: a firm price, a signed order, a reservation; and the renter's stop."""

from gristmill_coordinator.app import Coordinator
from gristmill_protocol.jobs import JobSpec, JobSubmission, JobView, Quote


async def quote(co: Coordinator, renter: str, spec: JobSpec) -> Quote:
    """A firm total price for a job, on the machine with the lowest expected total.

    Raises:
        UnknownRecipe, BadSettings, BadData: as the recipe finds.
        NoOfferFits: no machine can do it; details["excluded"] says why.
        BudgetBelowQuote: the cheapest machine costs more than the budget.
    """
    raise NotImplementedError


async def submit(co: Coordinator, renter: str, submission: JobSubmission) -> JobView:
    """Take an order; the same request_id again gives the same job.

    Raises:
        QuoteExpired, BadSignature, BalanceBelowCap, BadRequest, BadData: nothing was started or reserved.
        Conflict: the request id was used for another order.
    """
    raise NotImplementedError


async def stop(co: Coordinator, renter: str, job_id: str) -> JobView:
    """Ask a job to end; work that is already proven is paid. Stopping an ended job changes nothing.

    Raises:
        NotFound: no such job of this renter.
    """
    raise NotImplementedError
