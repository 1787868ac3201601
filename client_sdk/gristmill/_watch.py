"""A job on the screen: bars in a terminal, plain lines in notebooks, pipes and log files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from gristmill._job import News
from gristmill_protocol.jobs import JobEvent, JobView
from gristmill_protocol.wording import printable, usd

_QUIET = ("progress", "segment")  # the bars tell these
_LINE_EVERY_PERCENT = 10

Show = Callable[[News], None]


@contextmanager
def display(console: Console | None = None) -> Iterator[Show]:
    """What to call with each piece of news."""
    console = console or Console(force_jupyter=False)  # notebooks show plain text as it comes, and keep it when saved
    if not console.is_terminal or console.is_jupyter:
        yield _Lines(console)
        return
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=console
    )
    with progress:
        yield _Bars(progress)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown_percent = 0
        self._trouble = ""

    def __call__(self, news: News) -> None:
        for event in news.events:
            if event.kind not in _QUIET:
                self._console.print(_line(event))
        if news.trouble and news.trouble != self._trouble:
            self._console.print(Text(printable(news.trouble)))
        self._trouble = news.trouble
        if news.view is not None:
            self._percent(news.view)

    def _percent(self, view: JobView) -> None:
        percent = 100 * view.steps_done // view.steps_total
        if percent >= self._shown_percent + _LINE_EVERY_PERCENT:
            self._shown_percent = percent
            self._console.print(Text(f"{percent} % trained, {100 * view.steps_accepted // view.steps_total} % checked"))


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: tuple[TaskID, TaskID] | None = None

    def __call__(self, news: News) -> None:
        for event in news.events:
            if event.kind not in _QUIET:
                self._progress.console.print(_line(event))
        if news.view is None:
            self._progress.console.print(Text(printable(news.trouble), style="yellow"))
            return
        view = news.view
        if self._tasks is None:
            total = view.steps_total
            self._tasks = (self._progress.add_task("", total=total), self._progress.add_task("", total=total))
        trained, checked = self._tasks
        self._progress.update(trained, completed=view.steps_done, description=f"Trained  ({view.state.value})")
        spent = usd(view.price_usd_micros * view.steps_accepted // view.steps_total)
        self._progress.update(checked, completed=view.steps_accepted, description=f"Checked  ({spent})")


def _line(event: JobEvent) -> Text:
    return Text(printable(event.text))
