"""A process of its own that looks at people's examples: what they hold may be hostile, or far too much.

It reads an Asked from stdin and writes a Seen to stdout.
"""

import base64
import resource
import sys
from pathlib import Path

from pydantic import Field

from gristmill_protocol.errors import GristmillError, Problem
from gristmill_protocol.jobs import ArtifactRef, DataStats, Message
from gristmill_trainer import catalog
from gristmill_trainer.data import DataView, Example
from gristmill_trainer.look import Look, Sample, look, repair, sample, shown
from gristmill_trainer.recipe import Recipe

MEMORY_BYTES = 4 * 1024**3
CPU_S = 600


class Asked(Message):
    """What to look at."""

    path: str
    goal: str  # a recipe's id
    places: tuple[str, ...] = ()  # only these examples are to be shown; then nothing else counts
    alone: bool = False  # the path is that of a single example, to be shown
    roles: dict[str, str] = Field(default_factory=dict)
    repairs: tuple[str, ...] = ()  # to be made first
    mended: str = ""  # where the mended copy goes
    packed: str = ""  # where the packed examples go, if they can be learnt from


class SampleView(Message):
    place: str
    text: str = ""
    picture: str = ""  # PNG in base64


class FindingView(Message):
    level: str  # "error": nothing can be learnt like this; "warning", "note"
    sentence: str
    place: str = ""
    effect: str = ""
    fix: str = ""
    repair: str = ""  # id of what a click does
    button: str = ""  # what the click says


class RoleView(Message):
    """A part that some column has to play."""

    name: str
    column: str  # guessed or confirmed; "": nobody can tell
    confidence: float
    candidates: dict[str, tuple[str, ...]]  # column -> its first values


class LookView(Message):
    """What is shown of a data set."""

    answers: dict[str, int]
    samples: dict[str, tuple[SampleView, ...]]
    findings: tuple[FindingView, ...]
    roles: tuple[RoleView, ...]
    stats: DataStats
    usable: bool


class Seen(Message):
    """What came out: a look, or why there is none."""

    look: LookView | None = None
    data: ArtifactRef | None = None  # of the packed examples
    samples: tuple[SampleView, ...] = ()  # the places that were asked for
    problem: Problem | None = None


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    asked = Asked.model_validate_json(sys.stdin.buffer.read())
    try:
        seen = see(asked)
    except GristmillError as err:
        seen = Seen(problem=err.problem())
    sys.stdout.buffer.write(seen.model_dump_json().encode())


def see(asked: Asked) -> Seen:
    """Mend, look and pack.

    Raises:
        BadData, TooLarge, BadRequest, NoSpace: there is nothing to be seen.
    """
    recipe, path, roles = catalog.find(asked.goal), Path(asked.path), asked.roles
    if asked.alone:
        one = sample(Example(path.name, "", path.read_bytes()))
        return Seen(samples=() if one is None else (_sample(one),))
    if asked.places:
        return Seen(samples=tuple(map(_sample, shown(DataView.open(path, plain=recipe.info.whole), asked.places))))
    if asked.repairs:
        Path(asked.mended).parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(asked.mended).with_suffix(".new.zip")
        path = repair(path, asked.repairs, fresh, recipe=recipe, roles=roles).replace(asked.mended)
        roles = {}
    seen = look(path, recipe, roles=roles)
    data = _pack(path, recipe, roles, Path(asked.packed)) if seen.usable else None
    return Seen(look=_view(seen), data=data)


def _pack(path: Path, recipe: Recipe, roles: dict[str, str], packed: Path) -> ArtifactRef:
    packed.parent.mkdir(parents=True, exist_ok=True)
    view = DataView.open(
        path, text_column=roles.get("text"), answer_column=roles.get("answer"), plain=recipe.info.whole
    )
    return view.pack(packed)


def _view(seen: Look) -> LookView:
    return LookView(
        answers=seen.answers,
        samples={answer: tuple(map(_sample, samples)) for answer, samples in seen.samples.items()},
        findings=tuple(
            FindingView(
                level=one.level,
                sentence=one.sentence,
                place=one.place,
                effect=one.effect,
                fix=one.fix,
                repair=one.repair.id if one.repair else "",
                button=one.repair.button if one.repair else "",
            )
            for one in seen.findings
        ),
        roles=tuple(
            RoleView(name=one.name, column=one.column, confidence=one.confidence, candidates=dict(one.candidates))
            for one in seen.roles
        ),
        stats=seen.report.stats,
        usable=seen.usable,
    )


def _sample(one: Sample) -> SampleView:
    return SampleView(place=one.place, text=one.text, picture=base64.b64encode(one.picture).decode())


if __name__ == "__main__":
    main()
