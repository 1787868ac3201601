"""Image sorter: a small convolutional network that tells folders of pictures apart, trained from nothing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field

from gristmill_protocol.errors import BadData
from gristmill_protocol.jobs import DataStats, Plan
from gristmill_trainer.checks import Repeats, answer_findings
from gristmill_trainer.data import DataView, Example
from gristmill_trainer.findings import Finding, leave_out, left_out
from gristmill_trainer.pictures import Look, NotAPicture, is_picture, look
from gristmill_trainer.recipe import (
    BASE_BYTES,
    STATE_EXTRA_BYTES,
    STEP_OVERHEAD_FLOPS,
    Gpu,
    RecipeInfo,
    RecipeSettings,
    Report,
    cut,
    learnt,
    level,
    parse_settings,
)

_ACTIVATION_FLOPS = 250  # normalising and clipping one number, there and back
_READING_FLOPS = (6_000_000, 3_000)  # to decode a picture, once: for each, and for each of its bytes
_SIZES = (8, 12, 16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True)
class _Effort:
    """What a quality stands for."""

    largest: int  # side of a picture, pixels
    width: int  # channels of the first layer
    seen: int  # pictures looked at in all, copies counted
    rounds: int  # but at least this often each


_EFFORTS = {
    "quick": _Effort(largest=32, width=16, seen=12_000, rounds=3),
    "balanced": _Effort(largest=64, width=32, seen=60_000, rounds=10),
    "best": _Effort(largest=128, width=48, seen=150_000, rounds=25),
}


class Settings(RecipeSettings):
    """What a renter may choose; what is left empty, the plan fills in."""

    quality: Literal["quick", "balanced", "best"] = Field(
        "balanced",
        title="How good should it get?",
        description="It decides what is not chosen by hand.",
        json_schema_extra=level("everyone"),
    )
    mirror: bool = Field(
        False,
        title="A mirrored picture has the same answer",
        description="Then mirrored copies are learnt from, too.",
        json_schema_extra=level("everyone"),
    )
    rounds: int | None = Field(
        None,
        ge=1,
        le=10_000,
        title="Passes over the data",
        description="How often every picture is looked at.",
        json_schema_extra=level("expert"),
    )
    batch: int | None = Field(
        None,
        ge=2,
        le=4_096,
        title="Pictures a step",
        description="How many pictures are looked at before the model is corrected.",
        json_schema_extra=level("expert"),
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        title="Peak learning rate",
        description="How large a correction is at most.",
        json_schema_extra=level("expert"),
    )
    width: int | None = Field(
        None,
        ge=4,
        le=512,
        title="Channels of the first layer",
        description="More of them see finer differences, and take longer.",
        json_schema_extra=level("expert"),
    )
    size: int | None = Field(
        None,
        ge=8,
        le=256,
        title="Side of a picture, pixels",
        description="Every picture is brought to this size first.",
        json_schema_extra=level("expert"),
    )
    channels: Literal[1, 3] | None = Field(
        None,
        title="1 for grey, 3 for colour",
        description="Colour is left out where no picture has any.",
        json_schema_extra=level("expert"),
    )


class ImageSorter:
    """The planning side; see train.py for the network and its training."""

    info = RecipeInfo(
        id="image-sorter",
        version="1.0.0",
        titles={"en": "Sort pictures", "de": "Bilder sortieren"},
        summary="Learns to sort pictures the way you have sorted yours into folders.",
        task="image-classification",
        inputs="One folder per answer with pictures in it: PNG, JPEG, WebP, BMP, GIF or TIFF.",
        answers="For a picture, the folder it belongs to and how sure the model is.",
        licence="Apache-2.0",
        authors=("Gristmill",),
    )
    Settings: type[BaseModel] = Settings
    program = "gristmill_trainer.recipes.image_sorter.train"

    def check(self, data: DataView) -> Report:
        """Decode every picture; count answers, copies and contradictions."""
        seen = _Seen()
        if data.is_table:
            problem = Finding("error", f"{data.source!r} is a table, not pictures.", fix=self.info.inputs)
            return Report((problem,), DataStats(examples=0), {})
        for example in data:
            seen.add(example)
        return Report(tuple(seen.findings()), seen.stats(), {"picture": "file", "answer": "folder"})

    def plan(self, settings: Mapping[str, Any], stats: DataStats, gpu: Gpu) -> Plan:
        """Resolve the settings by the pictures' shape and number; the machine decides only how the job is cut."""
        if len(stats.shape) != 3 or len(stats.answers) < 2:
            raise BadData(
                "These data are no pictures with two or more answers.",
                effect="Nothing was started or charged.",
                todo=self.info.inputs,
            )
        chosen = parse_settings(Settings, settings)
        resolved = _resolve(chosen, stats)
        steps = max(1, resolved["rounds"] * learnt(stats) // resolved["batch"])
        layers = network(resolved["channels"], resolved["width"], resolved["size"])
        params = sum(layer.params for layer in layers) + (layers[-1].outputs + 1) * len(stats.answers)
        reading = stats.examples * _READING_FLOPS[0] + stats.size_bytes * _READING_FLOPS[1]
        flops = steps * step_flops(layers, resolved["batch"]) + reading
        state_bytes = 12 * params + STATE_EXTRA_BYTES
        pixels = resolved["channels"] * resolved["size"] ** 2
        activations = sum(layer.activations for layer in layers)
        return Plan(
            settings=resolved,
            steps=steps,
            **cut(steps=steps, flops=flops, state_bytes=state_bytes, gpu=gpu),
            flops=flops,
            peak_bytes=BASE_BYTES + 16 * params + 2 * stats.examples * pixels + 16 * activations * resolved["batch"],
            state_bytes=state_bytes,
            download_bytes=stats.size_bytes,
        )


@dataclass(frozen=True)
class Layer:
    """A 3x3 convolution with batch normalisation and ReLU."""

    inputs: int
    outputs: int
    stride: int
    side: int  # of its output

    @property
    def params(self) -> int:
        return 9 * self.inputs * self.outputs + 2 * self.outputs

    @property
    def flops(self) -> int:
        """Of one picture going forward."""
        return 2 * 9 * self.inputs * self.outputs * self.side**2

    @property
    def activations(self) -> int:
        return self.outputs * self.side**2


def network(channels: int, width: int, size: int) -> list[Layer]:
    """The network's layers: stages of two, each stage halving the side and doubling the channels, down to 4 pixels."""
    layers = [Layer(channels, width, 1, size), Layer(width, width, 1, size)]
    while layers[-1].side > 4:
        last = layers[-1]
        outputs, side = min(2 * last.outputs, 8 * width), (last.side + 1) // 2
        layers += [Layer(last.outputs, outputs, 2, side), Layer(outputs, outputs, 1, side)]
    return layers


def step_flops(layers: Sequence[Layer], batch: int) -> int:
    """What a step costs: forward and twice that backward, and what does not multiply, counted as multiplications.

    Fitted on one core to eight nets from 8 to 64 pixels and 16 to 48 channels: within 20 % of the time measured.
    """
    return (
        batch * sum(3 * layer.flops + _ACTIVATION_FLOPS * layer.activations for layer in layers) + STEP_OVERHEAD_FLOPS
    )


def _resolve(chosen: Settings, stats: DataStats) -> dict[str, Any]:
    """Every setting with its value."""
    effort = _EFFORTS[chosen.quality]
    channels, height, width = stats.shape
    side = min(max(height, width), effort.largest)
    batch = 32 if stats.examples < 5_000 else 64 if stats.examples < 50_000 else 128
    by_plan = {
        "rounds": max(effort.rounds, -(-effort.seen // max(stats.examples, 1))),
        "batch": batch,
        "learning_rate": 0.003,
        "width": effort.width,
        "size": next((size for size in _SIZES if size >= side), _SIZES[-1]),
        "channels": channels,
    }
    return by_plan | chosen.model_dump(exclude_none=True)


class _Seen:
    """What check() notices, picture by picture."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = defaultdict(list)  # answer -> its pictures
        self._looks: list[Look] = []
        self._size_bytes = 0
        self._unreadable: list[tuple[str, str]] = []  # (place, why)
        self._others: list[str] = []
        self._repeats = Repeats()

    def add(self, example: Example) -> None:
        if not is_picture(example.place):
            self._others.append(example.place)
            return
        try:
            self._looks.append(look(example.content))
        except NotAPicture as err:
            self._unreadable.append((example.place, str(err)))
            return
        self._places[example.answer].append(example.place)
        self._size_bytes += len(example.content)
        self._repeats.add(example)

    def stats(self) -> DataStats:
        return DataStats(
            examples=len(self._looks),
            answers={answer: len(places) for answer, places in sorted(self._places.items())},
            shape=self._shape(),
            size_bytes=self._size_bytes,
        )

    def findings(self) -> list[Finding]:
        found = []
        if self._unreadable:
            place, why = self._unreadable[0]
            count = f" (files like that: {len(self._unreadable)})" if len(self._unreadable) > 1 else ""
            sentence = f"{place!r} cannot be used: {why}{count}."
            gone = [place for place, _ in self._unreadable]
            repair = leave_out("unreadable", gone) if self._places else None
            fix = "Replace it, or leave it out."
            found.append(Finding("error", sentence, place=place, fix=fix, repair=repair))
        found += answer_findings(self.stats().answers, self._places)
        found += left_out(self._others, "a name that is not a picture's", repair="others")
        return found + self._repeats.findings()

    def _shape(self) -> tuple[int, ...]:
        if not self._looks:
            return ()
        middle = len(self._looks) // 2
        height = sorted(seen.height for seen in self._looks)[middle]
        width = sorted(seen.width for seen in self._looks)[middle]
        return max(seen.channels for seen in self._looks), height, width


recipe = ImageSorter()
