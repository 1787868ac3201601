"""A job, as its renter holds it: any time, from any process, by its id."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gristmill import _calls
from gristmill._plan import Plan
from gristmill_protocol.errors import JobFailed, NotFinished, NotFound, RefusedToSign, Unavailable
from gristmill_protocol.jobs import AuditView, Bill, JobEvent, JobState, JobView
from gristmill_protocol.renter_checks import check_statement
from gristmill_protocol.wording import usd

if TYPE_CHECKING:
    from rich.console import Console

    from gristmill._client import Client

_LONG_POLL_S = 20.0
_CERTIFICATE_S = 45.0
_PATIENCE_S = 900.0  # how long the coordinator may be away before waiting for it is given up


@dataclass(frozen=True)
class News:
    """What is new of a job; trouble is why nothing can be known just now."""

    view: JobView | None
    events: tuple[JobEvent, ...] = ()
    trouble: str = ""


class Job:
    """One job. Holding it costs nothing and dropping it stops nothing: `gristmill.job(id)` gives it back."""

    def __init__(self, client: "Client", job_id: str, view: JobView | None = None) -> None:
        self._client = client
        self._seen = view
        self.id = job_id

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def view(self) -> JobView:
        """Everything the coordinator says of the job, now."""
        self._seen = self._client.send(_calls.job(self.id))
        return self._seen

    @property
    def state(self) -> JobState:
        return self.view().state

    @property
    def plan(self) -> Plan | None:
        """What was agreed; None for a job that was ordered on another machine."""
        record = self._client.orders.load(self.id)
        return Plan(record.spec, record.quote) if record else None

    @property
    def audits(self) -> tuple[AuditView, ...]:
        """Every check of the work so far, in order."""
        return tuple(audit for window in self.view().windows for audit in window.audits)

    @property
    def bill(self) -> Bill | None:
        """Who was paid what; None until it is settled."""
        return self.view().bill

    def watch(self, console: "Console | None" = None) -> "Job":
        """Show the job until it ends: bars in a terminal, lines of text elsewhere. Interrupting it stops only the show.

        Raises:
            RefusedToSign: the coordinator asked for a signature that was not agreed on.
            Unavailable: the coordinator stayed away for 15 minutes.
        """
        from gristmill._watch import display

        with display(console) as show:
            for news in self.follow():
                show(news)
        return self

    def wait(self, timeout_s: float | None = None) -> "Job":
        """Return when the job has ended, well or not.

        Raises:
            NotFinished: not within timeout_s; it runs on.
            RefusedToSign, Unavailable: as watch().
        """
        until = None if timeout_s is None else self._client.clock() + timeout_s
        for news in self.follow(until=until):
            if news.view is not None and news.view.state.ended:
                return self
        raise NotFinished(
            f"The job has not finished within {timeout_s:g} s.", effect="It runs on.", todo="Wait again, or stop it."
        )

    def result(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The scorecard of the finished model; waits for it.

        Raises:
            JobFailed: it failed or was stopped.
            NotFinished, RefusedToSign, Unavailable: as wait().
        """
        self.wait(timeout_s)
        view = self._seen or self.view()
        if view.state is not JobState.DONE:
            raise failure(view)
        return view.scorecard or {}

    def download(self, dest: str | Path) -> Path:
        """Bring the model's files into a folder; hashes are checked, and nothing is left half-written.

        With them comes certificate.json, and its story in the model card. Where the coordinator does not give one
        within 45 seconds, the files are as the trainer made them; a later download brings it.

        Raises:
            NotFinished: there are no files yet.
            JobFailed: there will be none.
            WrongHash, NoSpace, Unavailable: the folder is as it was.
        """
        from gristmill._download import download
        from gristmill_protocol.model_card import attach

        view = self.view()
        if not view.state.ended:
            raise NotFinished(f"The job is still {view.state.value}.", todo="Wait until it is done.")
        if view.state is not JobState.DONE:
            raise failure(view)
        folder = download(view.outputs, Path(dest), self._client.fetch)
        with suppress(NotFound, NotFinished, Unavailable):
            file = self.certificate(timeout_s=_CERTIFICATE_S)
            attach(folder, file)
        return folder

    def certificate(self, timeout_s: float = 0) -> bytes:
        """The signed record of how the model came to be, a DSSE envelope; you may publish it.

        Raises:
            NotFound: the job has no result.
            NotFinished: it is not issued within timeout_s; the machines are asked to sign it first.
        """
        until = self._client.clock() + timeout_s
        while True:
            try:
                return self._client.send(_calls.certificate(self.id))
            except NotFinished:
                if self._client.clock() >= until:
                    raise
            self._client.pause(1.0)

    def logs(self, *, follow: bool = False) -> Iterator[JobEvent]:
        """The job's story so far; with follow, as it goes on until the job ends."""
        for news in self.follow(until=None if follow else 0):
            yield from news.events

    def stop(self) -> JobView:
        """End the job. Work that is proven is paid, the rest of the reservation is free again."""
        return self._client.send(_calls.stop(self.id))

    def follow(self, *, until: float | None = None) -> Iterator[News]:
        """What is new, as it comes, until the job has ended or the unix time `until` has passed; signs what it owes."""
        after, wait_s, heard_s = 0, 0.0, self._client.clock()
        while True:
            try:
                events = self._client.send(_calls.events(self.id, after=after, wait_s=wait_s)).events
                view = self._paid_for(self.view())
            except Unavailable as err:
                if self._client.clock() - heard_s > _PATIENCE_S or (
                    until is not None and self._client.clock() >= until
                ):
                    raise
                yield News(None, trouble=err.what)
                continue
            heard_s = self._client.clock()
            after = events[-1].seq if events else after
            yield News(view, events)
            if after >= view.last_event and (view.state.ended or (until is not None and heard_s >= until)):
                return
            wait_s = _LONG_POLL_S if until is None else min(_LONG_POLL_S, max(0.0, until - heard_s))

    def _paid_for(self, view: JobView) -> JobView:
        """The view after signing the statement that the job waits for, if it waits for one."""
        wanted = view.signature_wanted
        if wanted is None:
            return view
        record = self._client.orders.load(self.id)
        if record is None:
            raise RefusedToSign(
                "The job needs another signature, but it was not ordered on this machine.",
                effect="Nothing was signed; its result is kept back meanwhile.",
                todo="Watch it on the machine that ordered it.",
            )
        check_statement(wanted, record.quote, view)
        self._seen = self._client.add_statement(self.id, wanted, record)
        return self._seen


def failure(view: JobView) -> JobFailed:
    """Why a job has no result, as an error."""
    paid = usd(view.bill.paid_usd_micros if view.bill else 0)
    what = "was stopped" if view.state is JobState.STOPPED else "failed"
    return JobFailed(
        f"The job {what}: {view.reason}" if view.reason else f"The job {what}.",
        effect=f"{paid} was paid for the part that was verified.",
        todo="`gristmill logs` shows what happened.",
        job_id=view.job_id,
    )
