"""Train AI on other people's idle GPUs, and be sure the work was really done.

    import gristmill as gm

    job = gm.train("image-sorter", data="photos/", budget="0.50")
    print(job.plan)
    print(job.watch().result())
    job.download("model/")

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import Path

    from gristmill._client import Client
    from gristmill._job import Job
    from gristmill._money import DepositPlan
    from gristmill._plan import Plan
    from gristmill_protocol.errors import (
        BadData,
        BadRequest,
        BadSettings,
        BadSignature,
        BalanceBelowCap,
        BudgetBelowQuote,
        ChainUnavailable,
        Conflict,
        GristmillError,
        JobFailed,
        MissingPart,
        NoOfferFits,
        NoSpace,
        NotAllowed,
        NotFinished,
        NotFound,
        NotSignedIn,
        PortInUse,
        QuoteExpired,
        RefusedToSign,
        TooLarge,
        Unavailable,
        UnknownRecipe,
        WrongHash,
        WrongKey,
    )
    from gristmill_protocol.jobs import JobState
    from gristmill_protocol.wallet import Movement

__all__ = [
    "BadData",
    "BadRequest",
    "BadSettings",
    "BadSignature",
    "BalanceBelowCap",
    "BudgetBelowQuote",
    "ChainUnavailable",
    "Client",
    "Conflict",
    "DepositPlan",
    "GristmillError",
    "Job",
    "JobFailed",
    "JobState",
    "MissingPart",
    "Movement",
    "NoOfferFits",
    "NoSpace",
    "NotAllowed",
    "NotFinished",
    "NotFound",
    "NotSignedIn",
    "Plan",
    "PortInUse",
    "QuoteExpired",
    "RefusedToSign",
    "TooLarge",
    "Unavailable",
    "UnknownRecipe",
    "WrongHash",
    "WrongKey",
    "job",
    "jobs",
    "plan",
    "train",
]

_HOMES = {
    "Client": "gristmill._client",
    "DepositPlan": "gristmill._money",
    "Job": "gristmill._job",
    "JobState": "gristmill_protocol.jobs",
    "Movement": "gristmill_protocol.wallet",
    "Plan": "gristmill._plan",
}
_ERRORS = "gristmill_protocol.errors"


def plan(
    recipe: str,
    *,
    data: "str | Path",
    quality: str = "balanced",
    budget: "str | float | Decimal | None" = None,
    name: str = "",
    client: "Client | None" = None,
    **settings: Any,
) -> "Plan":
    """Look at the data and get a firm price; nothing is uploaded, ordered or charged. See Client.plan."""
    return (client or _default_client()).plan(
        recipe, data=data, quality=quality, budget=budget, name=name, **settings
    )  # fmt: skip


def train(
    recipe: str,
    *,
    data: "str | Path",
    budget: "str | float | Decimal",
    quality: str = "balanced",
    name: str = "",
    client: "Client | None" = None,
    **settings: Any,
) -> "Job":
    """Order a job that costs at most budget USD; see Client.plan for what may go wrong before anything is charged."""
    return plan(recipe, data=data, quality=quality, budget=budget, name=name, client=client, **settings).start()


def job(job_id: str, *, client: "Client | None" = None) -> "Job":
    """A job by its id, from any process. Raises NotFound."""
    return (client or _default_client()).job(job_id)


def jobs(*, client: "Client | None" = None) -> "list[Job]":
    """The configured key's jobs, newest first."""
    return (client or _default_client()).jobs()


def _default_client() -> "Client":
    from gristmill._client import default_client

    return default_client()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, _ERRORS)), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
