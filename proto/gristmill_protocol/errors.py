"""Every error that crosses a part's border: what happened, its effect, what to do next.

GristmillError
├── BadRequest            the input itself is wrong
│   ├── UnknownRecipe · BadSettings · BadData · WrongHash · TooLarge
│   ├── BadSignature · WrongKey
│   └── BudgetBelowQuote · BalanceBelowCap
├── NotSignedIn · NotAllowed · NotFound
├── Conflict              right input, wrong moment
│   └── QuoteExpired · NoOfferFits · NotFinished
├── JobFailed             the job ended without a result
├── RefusedToSign         the other side asked for more than was agreed
└── Unavailable           a part cannot be reached or lacks what it needs
    └── PortInUse · NoSpace · ChainUnavailable · MissingPart
"""

from typing import ClassVar

from pydantic import BaseModel


class Problem(BaseModel):
    """Wire form of an error: RFC 9457's idea with our three sentences."""

    code: str
    what: str
    effect: str = ""
    todo: str = ""
    details: dict[str, object] = {}


class GristmillError(Exception):
    """An error a person can act on.

    Args:
        what: what happened, one sentence.
        effect: what it means for the person (nothing was charged, nothing was written).
        todo: what to do next.
        details: values for programs, JSON types only.
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, effect: str = "", todo: str = "", **details: object) -> None:
        super().__init__(" ".join(part for part in (what, effect, todo) if part))
        self.what = what
        self.effect = effect
        self.todo = todo
        self.details = details

    def problem(self) -> Problem:
        return Problem(code=self.code, what=self.what, effect=self.effect, todo=self.todo, details=self.details)

    @staticmethod
    def from_problem(problem: Problem) -> "GristmillError":
        """The exception a Problem was made from; a code this version does not know gives the base class."""
        cls = _by_code(GristmillError).get(problem.code, GristmillError)
        error = cls(problem.what, effect=problem.effect, todo=problem.todo)
        error.details = problem.details  # not as keywords: a detail may be called "what"
        return error


def _by_code(root: type[GristmillError]) -> dict[str, type[GristmillError]]:
    found = {root.code: root}
    for sub in root.__subclasses__():
        found |= _by_code(sub)
    return found


class BadRequest(GristmillError):
    code = "bad_request"
    exit_code = 2


class UnknownRecipe(BadRequest):
    code = "unknown_recipe"


class BadSettings(BadRequest):
    code = "bad_settings"


class BadData(BadRequest):
    code = "bad_data"


class WrongHash(BadRequest):
    code = "wrong_hash"


class TooLarge(BadRequest):
    code = "too_large"


class BadSignature(BadRequest):
    code = "bad_signature"


class WrongKey(BadRequest):
    code = "wrong_key"


class BudgetBelowQuote(BadRequest):
    code = "budget_below_quote"


class BalanceBelowCap(BadRequest):
    code = "balance_below_cap"


class NotSignedIn(GristmillError):
    code = "not_signed_in"
    exit_code = 3


class NotAllowed(GristmillError):
    code = "not_allowed"
    exit_code = 3


class NotFound(GristmillError):
    code = "not_found"
    exit_code = 4


class Conflict(GristmillError):
    code = "conflict"
    exit_code = 5


class QuoteExpired(Conflict):
    code = "quote_expired"


class NoOfferFits(Conflict):
    """No offer meets the job's needs; details["excluded"] maps each requirement to the offers it excluded."""

    code = "no_offer_fits"


class NotFinished(Conflict):
    code = "not_finished"


class JobFailed(GristmillError):
    code = "job_failed"
    exit_code = 6


class RefusedToSign(GristmillError):
    code = "refused_to_sign"
    exit_code = 8


class Unavailable(GristmillError):
    code = "unavailable"
    exit_code = 7


class PortInUse(Unavailable):
    code = "port_in_use"


class NoSpace(Unavailable):
    code = "no_space"


class ChainUnavailable(Unavailable):
    code = "chain_unavailable"


class MissingPart(Unavailable):
    code = "missing_part"
