"""A training program without training: it speaks like gristmill_trainer, and its states are functions of seed and step.

settings: steps are done at once, or take "step_s" each; "hold_at": wait there for SIGTERM; "fail_at": say so and exit
with 2; "crash_at": exit with 9 without a word; "babble_at": print what is no event; "ignore_sigterm": hold for good;
"lingers": stay after the end until SIGTERM; "boasts": of a file that is not there.
"""

import json
import signal
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

NUMERIC_CLASS = sha256(b"fake class").hexdigest()
FLOPS_PER_S = 1_000_000_000
SCORECARD = {"right": 97}


def state_root(seed: int, step: int) -> str:
    return sha256(f"state {seed} {step}".encode()).hexdigest()


def state_file(seed: int, step: int) -> bytes:
    return json.dumps({"seed": seed, "step": step}).encode()


def digest(name: str, step_from: int, step_to: int) -> str:
    return sha256(f"{name} {step_from} {step_to}".encode()).hexdigest()


def say(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


class Trainer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.task = json.loads((folder / "task.json").read_text())
        self.settings = self.task["settings"]
        self.seed = self.task["seed"]
        # As gristmill_protocol.grid has it, which is not in every image that this runs in.
        steps, ends = self.task["steps"], self.task["end_steps"]
        self.ends = {*range(ends, steps - ends, self.task["segment_steps"]), max(ends, steps - ends), steps}
        self.begun = self.task["step_from"]
        self.index = self.task["segment_index"]
        for part in ("states", "result"):
            (folder / "out" / part).mkdir(exist_ok=True)
        assert (folder / "input" / "data").is_file()
        if self.task["state"] is not None:
            held = (folder / "input" / "state.safetensors").read_bytes()
            assert held == state_file(self.seed, self.begun)

    def run(self) -> NoReturn:
        say("started", numeric_class=NUMERIC_CLASS, state_root=state_root(self.seed, self.begun), step=self.begun)
        for step in range(self.begun, self.task["steps"]):
            self.misbehave(step)
            time.sleep(self.settings.get("step_s", 0))
            say("progress", step=step + 1, metrics={"loss": 1 / (step + 1)})
            if step + 1 in self.ends:
                self.close(step + 1)
        files = self.hand_over()
        step = self.task["steps"]
        say("finished", step=step, state_root=state_root(self.seed, step), scorecard=SCORECARD, files=files)
        if self.settings.get("lingers"):
            signal.sigwait({signal.SIGTERM})
        sys.exit(0)

    def hand_over(self) -> dict[str, str]:
        (self.folder / "out" / "result" / "model.txt").write_bytes(b"a model")
        boast = {"report.txt": "0" * 64} if self.settings.get("boasts") else {}
        return {"model.txt": sha256(b"a model").hexdigest(), **boast}

    def misbehave(self, step: int) -> None:
        if step == self.settings.get("fail_at"):
            say("failed", code="bad_data", what="A picture is broken.", effect="Nothing was trained.", todo="Mend it.")
            sys.exit(2)
        if step == self.settings.get("crash_at"):
            sys.stderr.write("out of luck\n")
            sys.exit(9)
        if step == self.settings.get("babble_at"):
            sys.stdout.write("hello\n")
            sys.stdout.flush()
        if step == self.settings.get("hold_at"):
            self.hold(step)

    def hold(self, step: int) -> NoReturn:
        signal.sigwait({signal.SIGTERM})
        if self.settings.get("ignore_sigterm"):
            while True:
                signal.sigwait({signal.SIGTERM})
        if step > self.begun:
            self.close(step)
        say("stopped", step=step)
        sys.exit(75)

    def close(self, step: int) -> None:
        name = f"out/states/{self.index}.safetensors"
        content = state_file(self.seed, step)
        (self.folder / name).write_bytes(content)
        say(
            "segment",
            index=self.index,
            step_from=self.begun,
            step_to=step,
            state_root_prev=state_root(self.seed, self.begun),
            state_root=state_root(self.seed, step),
            data_root=digest("data", self.begun, step),
            metrics_root=digest("metrics", self.begun, step),
            micro_root=digest("micro", self.begun, step),
            started_ms=1000 * self.begun,
            ended_ms=1000 * step,
            state_file=name,
            state_sha256=sha256(content).hexdigest(),
        )
        self.begun, self.index = step, self.index + 1

    def evaluate(self) -> NoReturn:
        assert [path.name for path in (self.folder / "input" / "model").iterdir()] == list(self.task["model"])
        say("evaluated", correct=9, examples=10)
        sys.exit(0)

    def replay(self) -> NoReturn:
        if "hold_at" in self.settings:
            signal.pause()
        end = self.task["step_to"]
        kept: dict[str, Any] = {}
        if self.task["keep_state"]:
            kept["state"] = self.keep(str(self.index), end)
            kept["start"] = self.keep("start", self.begun) if self.task["state"] is None else None
        if end == self.task["steps"]:
            kept["files"] = self.hand_over()
            kept["scorecard_sha256"] = sha256(b'{"right":97}').hexdigest()
        say(
            "replayed",
            step_from=self.begun,
            step_to=end,
            state_root_prev=state_root(self.seed, self.begun),
            state_root=state_root(self.seed, end),
            data_root=digest("data", self.begun, end),
            metrics_root=digest("metrics", self.begun, end),
            **kept,
            step_roots=[state_root(self.seed, step + 1) for step in range(self.begun, end) if self.task["step_roots"]],
        )
        sys.exit(0)

    def keep(self, name: str, step: int) -> dict[str, Any]:
        content = state_file(self.seed, step)
        (self.folder / "out" / "states" / f"{name}.safetensors").write_bytes(content)
        return {"sha256": sha256(content).hexdigest(), "size_bytes": len(content)}


def challenge(folder: Path) -> NoReturn:
    """Speaks as the real one, and computes nothing. sizes: "n": 16 fails, 24 waits for ever."""
    n = json.loads((folder / "challenge.json").read_text())["n"]
    say("challenge_ready")
    while not (folder / "input" / "seed").exists() or n == 24:
        time.sleep(0.01)
    if n == 16:
        say("failed", code="unavailable", what="The card's memory is too small.")
        sys.exit(1)
    seed = (folder / "input" / "seed").read_text()
    say("challenge_committed", commitment={"rounds": [seed], "sweeps": []})
    while not (folder / "input" / "draw.json").exists():
        time.sleep(0.01)
    assert json.loads((folder / "input" / "draw.json").read_text())["rounds"] == [0]
    say("challenge_opened", opening={"folds": [], "leaves": []})
    sys.exit(0)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if sys.argv[1] == "probe":
        say("probed", numeric_class=NUMERIC_CLASS, flops_per_s=FLOPS_PER_S)
        return
    if sys.argv[1] == "challenge":
        challenge(Path(sys.argv[2]))
        return
    trainer = Trainer(Path(sys.argv[2]))
    {"run": trainer.run, "replay": trainer.replay, "evaluate": trainer.evaluate}[sys.argv[1]]()


if __name__ == "__main__":
    main()
