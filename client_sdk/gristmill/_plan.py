"""A plan: what a job will take and cost at most, before anything is ordered."""

import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gristmill._wording import about
from gristmill_protocol.errors import Conflict
from gristmill_protocol.jobs import ArtifactRef, JobSpec, Quote
from gristmill_protocol.wording import counted, usd
from gristmill_trainer.data import DataView

if TYPE_CHECKING:
    from gristmill._job import Job


@dataclass(frozen=True)
class Plan:
    """A firm price for one job.

    Args:
        spec: what was asked for.
        quote: what the coordinator offers; it has been checked against the spec.
        remarks: what is worth knowing about the data, in sentences.
    """

    spec: JobSpec
    quote: Quote
    remarks: tuple[str, ...] = ()
    _start: "Callable[[Plan], Job] | None" = field(default=None, repr=False, compare=False)

    @property
    def price_usd_micros(self) -> int:
        """What the whole job costs on the machine it is quoted for."""
        return self.quote.price_usd_micros

    @property
    def cap_usd_micros(self) -> int:
        """The most it can cost, whatever happens."""
        return self.quote.cap_usd_micros

    def start(self) -> "Job":
        """Order the job; its data are uploaded now. Starting the same plan again gives the same job.

        Raises:
            QuoteExpired: too late; plan again.
            BalanceBelowCap: the account cannot cover the cap.
            Conflict: this is the plan of a job, read back from its record.
        """
        if self._start is None:
            raise Conflict("This plan is already a job.", todo="Plan again to order another one.")
        return self._start(self)

    def __str__(self) -> str:
        answers = len(self.spec.stats.answers)
        learns = counted(self.spec.stats.examples, "example") + (f", {counted(answers, 'answer')}" if answers else "")
        seconds = self.quote.candidates[0].expected_seconds
        return f"About {about(seconds)}, at most {usd(self.cap_usd_micros)}; {learns}"


class Parcel:
    """A data set packed into one file, which is gone when nobody needs it any more."""

    def __init__(self, data: DataView) -> None:
        folder = tempfile.mkdtemp(prefix="gristmill-")
        # Before packing, so that a failure leaves nothing behind either.
        self._cleanup = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.path = Path(folder) / "data"
        self.ref: ArtifactRef = data.pack(self.path)
