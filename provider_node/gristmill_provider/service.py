"""`gristmill-node service`: a systemd unit that runs the node at every start of the machine, with little leave."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from gristmill_protocol.errors import GristmillError, MissingPart, NotAllowed, NotFound, Unavailable
from gristmill_provider.config import NodeConfig
from gristmill_provider.exit_codes import FINAL, ExitCode, NodeEnded

UNIT = "gristmill-node.service"

_SYSTEMCTL_TIMEOUT_S = 60
_AFTER_GRACE_S = 30  # what the node takes beyond the grace of its jobs: last states, containers, a farewell

_EVERYBODY = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
ProtectHostname=yes
"""
_ROOT = """\
# It mounts a volume of fixed size for each job, which Docker has to see: so nothing here may give it mounts of its own
# (ProtectSystem=, PrivateTmp= and the like do).
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL
"""
_OTHERS = """\
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={writable}
PrivateTmp=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
"""


@dataclass(frozen=True)
class Service:
    """A node as systemd is to run it.

    Args:
        file: the node's configuration, absolute; secrets stay in the files that it names.
        account: whom the node runs as.
    """

    file: Path
    config: NodeConfig
    account: str

    def unit(self) -> str:
        """The text of the unit."""
        command = (sys.executable, "-m", "gristmill_provider", "up", "--config", str(self.file))
        folders = sorted({str(self.file.parent), str(self.config.state_dir)})
        rights = _ROOT if self.account == "root" else _OTHERS.format(writable=" ".join(map(_quoted, folders)))
        return (
            "[Unit]\n"
            "Description=Gristmill node: earns with this machine's idle time\n"
            "Wants=network-online.target\n"
            "After=network-online.target docker.service\n"
            "StartLimitIntervalSec=0\n"
            "\n"
            "[Service]\n"
            "Type=exec\n"
            f"ExecStart={' '.join(map(_quoted, command))}\n"
            f"User={self.account}\n"
            f"WorkingDirectory={_escaped(str(self.file.parent))}\n"
            "Restart=on-failure\n"
            "RestartSec=30\n"
            "# What trying again does not mend: docs/providers.md, exit codes.\n"
            f"RestartPreventExitStatus={' '.join(str(int(code)) for code in FINAL)}\n"
            "KillMode=mixed\n"
            f"TimeoutStopSec={round(self.config.limits.stop_grace_s) + _AFTER_GRACE_S}\n"
            f"{_EVERYBODY}{rights}"
            "\n"
            "[Install]\n"
            "WantedBy=multi-user.target\n"
        )


@dataclass(frozen=True)
class Systemd:
    """The init system.

    Args:
        units: where the administrator's units are.
        running: a folder that is there while systemd runs the machine.
    """

    units: Path = Path("/etc/systemd/system")
    running: Path = Path("/run/systemd/system")

    def install(self, service: Service) -> None:
        """Write the unit and start it, now and at every start of the machine.

        Raises:
            NodeEnded: systemd is missing or refuses, or this is not root.
        """
        with _ends():
            self._require(f"sudo {_command()} service install --config {service.file}", instead=service)
            path = self.units / UNIT
            path.write_text(service.unit())
            _systemctl("daemon-reload")
            _systemctl("enable", "--now", UNIT)
        typer.echo(
            f"Written   {path}; it runs as {service.account}\n"
            f"Started   now, and at every start of this machine\n"
            f"Its log   journalctl -u gristmill-node -f\n"
            f"Stop it   sudo systemctl stop gristmill-node\n"
            f"Undo all  sudo {_command()} service remove"
        )

    def remove(self) -> None:
        """Stop the node and delete its unit; its settings, key and state stay.

        Raises:
            NodeEnded: as install(), or there is no unit.
        """
        with _ends():
            self._require(f"sudo {_command()} service remove")
            path = self._installed()
            _systemctl("disable", "--now", UNIT)
            path.unlink()
            _systemctl("daemon-reload")
        typer.echo(f"Stopped, and deleted {path}. Settings, key and state of the node are where they were.")

    def status(self) -> None:
        """Show what systemd says of it.

        Raises:
            NodeEnded: systemd is missing, or there is no unit.
        """
        with _ends():
            self._require("", root=False)
            self._installed()
            shown = ("systemctl", "--no-pager", "--lines=20", "status", UNIT)
            said = subprocess.run(shown, check=False, capture_output=True, text=True, timeout=_SYSTEMCTL_TIMEOUT_S)
        typer.echo(said.stdout or said.stderr, nl=False)

    def _require(self, as_root: str, *, root: bool = True, instead: Service | None = None) -> None:
        if not self.running.is_dir() or shutil.which("systemctl") is None:
            todo = f"Have your own init system run: {_command()} up --config {instead.file}" if instead else ""
            raise MissingPart("systemd does not run this machine.", effect="Nothing was changed.", todo=todo)
        if root and not os.access(self.units, os.W_OK):
            raise NotAllowed("Only root may change units.", effect="Nothing was changed.", todo=f"Run: {as_root}")

    def _installed(self) -> Path:
        path = self.units / UNIT
        if not path.exists():
            raise NotFound(f"There is no {path}.", todo=f"sudo {_command()} service install makes it.")
        return path


def account_of(file: Path) -> str:
    """The account that owns a file: whom a node runs as unless its owner says otherwise."""
    return pwd.getpwuid(file.stat().st_uid).pw_name


@contextmanager
def _ends() -> Iterator[None]:
    try:
        yield
    except GristmillError as err:
        raise NodeEnded(ExitCode.SERVICE, err) from err
    except OSError as err:
        unwritten = Unavailable(f"The unit could not be changed: {err}.", todo="Run this as root.")
        raise NodeEnded(ExitCode.SERVICE, unwritten) from err


def _systemctl(*arguments: str) -> None:
    try:
        subprocess.run(
            ("systemctl", *arguments), check=True, capture_output=True, text=True, timeout=_SYSTEMCTL_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as err:
        raise Unavailable(f"systemctl {' '.join(arguments)} did not end within {_SYSTEMCTL_TIMEOUT_S} s.") from err
    except subprocess.CalledProcessError as err:
        said = (err.stderr or err.stdout).strip()
        raise Unavailable(
            f"systemctl {' '.join(arguments)} failed: {said}", todo="journalctl -u gristmill-node -n 20 may say more."
        ) from err


def _command() -> str:
    """How this program was called, in full: root's PATH may be another."""
    return shutil.which("gristmill-node") or "gristmill-node"


def _quoted(word: str) -> str:
    """A word of a unit's command line or list of paths."""
    escaped = _escaped(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"' if any(sign in escaped for sign in " \t'\\;") else escaped


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
