"""The trainer process: run, replay, evaluate, probe, challenge, export: events on stdout, logs on stderr.

predict gives one answer a line: of what it is given, or else of what comes on stdin. This module loads torch late:
first the environment is pinned and SIGTERM is caught.
"""

import argparse
import contextlib
import errno
import json
import logging
import signal
import sys
from base64 import b64decode
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from gristmill_protocol.errors import BadData, BadSettings, GristmillError, NoSpace, NotFound, Unavailable
from gristmill_protocol.progress import EXIT_PREEMPTED, Failed, TrainerEvent
from gristmill_trainer import catalog
from gristmill_trainer.environment import pin_environment

if TYPE_CHECKING:
    from gristmill_trainer.program import Prediction

logger = logging.getLogger("gristmill_trainer")


def main(argv: Sequence[str] | None = None) -> int:
    """Do one command and return the process's exit code.

    0 done · 75 asked to leave, saved · 2 data or settings are bad, any machine would fail · 1 anything else.
    """
    arguments = _arguments(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    pin_environment()
    out = sys.stdout
    # A recipe's stray print must not end up among the events.
    with contextlib.redirect_stdout(sys.stderr), _SigTerm() as sigterm:
        try:
            return _do(arguments, out, sigterm)
        except Exception as err:
            if not isinstance(err, GristmillError):
                logger.exception("trainer_failed")
            failure = _fail(out, err)
            return 2 if isinstance(failure, BadData | BadSettings) else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    summary = argparse.ArgumentParser(prog="python -m gristmill_trainer", description=__doc__)
    commands = ("run", "replay", "evaluate", "probe", "challenge", "export", "predict")
    summary.add_argument("command", choices=commands)
    summary.add_argument("arguments", nargs=argparse.REMAINDER)
    chosen = summary.parse_args(argv)
    parser = argparse.ArgumentParser(prog=f"python -m gristmill_trainer {chosen.command}")
    match chosen.command:
        case "run" | "replay" | "evaluate":
            parser.add_argument("task_dir", type=Path, help="holds task.json and input/; out/ is written")
        case "probe":
            parser.add_argument("--threads", type=int, default=1, help="of one operation; tasks say how many they use")
        case "challenge":
            parser.add_argument("task_dir", type=Path, help="holds challenge.json; the rest comes into its input/")
        case "export":
            parser.add_argument("task_dir", type=Path, help="its start state is what is exported")
            parser.add_argument("model_dir", type=Path, help="is written")
        case "predict":
            parser.add_argument("model_dir", type=Path, help="a finished model")
            parser.add_argument("files", type=Path, nargs="*")
            parser.add_argument("--text", action="append", default=[], help="a text itself instead of a file with it")
            parser.add_argument("--memory", type=int, default=0, help="bytes that it may take; 0: any number")
    # Only this kind of parsing lets --text stand between the folder and the files.
    return parser.parse_intermixed_args(chosen.arguments, argparse.Namespace(command=chosen.command))


class _SigTerm:
    """Remembers that the process was asked to end; callable as the run's stop_requested."""

    def __init__(self) -> None:
        self._came = False

    def __enter__(self) -> "_SigTerm":
        self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def __call__(self) -> bool:
        return self._came

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self._came = True


def _do(arguments: argparse.Namespace, out: TextIO, sigterm: _SigTerm) -> int:
    from gristmill_trainer import challenge, conformance, session
    from gristmill_trainer.determinism import pin
    from gristmill_trainer.engine import Preempted
    from gristmill_trainer.way_out import open_way_out

    if arguments.command in ("run", "replay", "evaluate"):
        open_way_out(arguments.task_dir)
    try:
        match arguments.command:
            case "run":
                session.run(arguments.task_dir, lambda event: _write(out, event), sigterm)
            case "replay":
                session.replay(arguments.task_dir, lambda event: _write(out, event), sigterm)
            case "evaluate":
                session.evaluate(arguments.task_dir, lambda event: _write(out, event))
            case "probe":
                _write(out, conformance.probe(pin(arguments.threads), threads=arguments.threads))
            case "challenge":
                challenge.answer(arguments.task_dir, pin(1), lambda event: _write(out, event))
            case "export":
                session.export(arguments.task_dir, arguments.model_dir)
            case "predict":
                _predict(arguments, out)
    except Preempted:
        return EXIT_PREEMPTED
    return 0


def _predict(arguments: argparse.Namespace, out: TextIO) -> None:
    from gristmill_trainer import result, session
    from gristmill_trainer.determinism import pin

    pin(1)
    recipe_id, model = result.read(arguments.model_dir)
    program = session.program_of(catalog.find(recipe_id))
    _limit_memory(arguments.memory)
    contents = [*_contents(arguments.files), *((text, text.encode()) for text in arguments.text)]
    for prediction in program.predict(model, contents):
        _answer(out, prediction)
    if contents:
        return
    for line in sys.stdin:
        question = json.loads(line)
        try:
            for prediction in program.predict(model, [(question["file"], b64decode(question["content"]))]):
                _answer(out, prediction)
        except GristmillError as err:
            _fail(out, err)
        except MemoryError:
            what, todo = f"{question['file']!r} takes more memory than there is.", "Ask it something smaller."
            _fail(out, Unavailable(what, effect="It gave no answer.", todo=todo))


def _limit_memory(limit_bytes: int) -> None:
    """Let the process fail, and not the machine, when an input would take too much."""
    if limit_bytes and sys.platform == "linux":
        import resource

        # Of address space a CUDA build reserves far more than it uses; this counts what can be written to.
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def _answer(out: TextIO, prediction: "Prediction") -> None:
    answer = {"file": prediction.file, "answer": prediction.answer, "confidence": round(prediction.confidence, 4)}
    out.write(json.dumps(answer, ensure_ascii=False) + "\n")
    out.flush()


def _contents(files: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for file in files:
        try:
            yield str(file), file.read_bytes()
        except OSError as err:
            what = f"{str(file)!r} cannot be read: {err.strerror}."
            raise NotFound(what, effect="Nothing was predicted.", todo="Check the path.") from err


def _write(out: TextIO, event: TrainerEvent) -> None:
    out.write(event.model_dump_json() + "\n")
    out.flush()


def _fail(out: TextIO, err: Exception) -> GristmillError:
    failure = _failure(err)
    _write(out, Failed(code=failure.code, what=failure.what, effect=failure.effect, todo=failure.todo))
    return failure


def _failure(err: Exception) -> GristmillError:
    """The error as it is told to people."""
    if isinstance(err, GristmillError):
        return err
    if isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(
            "The disk is full.",
            effect="The training stopped; finished segments are safe.",
            todo="Free some space, or run the job on another machine.",
        )
    # torch.OutOfMemoryError on a graphics card; without one, its allocator raises a plain RuntimeError.
    if isinstance(err, MemoryError) or "out of memory" in str(err) or "can't allocate memory" in str(err):
        return Unavailable(
            "The machine's memory is too small for this job.",
            effect="The training stopped; finished segments are safe.",
            todo="Run it on a machine with more memory, or choose a smaller batch.",
        )
    return GristmillError(
        f"The trainer failed: {type(err).__name__}: {err}.",
        effect="The training stopped; finished segments are safe.",
        todo="Report this with the log.",
    )


if __name__ == "__main__":
    sys.exit(main())
