"""A fake coordinator, a client of it, and a data set; nothing of the person's own configuration is seen."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gristmill import Client
from gristmill.cli import run
from gristmill.testing import FakeCoordinator


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("URL", "KEYSTORE", "PASSWORD", "PASSWORD_FILE"):
            patch.delenv(f"GRISTMILL_{name}", raising=False)
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        yield


@pytest.fixture(scope="session")
def mails(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 texts of 2 answers."""
    rows = [f"please pay bill number {n},billing\nscreen {n} is broken,support\n" for n in range(20)]
    path = tmp_path_factory.mktemp("data") / "mails.csv"
    path.write_text("text,answer\n" + "".join(rows))
    return path


@pytest.fixture
def fake() -> FakeCoordinator:
    return FakeCoordinator()


@pytest.fixture
def client(fake: FakeCoordinator, tmp_path: Path) -> Iterator[Client]:
    with fake.client(tmp_path / "state") as client:
        yield client


@pytest.fixture
def cli(fake: FakeCoordinator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ran]]:
    """Runs one command line against the fake: exit code, stdout, stderr."""

    def command(*args: str | Path) -> Ran:
        capsys.readouterr()
        code = run([str(arg) for arg in args])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    with fake.installed(tmp_path / "state"):
        yield command
