"""What somebody is shown of the data that they brought: counts, examples, what is wrong, and what a click can mend.

A look reads everything and decodes every picture, so it belongs in a process or a thread of its own. Torch-free.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gristmill_protocol.errors import BadData, BadRequest
from gristmill_protocol.jobs import DataStats
from gristmill_trainer import findings, pictures
from gristmill_trainer.data import DataView, Example
from gristmill_trainer.files import NOTHING_CHARGED
from gristmill_trainer.findings import Finding
from gristmill_trainer.recipe import Recipe, Report, report_on
from gristmill_trainer.records import nameless
from gristmill_trainer.tables import Role

SAMPLES = 4  # of each answer
SAMPLED_ANSWERS = 60
TEXT_CHARS = 200
THUMBNAIL_PIXELS = 96


@dataclass(frozen=True)
class Sample:
    """One example as it is shown: a small picture, or the beginning of a text."""

    place: str
    answer: str
    picture: bytes = b""  # a PNG of at most 96 x 96 pixels
    text: str = ""


@dataclass(frozen=True)
class Look:
    """A data set at a glance."""

    report: Report
    answers: dict[str, int]  # usable examples of each, by name
    samples: dict[str, tuple[Sample, ...]]  # the first few of each answer; of the first 60 answers
    roles: tuple[Role, ...]  # of a table: which column plays which part, to be confirmed; empty for files

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was noticed, errors first."""
        ranks = ("error", "warning", "note")
        return tuple(sorted(self.report.findings, key=lambda finding: ranks.index(finding.level)))

    @property
    def usable(self) -> bool:
        """Whether a job can be ordered with these data as they are."""
        return not any(finding.level == "error" for finding in self.report.findings)


def look(path: str | Path, recipe: Recipe, *, roles: Mapping[str, str] | None = None) -> Look:
    """Everything there is to say about the data at a path before a job is ordered with it.

    Args:
        roles: part -> column, as somebody confirmed them, such as {"text": "body", "answer": "topic"}.
    Raises:
        BadData: nothing can be read there.
        TooLarge: more than is read.
    """
    try:
        data = _opened(path, recipe, roles)
    except BadData as err:
        if "columns" not in err.details:
            raise
        return _undecided(err)
    report = report_on(recipe, data)
    samples = _samples(data)
    return Look(report, report.stats.answers or data.answers, samples, data.guesses)


def repair(
    path: str | Path,
    repairs: Collection[str],
    dest: str | Path,
    *,
    recipe: Recipe,
    roles: Mapping[str, str] | None = None,
) -> Path:
    """Write a copy of the data with these repairs made, and return where it is; the original is left as it is.

    The copy is a file that look() and DataView.open() read; its columns are called "text" and "answer". Rows that
    could not be read are not in it.

    Args:
        repairs: ids of repairs that a look at these data offers.
    Raises:
        BadRequest: one of them is not offered (any more).
        NoSpace: the copy could not be written.
    """
    ways = [one for one in repairs if one in (findings.ENCODING, findings.HEADER)]
    seen = look(path, recipe, roles=roles)
    offered = {one.repair.id: one.repair for one in seen.findings if one.repair}
    unknown = [one for one in repairs if one not in offered]
    if unknown:
        raise BadRequest(
            f"These data need no repair {unknown[0]!r}.", effect="Nothing was changed.", todo="Look at the data again."
        )
    data = _opened(path, recipe, _nameless(seen.roles) if findings.HEADER in ways else roles, ways)
    chosen = [offered[one] for one in repairs]
    renames = {old: new for one in chosen for old, new in one.renames.items()}
    data.pack(dest, leaves_out=frozenset().union(*(one.leaves_out for one in chosen)), renames=renames)
    return Path(dest)


def shown(data: DataView, places: Iterable[str]) -> list[Sample]:
    """The examples at these places as they are shown, in this order; those that are not there are passed over."""
    wanted = dict.fromkeys(places)
    found = {example.place: sample(example) for example in data.at(wanted)}
    return [seen for place in wanted if (seen := found.get(place)) is not None]


def sample(example: Example) -> Sample | None:
    """One example as it is shown; None for a picture that cannot be read."""
    if not pictures.is_picture(example.place):
        text = " ".join(example.content[: 8 * TEXT_CHARS].decode("utf-8-sig", errors="replace").split())
        return Sample(example.place, example.answer, text=text if len(text) <= TEXT_CHARS else text[:TEXT_CHARS] + "…")
    try:
        small = pictures.thumbnail(example.content, side=THUMBNAIL_PIXELS)
    except pictures.NotAPicture:
        return None
    return Sample(example.place, example.answer, picture=small)


def _opened(
    path: str | Path, recipe: Recipe, roles: Mapping[str, str] | None, repairs: Collection[str] = ()
) -> DataView:
    chosen = roles or {}
    return DataView.open(
        path,
        text_column=chosen.get("text"),
        answer_column=chosen.get("answer"),
        plain=recipe.info.whole,
        repairs=repairs,
    )


def _nameless(roles: Iterable[Role]) -> dict[str, str]:
    """The same columns, as they are called where no line names them."""
    return {role.name: nameless(list(role.candidates).index(role.column) + 1) for role in roles}


def _undecided(err: BadData) -> Look:
    """A table whose columns somebody has to choose."""
    candidates = {column: tuple(values) for column, values in dict(err.details["columns"]).items()}  # type: ignore[call-overload]
    finding = Finding(
        "error", err.what, effect=NOTHING_CHARGED, fix="Choose the column of the texts and that of the answers."
    )
    roles = tuple(Role(name, "", 0.0, candidates) for name in ("text", "answer"))
    return Look(Report((finding,), DataStats(examples=0), {}), {}, {}, roles)


def _samples(data: DataView) -> dict[str, tuple[Sample, ...]]:
    found: dict[str, list[Sample]] = defaultdict(list)
    for example in data.at(data.first(SAMPLES, answers=SAMPLED_ANSWERS)):
        seen = sample(example)
        if seen is not None:
            found[seen.answer].append(seen)
    return {answer: tuple(samples) for answer, samples in found.items()}
