"""The unit that systemd gets, and what is said where there is no systemd."""

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Require

from gristmill_provider.config import Limits, NodeConfig
from gristmill_provider.exit_codes import FINAL, ExitCode, NodeEnded
from gristmill_provider.service import UNIT, Service, Systemd

SYSTEMCTL = (
    "#!/bin/sh\necho \"$@\" >> '{said}'\n[ \"$1\" != enable ] || [ ! -e '{broken}' ] || {{ echo no >&2; exit 1; }}\n"
)


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    """Folders as systemd has them, and a systemctl that writes down what it is told."""
    for name in ("units", "running", "bin"):
        (tmp_path / name).mkdir()
    program = tmp_path / "bin" / "systemctl"
    program.write_text(SYSTEMCTL.format(said=tmp_path / "said", broken=tmp_path / "broken"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return Systemd(units=tmp_path / "units", running=tmp_path / "running")


def service(config: NodeConfig, account: str = "root") -> Service:
    return Service(config.keystore.with_name("node.toml"), config, account)


def settings(unit: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))


def test_a_node_is_started_again_unless_that_mends_nothing(config: NodeConfig) -> None:
    unit = settings(service(config.model_copy(update={"limits": Limits(stop_grace_s=120)})).unit())

    assert (unit["Restart"], unit["RestartPreventExitStatus"]) == ("on-failure", "2 10 20")
    assert {ExitCode.USAGE, ExitCode.KEY, ExitCode.REFUSED} == set(FINAL)
    assert int(unit["TimeoutStopSec"]) > 120


def test_no_secret_is_in_the_unit(config: NodeConfig) -> None:
    config.password_file.write_text("correct horse battery staple")
    unit = service(config).unit()

    assert "battery" not in unit
    assert "node.toml" in settings(unit)["ExecStart"]


def test_another_account_than_root_writes_its_own_folders_only(config: NodeConfig) -> None:
    unit = settings(service(config, "ann").unit())

    assert unit["User"] == "ann"
    assert unit["ReadWritePaths"] == f"{config.keystore.parent} {config.state_dir}"
    assert (unit["ProtectSystem"], unit["CapabilityBoundingSet"]) == ("strict", "")


def test_root_shares_its_mounts_with_docker(config: NodeConfig) -> None:
    unit = settings(service(config).unit())

    assert not {"ProtectSystem", "PrivateTmp", "ReadWritePaths", "ProtectHome"} & set(unit)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["plain", "with a space", "with 100% and $HOME"])
@pytest.mark.parametrize("account", ["root", "daemon"])
def test_systemd_finds_no_fault_in_it(
    config: NodeConfig, tmp_path: Path, folder: str, account: str, require: Require
) -> None:
    require(shutil.which("systemd-analyze") is not None, "no systemd-analyze")
    moved = Service(tmp_path / folder / "node.toml", config, account)
    (tmp_path / UNIT).write_text(moved.unit())

    done = subprocess.run(["systemd-analyze", "verify", tmp_path / UNIT], check=False, capture_output=True, text=True)

    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT in line]) == (0, [])


def test_it_is_installed_started_and_removed(
    systemd: Systemd, config: NodeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    systemd.install(service(config))
    written = (tmp_path / "units" / UNIT).read_text()
    systemd.remove()

    assert written == service(config).unit()
    assert (tmp_path / "said").read_text().splitlines() == [
        "daemon-reload",
        f"enable --now {UNIT}",
        f"disable --now {UNIT}",
        "daemon-reload",
    ]
    assert not (tmp_path / "units" / UNIT).exists()
    assert "Undo all  sudo" in capsys.readouterr().out


def test_a_refusal_of_systemd_is_passed_on(systemd: Systemd, config: NodeConfig, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()

    with pytest.raises(NodeEnded, match=rf"systemctl enable --now {UNIT} failed: no") as ended:
        systemd.install(service(config))

    assert ended.value.code is ExitCode.SERVICE


def test_a_machine_without_systemd_is_told_what_to_run_instead(config: NodeConfig, tmp_path: Path) -> None:
    with pytest.raises(NodeEnded, match=r"systemd does not run this machine.* up --config \S+node.toml"):
        Systemd(running=tmp_path / "none").install(service(config))


def test_what_is_not_installed_is_not_removed(systemd: Systemd) -> None:
    with pytest.raises(NodeEnded, match="service install makes it"):
        systemd.remove()
