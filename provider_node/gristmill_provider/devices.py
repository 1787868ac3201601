"""What this machine sells: one graphics card as its driver reports it, or the CPU if its owner says so."""

import os
from dataclasses import dataclass
from typing import Any

import pynvml

from gristmill_protocol.errors import MissingPart


@dataclass(frozen=True)
class Device:
    """The one device a node offers.

    Args:
        uuid: the driver's name for this very card; None: the CPU.
    """

    name: str
    memory_bytes: int
    driver: str
    uuid: str | None

    @property
    def is_cpu(self) -> bool:
        return self.uuid is None


def find_cpu(memory_bytes: int) -> Device:
    """The CPU, with as much memory as an attempt may take or the machine has."""
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device(name="CPU", memory_bytes=min(memory_bytes, machine_bytes), driver="", uuid=None)


def find_gpu(uuid: str = "") -> Device:
    """The card of that UUID, or the first.

    Raises:
        MissingPart: no driver, no card, or not that one.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as err:
        raise _missing(f"The graphics driver does not answer: {err}.") from err
    try:
        return _read(_handle(uuid))
    except pynvml.NVMLError as err:
        raise _missing(f"The graphics card {uuid or 'number 0'} cannot be used: {err}.") from err
    finally:
        pynvml.nvmlShutdown()


def _handle(uuid: str) -> Any:
    if uuid:
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    if pynvml.nvmlDeviceGetCount() == 0:
        raise _missing("The graphics driver reports no card.")
    return pynvml.nvmlDeviceGetHandleByIndex(0)


def _read(handle: Any) -> Device:
    return Device(
        name=pynvml.nvmlDeviceGetName(handle),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        driver=pynvml.nvmlSystemGetDriverVersion(),
        uuid=pynvml.nvmlDeviceGetUUID(handle),
    )


def _missing(what: str) -> MissingPart:
    return MissingPart(
        what,
        effect="The node offers nothing.",
        todo='Install the NVIDIA driver, name another card in "gpu", or set cpu = true to offer the CPU.',
    )
