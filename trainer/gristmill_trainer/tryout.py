"""Put questions to finished models, in processes of their own: torch and hostile pictures stay out of the asker's.

Loading torch takes seconds, so a process stays ready for the next question. Torch-free.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ValidationError

from gristmill_protocol.errors import GristmillError, MissingPart, Problem, Unavailable
from gristmill_protocol.progress import Failed

_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "OMP_NUM_THREADS")
_ENDING_S = 5  # for a process to end that has closed its mouth
_LAST_WORDS = 2_000  # characters of a process's log that are kept


class Answer(BaseModel):
    """What a model says of one input."""

    file: str  # the input's name
    answer: str
    confidence: float


@dataclass(frozen=True)
class Limits:
    """What one model's process may take."""

    first_s: float = 60  # for the first answer; loading counts
    answer_s: float = 20  # for each later one
    memory_bytes: int = 3 * 1024**3  # on Linux; elsewhere it is not held


class Tryouts:
    """Finished models that are ready to be asked. May be used from several threads.

    Args:
        ready: how many models stay loaded; the one that was not asked for longest goes first.
    """

    def __init__(self, limits: Limits | None = None, *, ready: int = 2) -> None:
        self._limits = limits or Limits()
        self._ready = ready
        self._loaded: OrderedDict[Path, _Loaded] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, model_dir: Path, inputs: Iterable[tuple[str, bytes]]) -> list[Answer]:
        """The model's answers, in order.

        Args:
            inputs: (name, content): a file's, or a text and its UTF-8.
        Raises:
            BadData: an input cannot be read.
            NotFound: there is no model in that folder.
            MissingPart: PyTorch is not installed.
            Unavailable: it took too long or too much memory, or the process died.
        """
        loaded = self._take(model_dir.resolve())
        try:
            with loaded.lock:
                return [loaded.ask(name, content) for name, content in inputs]
        finally:
            self._give_back(loaded)

    def process_id(self, model_dir: Path) -> int | None:
        """Of the process that has this model ready; None if none has."""
        loaded = self._loaded.get(model_dir.resolve())
        return None if loaded is None or loaded.ended else loaded.process_id

    def close(self) -> None:
        """End all processes; nobody may be asking."""
        while self._loaded:
            self._loaded.popitem()[1].end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, model_dir: Path) -> "_Loaded":
        with self._lock:
            loaded = self._loaded.pop(model_dir, None)
            if loaded is None or loaded.ended:
                if loaded is not None and not loaded.askers:
                    loaded.end()
                loaded = _Loaded(model_dir, self._limits)
            self._loaded[model_dir] = loaded
            loaded.askers += 1
            return loaded

    def _give_back(self, loaded: "_Loaded") -> None:
        with self._lock:
            loaded.askers -= 1
            idle = [model_dir for model_dir, one in self._loaded.items() if not one.askers]
            surplus = [self._loaded.pop(model_dir) for model_dir in idle[: max(0, len(self._loaded) - self._ready)]]
            if not loaded.askers and loaded not in (*self._loaded.values(), *surplus):
                surplus.append(loaded)  # it died, and another took its place
        for one in surplus:
            one.end()


def ask(model_dir: Path, inputs: Iterable[tuple[str, bytes]], limits: Limits | None = None) -> list[Answer]:
    """A model's answers, once; see Tryouts.ask."""
    with Tryouts(limits) as tryouts:
        return tryouts.ask(model_dir, inputs)


class _Loaded:
    """A process that has one model, or will soon."""

    def __init__(self, model_dir: Path, limits: Limits) -> None:
        if find_spec("torch") is None:
            what = "Trying a model needs PyTorch, which is not installed here."
            raise MissingPart(what, effect="The model was not asked.", todo="pip install 'gristmill[trainer]'")
        self.lock = threading.Lock()  # held by whoever asks
        self.askers = 0
        self._limits = limits
        self._asked = False
        self._said = ""
        command = [sys.executable, "-m", "gristmill_trainer", "predict", str(model_dir)]
        self._process = subprocess.Popen(
            [*command, f"--memory={limits.memory_bytes}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Nothing that this process knows is any business of a process that reads strangers' pictures.
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            text=True,
            encoding="utf-8",
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def process_id(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def ask(self, name: str, content: bytes) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        limit_s = self._limits.answer_s if self._asked else self._limits.first_s
        late = threading.Event()
        timer = threading.Timer(limit_s, self._stop, [late])
        timer.start()
        line = ""
        try:
            question = {"file": name, "content": b64encode(content).decode()}
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = self._process.stdout.readline()  # it ended before it was asked, and may have said why
        finally:
            timer.cancel()
        if late.is_set():
            todo = "Ask it something smaller, or again when this machine has less to do."
            raise Unavailable(f"The model took longer than {limit_s:.0f} s.", effect="It gave no answer.", todo=todo)
        self._asked = True
        return self._understood(line)

    def end(self) -> None:
        """Stop the process, and see it gone."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            with contextlib.suppress(OSError):  # it may hold what was not sent any more
                pipe.close()

    def _understood(self, line: str) -> Answer:
        try:
            return Answer.model_validate_json(line)
        except ValidationError:
            pass
        try:
            failed = Failed.model_validate_json(line)
        except ValidationError as err:
            code = self._ended_with()
            raise Unavailable(
                f"The process that had the model ended with {code}.",
                effect="It gave no answer.",
                todo="Ask again; if it ends again, the input may need more memory than this machine gives it.",
                log=self._said.strip(),
            ) from err
        problem = Problem(code=failed.code, what=failed.what, effect=failed.effect, todo=failed.todo)
        raise GristmillError.from_problem(problem)

    def _ended_with(self) -> int:
        try:
            code = self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:  # it talks nonsense, and lives
            self._process.kill()
            code = self._process.wait()
        self._listener.join()
        return code

    def _stop(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()

    def _listen(self) -> None:
        """Keep the end of what the process logs."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said = (self._said + line)[-_LAST_WORDS:]
