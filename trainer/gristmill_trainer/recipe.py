"""What a recipe is to those who plan and price it: metadata, settings, a look at the data, a plan. Torch-free.

The training itself is in the recipe's program (gristmill_trainer.program), which only the trainer process imports.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gristmill_protocol.errors import BadData, BadSettings
from gristmill_protocol.grid import Grid
from gristmill_protocol.jobs import DataStats, Message, Plan
from gristmill_protocol.modes import Numerics
from gristmill_trainer.data import DataView
from gristmill_trainer.files import NOTHING_CHARGED
from gristmill_trainer.findings import Finding

CPU_FLOPS_PER_S = 50_000_000_000  # one core of a recent desktop, where a machine has not been measured
STEP_OVERHEAD_FLOPS = 170_000_000  # what a step costs before its first multiplication, in the same coin
BASE_BYTES = 500_000_000  # of a process with torch in it
STATE_EXTRA_BYTES = 20_000  # of a state file besides its parameters and their two moments
HELD_OUT = 0.2  # of each answer's examples, to measure on
SHORT_JOB_SEGMENTS = 32
SHORT_JOB_STATES_BYTES = 128 * 1024 * 1024  # of all its boundary states, which are uploaded
MIN_SEGMENTS = 8
SEGMENT_S = 90
END_PART = 8  # so much shorter than the others are the first and the last segment
WINDOW_S = 3_600


class Needs(Message):
    """What a recipe asks of the machine beyond its inputs."""

    network: tuple[str, ...] = ()  # host names it must reach while it trains; none for most
    remote_code: bool = False  # runs code that is downloaded with a model


class RecipeInfo(Message):
    """A recipe's card in the gallery and its terms of payment."""

    id: str = Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")
    version: str
    titles: dict[str, str]  # language code -> title; "en" is always there
    summary: str  # what it does, in one sentence
    task: str  # e.g. "image-classification", as model hubs name it
    inputs: str  # what to bring, in one sentence
    answers: str  # what the finished model gives, in one sentence
    licence: str
    authors: tuple[str, ...]
    base_models: dict[str, str] = Field(default_factory=dict)  # name -> licence
    royalty_bps: int = Field(default=300, ge=0, le=500)
    verifier_bps: int = Field(default=600, ge=0, le=2_000)
    needs: Needs = Needs()
    numerics: Numerics = Numerics.ADAM_FP32
    whole: bool = False  # its data are plain files, its job is one step: checked by doing all of it again, or not


@dataclass(frozen=True)
class Gpu:
    """The machine a plan is for. The plan's steps and settings never depend on it, only how they are cut."""

    memory_bytes: int = 0  # 0: not known
    flops_per_s: int = CPU_FLOPS_PER_S  # as measured by the trainer's probe
    is_cpu: bool = True


@dataclass(frozen=True)
class Report:
    """What a recipe sees in a data set."""

    findings: tuple[Finding, ...]
    stats: DataStats
    roles: dict[str, str]  # e.g. {"text": "body", "answer": "topic"}: which column plays which part

    def raise_if_unusable(self) -> None:
        """Pass when no finding is an error.

        Raises:
            BadData: with the first error, and all of them in details.
        """
        errors = [finding for finding in self.findings if finding.level == "error"]
        if not errors:
            return
        more = f" ({len(errors) - 1} more problems were found.)" if len(errors) > 1 else ""
        raise BadData(
            errors[0].sentence + more,
            effect=" ".join(part for part in (errors[0].effect, NOTHING_CHARGED) if part),
            todo=errors[0].fix,
            findings=[finding.sentence for finding in errors],
            place=errors[0].place,
        )


class Recipe(Protocol):
    """A training program as planning sees it; packages offer theirs in the entry-point group gristmill.recipes."""

    @property
    def info(self) -> RecipeInfo: ...

    @property
    def Settings(self) -> type[BaseModel]: ...

    @property
    def program(self) -> str:
        """Dotted name of the module that trains; see gristmill_trainer.program.Program."""
        ...

    def check(self, data: DataView) -> Report:
        """Read every example and report on it; bad examples are findings, not exceptions."""
        ...

    def plan(self, settings: Mapping[str, Any], stats: DataStats, gpu: Gpu) -> Plan:
        """Resolve the settings and say what the job takes: pure, fast, the same everywhere.

        Raises:
            BadSettings: a setting is unknown or out of range.
            BadData: these data cannot be trained on.
        """
        ...


def report_on(recipe: Recipe, data: DataView) -> Report:
    """All that is noticed in a data set: when it was opened, and by the recipe."""
    report = recipe.check(data)
    # What was read the wrong way says nothing yet about the examples.
    misread = any(finding.level == "error" for finding in data.noticed)
    return Report(data.noticed if misread else (*data.noticed, *report.findings), report.stats, report.roles)


class RecipeSettings(BaseModel):
    """Base of a recipe's settings: unknown names are refused, so a typing error never trains the wrong thing."""

    model_config = ConfigDict(frozen=True, extra="forbid")


SettingsT = TypeVar("SettingsT", bound=BaseModel)


def parse_settings(model: type[SettingsT], settings: Mapping[str, Any]) -> SettingsT:
    """The settings as the recipe's model.

    Raises:
        BadSettings: naming each setting that is wrong and why.
    """
    try:
        return model.model_validate(dict(settings))
    except ValidationError as err:
        wrong = [f"{'.'.join(map(str, issue['loc'])) or 'settings'}: {issue['msg']}" for issue in err.errors()]
        raise BadSettings(
            f"A setting is not right: {'; '.join(wrong)}.",
            effect="Nothing was started or charged.",
            todo=f"This recipe knows the settings {', '.join(model.model_fields)}.",
            settings=wrong,
        ) from err


def level(name: Literal["everyone", "expert"]) -> dict[str, Any]:
    """json_schema_extra of a settings field: who is shown it."""
    return {"level": name}


def learnt(stats: DataStats) -> int:
    """How many of the examples are learnt from; the others are held out."""
    return sum(count - held_out(count) for count in stats.answers.values())


def held_out(count: int) -> int:
    """How many of an answer's examples are kept to measure on: a fifth, at least one, never all."""
    return min(max(1, round(count * HELD_OUT)), count - 1)


class Cut(TypedDict):
    """The fields of a plan that say how its job is cut."""

    segment_steps: int
    end_steps: int
    window_segments: int


def cut(*, steps: int, flops: int, state_bytes: int, gpu: Gpu) -> Cut:
    """Steps of a segment, of the first and the last one, and segments of a window.

    A short job is one window of about 32 segments, so that there is something to watch and to draw from, or fewer when
    its states are large; a long one has segments of 90 s and windows of an hour. The first and the last segment are
    always run again, so they are short.
    """
    seconds = flops / max(gpu.flops_per_s, 1)
    affordable = max(MIN_SEGMENTS, min(SHORT_JOB_SEGMENTS, SHORT_JOB_STATES_BYTES // state_bytes))
    between = max(affordable - 2, round(seconds / SEGMENT_S))
    segment_steps = -(-steps // between)
    end_steps = max(1, segment_steps // END_PART)
    whole = len(Grid(steps, segment_steps, end_steps))
    window = whole if seconds <= WINDOW_S else WINDOW_S // SEGMENT_S
    return Cut(segment_steps=segment_steps, end_steps=end_steps, window_segments=window)
