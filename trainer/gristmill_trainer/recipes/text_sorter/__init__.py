"""Text sorter: pieces of words and pairs of words, hashed into a table of learnt vectors; needs no base model."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field

from gristmill_protocol.errors import BadData
from gristmill_protocol.jobs import DataStats, Plan
from gristmill_trainer.checks import Repeats, answer_findings
from gristmill_trainer.data import DataView, Example
from gristmill_trainer.findings import Finding, leave_out, left_out
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

MAX_CHARS = 4_000  # of a text; what comes later is not read
_FEATURE_BYTES = 16  # of a feature while training: its number and its weight
_FEATURES_PER_CHAR = 3.2
_READING_FLOPS = 60_000  # to find the features of one character, once


@dataclass(frozen=True)
class _Effort:
    """What a quality stands for."""

    buckets: int
    width: int
    seen: int  # texts looked at in all, copies counted
    rounds: int  # but at least this often each


_EFFORTS = {
    "quick": _Effort(buckets=4_096, width=16, seen=10_000, rounds=3),
    "balanced": _Effort(buckets=16_384, width=32, seen=40_000, rounds=6),
    "best": _Effort(buckets=32_768, width=48, seen=80_000, rounds=12),
}


class Settings(RecipeSettings):
    """What a renter may choose; what is left empty, the plan fills in."""

    quality: Literal["quick", "balanced", "best"] = Field(
        "balanced",
        title="How good should it get?",
        description="It decides what is not chosen by hand.",
        json_schema_extra=level("everyone"),
    )
    rounds: int | None = Field(
        None,
        ge=1,
        le=10_000,
        title="Passes over the data",
        description="How often every text is read.",
        json_schema_extra=level("expert"),
    )
    batch: int | None = Field(
        None,
        ge=2,
        le=4_096,
        title="Texts a step",
        description="How many texts are read before the model is corrected.",
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
        title="Numbers per piece of text",
        description="More of them tell finer differences, and take longer.",
        json_schema_extra=level("expert"),
    )
    buckets: int | None = Field(
        None,
        ge=256,
        le=2**20,
        title="Pieces of text told apart",
        description="How many pieces of words and pairs of words have numbers of their own.",
        json_schema_extra=level("expert"),
    )


class TextSorter:
    """The planning side; see train.py for the model and its training."""

    info = RecipeInfo(
        id="text-sorter",
        version="1.0.0",
        titles={"en": "Sort texts", "de": "Texte sortieren"},
        summary="Learns to sort texts, such as mails or reviews, into the kinds you have given them.",
        task="text-classification",
        inputs="A table (CSV, TSV, JSON Lines, XLSX) with a column of texts and one of answers, or one folder of .txt "
        "files per answer.",
        answers="For a text, its kind and how sure the model is.",
        licence="Apache-2.0",
        authors=("Gristmill",),
    )
    Settings: type[BaseModel] = Settings
    program = "gristmill_trainer.recipes.text_sorter.train"

    def check(self, data: DataView) -> Report:
        """Read every text; count answers, copies and contradictions."""
        seen = _Seen()
        for example in data:
            seen.add(example)
        return Report(tuple(seen.findings()), seen.stats(), data.roles or {"text": "file", "answer": "folder"})

    def plan(self, settings: Mapping[str, Any], stats: DataStats, gpu: Gpu) -> Plan:
        """Resolve the settings by the texts' number and length; the machine decides only how the job is cut."""
        if stats.shape or len(stats.answers) < 2:
            raise BadData(
                "These data are no texts with two or more answers.",
                effect="Nothing was started or charged.",
                todo=self.info.inputs,
            )
        resolved = _resolve(parse_settings(Settings, settings), stats)
        steps = max(1, resolved["rounds"] * learnt(stats) // resolved["batch"])
        chars = min(MAX_CHARS, stats.size_bytes // max(stats.examples, 1) + 1)
        table = resolved["buckets"] * resolved["width"]
        params = table + (resolved["width"] + 1) * len(stats.answers)
        gathered = round(resolved["batch"] * chars * _FEATURES_PER_CHAR) * resolved["width"]
        flops = steps * step_flops(table, gathered) + stats.examples * chars * _READING_FLOPS
        state_bytes = 12 * params + STATE_EXTRA_BYTES
        features_bytes = round(stats.examples * chars * _FEATURES_PER_CHAR * _FEATURE_BYTES)
        return Plan(
            settings=resolved,
            steps=steps,
            **cut(steps=steps, flops=flops, state_bytes=state_bytes, gpu=gpu),
            flops=flops,
            peak_bytes=BASE_BYTES + 20 * params + features_bytes + 2 * stats.size_bytes,
            state_bytes=state_bytes,
            download_bytes=stats.size_bytes,
        )


def step_flops(table: int, gathered: int) -> int:
    """What a step costs. It moves memory more than it multiplies: each byte moved is counted as some flops.

    Fitted on one core to the three qualities: within 20 % of the time measured.

    Args:
        table: numbers in the table of vectors; the optimizer reads or writes seven numbers for each.
        gathered: numbers of the vectors that a batch looks up; three for each.
    """
    return 7 * 4 * 7 * table + 3 * 4 * 3 * gathered + STEP_OVERHEAD_FLOPS * 2 // 3


def _resolve(chosen: Settings, stats: DataStats) -> dict[str, Any]:
    """Every setting with its value."""
    effort = _EFFORTS[chosen.quality]
    by_plan = {
        "rounds": max(effort.rounds, -(-effort.seen // max(stats.examples, 1))),
        "batch": 32 if stats.examples < 5_000 else 64 if stats.examples < 50_000 else 128,
        "learning_rate": 0.01,
        "width": effort.width,
        "buckets": effort.buckets,
    }
    return by_plan | chosen.model_dump(exclude_none=True)


class _Seen:
    """What check() notices, text by text."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = defaultdict(list)  # answer -> its texts
        self._size_bytes = 0
        self._unreadable: list[str] = []
        self._empty: list[str] = []
        self._repeats = Repeats()

    def add(self, example: Example) -> None:
        try:
            text = example.content.decode("utf-8-sig")
        except UnicodeDecodeError:
            self._unreadable.append(example.place)
            return
        if not text.strip():
            self._empty.append(example.place)
            return
        self._places[example.answer].append(example.place)
        self._size_bytes += len(example.content)
        self._repeats.add(example)

    def stats(self) -> DataStats:
        answers = {answer: len(places) for answer, places in sorted(self._places.items())}
        return DataStats(examples=sum(answers.values()), answers=answers, size_bytes=self._size_bytes)

    def findings(self) -> list[Finding]:
        found = []
        if self._unreadable:
            place = self._unreadable[0]
            count = f" (files like that: {len(self._unreadable)})" if len(self._unreadable) > 1 else ""
            sentence = f"{place!r} is not a plain text{count}."
            fix = "Save it as plain text (UTF-8), or leave it out."
            repair = leave_out("unreadable", self._unreadable) if self._places else None
            found.append(Finding("error", sentence, place=place, fix=fix, repair=repair))
        found += answer_findings(self.stats().answers, self._places)
        return found + left_out(self._empty, "nothing in it", repair="empty") + self._repeats.findings()


recipe = TextSorter()
