"""What is wrong with this machine, and how to mend it. Pure: probes.py looks, these functions judge.

A probe gives what it saw, or the error that it met.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gristmill_protocol.errors import GristmillError
from gristmill_protocol.money import format_usd
from gristmill_provider.config import Limits
from gristmill_provider.devices import Device
from gristmill_provider.owner import OtherChain
from gristmill_provider.sandbox import MIN_DOCKER_API

_GIB = 1024**3
_CLOCK_FINE_S = 10
_CLOCK_BAD_S = 300
_ENGINE_ROOM_GIB = 10  # the image has a few, and grows with its versions
_LEAST_ROOM_GIB = 1
_UNPAID = "You would pay for working; a graphics card takes no work then."


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works, but not as well or as safely as it could
    PROBLEM = "problem"  # it keeps this machine from working


@dataclass(frozen=True)
class Finding:
    """One check: what was seen, what it means, how to mend it."""

    check: str
    level: Level
    what: str
    effect: str = ""
    todo: str = ""


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers."""

    version: str
    api: tuple[int, ...]
    root: Path
    cdi: bool


@dataclass(frozen=True)
class Room:
    """Free space where something is kept."""

    path: Path
    free_bytes: int


@dataclass(frozen=True)
class KeyFiles:
    """Of a key that opens."""

    address: str
    open_to_others: tuple[Path, ...]


@dataclass(frozen=True)
class Registration:
    """What the chain says of a provider."""

    provider_id: int
    node_key: str
    bonded_usd_micros: int
    minimum_usd_micros: int


def card(found: Sequence[Device] | GristmillError, *, wanted: str, cpu: bool) -> Finding:
    """Args:
    wanted: UUID; "": the first.
    cpu: the owner offers the CPU.
    """
    name = "graphics card"
    if cpu:
        return Finding(name, Level.OK, "Not needed: the CPU is offered.")
    if isinstance(found, GristmillError):
        return _problem(name, found)
    chosen = next((one for one in found if wanted in ("", one.uuid)), None)
    if chosen is None:
        there = ", ".join(f"{one.uuid} ({one.name})" for one in found) or "none"
        what = f"The card {wanted} is not there. There are: {there}." if wanted else "The driver reports no card."
        todo = 'Name another in "gpu"; nvidia-smi -L lists them.' if found else "Check the card's seat, or add --cpu."
        return Finding(name, Level.PROBLEM, what, "The node offers nothing.", todo)
    if chosen.mig:
        return Finding(
            name,
            Level.PROBLEM,
            f"{chosen.name} is cut into MIG instances.",
            "A part of a card cannot be offered.",
            f"sudo nvidia-smi -i {chosen.uuid} -mig 0",
        )
    memory_gib = chosen.memory_bytes / _GIB
    return Finding(name, Level.OK, f"{chosen.name}, {memory_gib:.0f} GiB, driver {chosen.driver}, {chosen.uuid}")


def docker(found: Engine | GristmillError) -> Finding:
    name = "Docker"
    if isinstance(found, GristmillError):
        return _problem(name, found)
    if found.api < MIN_DOCKER_API:
        return Finding(
            name,
            Level.PROBLEM,
            f"Docker {found.version} is too old: 20.10 or newer is needed.",
            "No job can be kept in a sandbox.",
            "Update it: https://docs.docker.com/engine/install",
        )
    return Finding(name, Level.OK, f"Version {found.version}, answers")


def toolkit(fault: GristmillError | None, *, engine_cdi: bool, cdi_spec: bool) -> Finding:
    """Args:
    engine_cdi: the engine hands out cards by CDI.
    cdi_spec: there is a description of the cards for it.
    """
    name = "NVIDIA toolkit"
    if fault is not None:
        return _problem(name, fault)
    if engine_cdi and not cdi_spec:
        return Finding(
            name,
            Level.PROBLEM,
            "Docker hands out cards by CDI, and nothing describes this machine's.",
            "No container gets the graphics card.",
            "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
        )
    return Finding(name, Level.OK, "Installed, and new enough")


def room(found: Sequence[Room], limits: Limits) -> Finding:
    """Args:
    found: where the state is kept, and then where the engine keeps images.
    """
    name = "disk"
    least = [limits.work_gib + max(limits.keep_free_gib, _LEAST_ROOM_GIB), _LEAST_ROOM_GIB]
    wanted = [least[0] + limits.cache_gib, _ENGINE_ROOM_GIB]
    told = ", ".join(f"{one.free_bytes / _GIB:.1f} GiB free at {one.path}" for one in found)
    for one, bottom, enough in zip(found, least, wanted, strict=False):
        if one.free_bytes < bottom * _GIB:
            return Finding(
                name,
                Level.PROBLEM,
                f"The disk of {one.path} has {one.free_bytes / _GIB:.1f} GiB left; {bottom:g} GiB are needed.",
                "A job would fail in the middle.",
                "Make room (docker system prune frees some), name another state_dir, or lower work_gib "
                "or keep_free_gib of [limits].",
            )
        if one.free_bytes < enough * _GIB:
            return Finding(
                name,
                Level.WARNING,
                f"The disk of {one.path} has {one.free_bytes / _GIB:.1f} GiB left; {enough:g} GiB may be used.",
                "Jobs with much data may fail.",
                "Make room, or lower [limits] cache_gib and work_gib.",
            )
    return Finding(name, Level.OK, told)


def clock(behind_s: float | None) -> Finding:
    """Args:
    behind_s: how far this machine's clock is behind the coordinator's; None: nobody to compare with.
    """
    name, todo = "clock", "sudo timedatectl set-ntp true"
    if behind_s is None:
        return Finding(name, Level.WARNING, "There is nobody to compare it with.", todo="Mend the coordinator first.")
    off_s, side = abs(behind_s), "slow" if behind_s > 0 else "fast"
    if off_s <= _CLOCK_FINE_S:
        return Finding(name, Level.OK, "Agrees with the coordinator's")
    level = Level.PROBLEM if off_s > _CLOCK_BAD_S else Level.WARNING
    effect = "Deadlines are taken for passed or far, and certificates for invalid: work may go unpaid."
    return Finding(name, level, f"It is {off_s:.0f} s {side}.", effect, todo)


def rights(*, root: bool, can_make_volumes: bool) -> Finding:
    """Args:
    can_make_volumes: mkfs.ext4 and loop devices are there.
    """
    name = "limit on disk use"
    effect = "What a job writes has no limit: it could fill the disk of state_dir."
    if not root:
        todo = "Run it as root (gristmill-node service install --user root), or keep state_dir on a disk of its own."
        return Finding(name, Level.WARNING, "The node is not root, and only root can mount.", effect, todo)
    if not can_make_volumes:
        return Finding(
            name, Level.WARNING, "mkfs.ext4 or loop devices are missing.", effect, "sudo apt install e2fsprogs mount"
        )
    return Finding(name, Level.OK, "Each job gets a volume of its own")


def key(found: KeyFiles | GristmillError) -> Finding:
    name = "key"
    if isinstance(found, GristmillError):
        return _problem(name, found)
    if found.open_to_others:
        files = " ".join(str(path) for path in found.open_to_others)
        return Finding(
            name,
            Level.WARNING,
            "Others on this machine may read its files.",
            "They could sign in your name.",
            f"chmod 600 {files}",
        )
    return Finding(name, Level.OK, f"{found.address}, for your eyes only")


def registration(found: Registration | GristmillError, *, node_key: str) -> Finding:
    """Args:
    node_key: address of the node's key; "": unknown.
    """
    name = "registration"
    if isinstance(found, OtherChain):  # with coordinators on two chains that is so for one of them
        return Finding(name, Level.WARNING, found.what, "Whether this machine is registered is not known.", found.todo)
    if isinstance(found, GristmillError):
        return _problem(name, found)
    provider, effect = found.provider_id, "The coordinator refuses this node."
    if node_key and found.node_key.lower() != node_key.lower():
        what = f"Provider {provider} names the node key {found.node_key}, not {node_key}."
        todo = "Name the right provider_id, or the keystore of that key; Registry.setNode changes the key."
        return Finding(name, Level.PROBLEM, what, effect, todo)
    bonded, least = format_usd(found.bonded_usd_micros), format_usd(found.minimum_usd_micros)
    if found.bonded_usd_micros < found.minimum_usd_micros:
        what = f"Provider {provider} bonds {bonded} USD, and {least} USD is the least."
        return Finding(name, Level.PROBLEM, what, effect, "gristmill-node bond")
    return Finding(name, Level.OK, f"Provider {provider}, with a bond of {bonded} USD")


def price(*, ask_usd_micros: int, power_usd_micros: int) -> Finding:
    """Both an hour."""
    name, power = "price", format_usd(power_usd_micros)
    if not power_usd_micros:
        todo = "Set electricity_usd_per_kwh."
        return Finding(
            name, Level.WARNING, "What your electricity costs is not known.", "Your gain isn't either.", todo
        )
    if ask_usd_micros < power_usd_micros:
        what = f"You ask {format_usd(ask_usd_micros)} USD an hour, and your electricity costs about {power}."
        return Finding(name, Level.WARNING, what, _UNPAID, "Raise ask_usd_per_gpu_hour.")
    return Finding(name, Level.OK, f"{format_usd(ask_usd_micros)} USD an hour; electricity costs about {power}")


def told(check: str, found: object, what: str) -> Finding:
    """A check that is passed unless its probe met an error; then what is said."""
    return _problem(check, found) if isinstance(found, GristmillError) else Finding(check, Level.OK, what)


def fit(findings: Iterable[Finding]) -> bool:
    """Whether nothing keeps the machine from working."""
    return all(finding.level is not Level.PROBLEM for finding in findings)


def _problem(check: str, err: GristmillError) -> Finding:
    return Finding(check, Level.PROBLEM, err.what, err.effect, err.todo)
