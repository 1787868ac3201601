"""Runs a renter's own program. It can't be checked step by step, only by running all of it again."""

import ast
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from gristmill_protocol.jobs import DataStats, Hosts, Plan
from gristmill_trainer.data import DataView
from gristmill_trainer.findings import Finding
from gristmill_trainer.recipe import (
    STATE_EXTRA_BYTES,
    Gpu,
    RecipeInfo,
    RecipeSettings,
    Report,
    level,
    parse_settings,
)

MAIN = "train.py"
OUT = "out"


class Settings(RecipeSettings):
    """What can be set."""

    minutes: int = Field(10, ge=1, le=1_440, title="Time limit in minutes", json_schema_extra=level("everyone"))
    memory_gib: int = Field(2, ge=1, le=1_024, title="Memory it needs, in GiB", json_schema_extra=level("expert"))
    network: Hosts = Field((), title="Hosts it reaches by https", json_schema_extra=level("expert"))


class Script:
    """The planning side; see train.py for how it is run."""

    info = RecipeInfo(
        id="script",
        version="1.0.0",
        titles={"en": "Run a program of mine", "de": "Ein eigenes Programm ausführen"},
        summary="Runs your train.py on your files, with no network but the hosts you name, and brings back out/.",
        task="other",
        inputs=f"A folder, or a zip of one, with {MAIN} and the files that it reads.",
        answers=f"The files that {MAIN} wrote into {OUT}/.",
        licence="Apache-2.0",
        authors=("Gristmill",),
        royalty_bps=0,
        verifier_bps=0,  # who runs it again is paid like who runs it first
        whole=True,
    )
    Settings: type[BaseModel] = Settings
    program = "gristmill_trainer.recipes.script.train"

    def check(self, data: DataView) -> Report:
        """See that there is a program that Python can read, and room for its results."""
        sizes = {example.place: len(example.content) for example in data}
        findings = []
        if MAIN not in sizes:
            findings.append(_missing(list(sizes)))
        elif (wrong := _syntax_error(data)) is not None:
            findings.append(wrong)
        if any(place.partition("/")[0] == OUT for place in sizes):
            sentence = f"The folder has an {OUT!r} already, where results are written."
            findings.append(Finding("error", sentence, place=OUT, fix="Rename it, or take it out."))
        return Report(tuple(findings), DataStats(examples=len(sizes), size_bytes=sum(sizes.values())), {})

    def plan(self, settings: Mapping[str, Any], stats: DataStats, gpu: Gpu) -> Plan:
        """One step, which takes the whole time limit on any machine: nobody knows how long a program runs."""
        resolved = parse_settings(Settings, settings)
        limit_s = 60 * resolved.minutes
        return Plan(
            settings=resolved.model_dump(mode="json"),
            steps=1,
            segment_steps=1,
            window_segments=1,
            flops=limit_s * gpu.flops_per_s,
            peak_bytes=resolved.memory_gib * 1024**3,
            state_bytes=STATE_EXTRA_BYTES,
            download_bytes=stats.size_bytes,
            network=resolved.network,
            limit_s=limit_s,
        )


def _missing(places: list[str]) -> Finding:
    inside = [place.removesuffix(MAIN) for place in places if place.endswith(f"/{MAIN}")]
    fix = f"Bring {inside[0]!r} itself." if inside else f"Name your program {MAIN}."
    return Finding("error", f"There is no {MAIN} at the top.", fix=fix)


def _syntax_error(data: DataView) -> Finding | None:
    source = next(example.content for example in data if example.place == MAIN)
    try:
        ast.parse(source)
    except (SyntaxError, ValueError) as err:  # ValueError: it holds null bytes
        return Finding("error", f"Python cannot read {MAIN}: {err}.", place=MAIN, fix="Run it here once, then again.")
    return None


recipe = Script()
