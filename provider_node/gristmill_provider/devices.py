"""What this machine sells: a graphics card as its driver reports it (NVML), or the CPU if its owner says so."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml
import structlog

from gristmill_protocol.errors import GristmillError, MissingPart, NotAllowed, Unavailable

logger = structlog.get_logger(__name__)

T = TypeVar("T")

# https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html; idleness and settings slow nothing down.
_THROTTLES = {
    0x04: "its power limit",
    0x08: "a hardware slowdown",
    0x20: "its temperature",
    0x40: "its temperature, by hardware",
    0x80: "the power supply",
}
# What a driver or a kind of card may not know is left out; that a card is gone is not.
_UNKNOWN = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_NO_DATA,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
)
_REMEDIES = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "Install the NVIDIA driver, or set cpu = true to offer the CPU.",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
        "Load the NVIDIA driver (modprobe nvidia, or restart the machine), or set cpu = true to offer the CPU."
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "The driver was updated while an older one runs: restart the machine.",
    pynvml.NVML_ERROR_NO_PERMISSION: "Let this account use the graphics card: add it to the group of /dev/nvidiactl.",
    pynvml.NVML_ERROR_GPU_IS_LOST: "Restart the machine; if it happens again, check the card's power and seat.",
}


@dataclass(frozen=True)
class Device:
    """One device that a node may offer, as it was found.

    Args:
        uuid: the driver's name for this very card; None: the CPU.
        cuda: the newest CUDA version that the driver runs, as in "13.0".
        capability: CUDA's compute capability, as in (8, 9).
        nvlinks: how many are up.
        pcie: generation and lanes that card and slot can do; None: unknown.
        power_limits_w: the least and the most that its power limit can be set to; None: it cannot.
        ecc: whether its memory corrects errors; None: it cannot.
    """

    name: str
    memory_bytes: int
    driver: str
    uuid: str | None
    cuda: str = ""
    capability: tuple[int, int] | None = None
    mig: bool = False
    nvlinks: int = 0
    pcie: tuple[int, int] | None = None
    power_limits_w: tuple[int, int] | None = None
    ecc: bool | None = None

    @property
    def is_cpu(self) -> bool:
        return self.uuid is None


@dataclass(frozen=True)
class CardProcess:
    """A process that uses a card, ours or another's; memory_bytes None: the driver does not say."""

    pid: int
    memory_bytes: int | None
    graphics: bool  # it draws; else it computes


@dataclass(frozen=True)
class Reading:
    """How a card is at one moment; None: the driver does not say.

    Args:
        throttled: what slows it down, in words.
        ecc_errors: uncorrected errors of its memory since the driver was loaded.
        xids: numbers of the errors that the driver has reported since the reading before.
    """

    temperature_c: int | None
    busy_percent: int | None
    power_w: float | None
    power_limit_w: float | None
    memory_used_bytes: int
    processes: tuple[CardProcess, ...] = ()
    throttled: tuple[str, ...] = ()
    ecc_errors: int | None = None
    xids: tuple[int, ...] = ()


def find_cpu(memory_bytes: int) -> Device:
    """The CPU, with as much memory as an attempt may take or the machine has."""
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device(name="CPU", memory_bytes=min(memory_bytes, machine_bytes), driver="", uuid=None)


def find_gpus() -> list[Device]:
    """Every card that answers, in the driver's order.

    Raises:
        MissingPart: no driver, or another version of it than its library.
    """
    found = []
    with _open_driver():
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                found.append(_describe(pynvml.nvmlDeviceGetHandleByIndex(index)))
            except pynvml.NVMLError as err:
                logger.warning("card_does_not_answer", index=index, reason=str(err))
    return found


def find_gpu(uuid: str = "") -> Device:
    """The card of that UUID, or the first.

    Raises:
        MissingPart: no driver, no card, not that one, or it is cut into MIG instances.
    """
    cards = find_gpus()
    if not cards:
        raise _missing("The graphics driver reports no card that answers.")
    for card in cards:
        if uuid in ("", card.uuid):
            return _whole(card)
    raise _missing(f"There is no graphics card {uuid}.", f"The cards are: {', '.join(str(c.uuid) for c in cards)}.")


class Card:
    """One graphics card, watched; calls take some milliseconds.

    A card that was lost is looked for anew at the next reading.
    """

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self._handle: Any = None  # None: the driver is not open
        self._events: Any = None

    def read(self) -> Reading:
        """How it is now.

        Raises:
            MissingPart: the driver is gone.
            Unavailable: the card is.
        """
        try:
            self._open()
            return self._read()
        except pynvml.NVMLError as err:
            self.close()
            raise self._lost(err) from err

    def set_power_limit(self, watts: float) -> None:
        """Have the card draw no more than that.

        Raises:
            NotAllowed: this account may not, or the card cannot be set so.
            MissingPart, Unavailable: as read().
        """
        try:
            self._open()
            pynvml.nvmlDeviceSetPowerManagementLimit(self._handle, round(watts * 1000))
        except pynvml.NVMLError as err:
            if err.value not in _UNKNOWN:
                raise self._lost(err) from err
            raise NotAllowed(
                f"The card's power limit cannot be set to {watts:g} W: {err}.",
                effect="It stays as it is.",
                todo="Run the node as root, or set the limit yourself: nvidia-smi -pl WATTS.",
            ) from err

    def close(self) -> None:
        if self._handle is None:
            return
        with suppress(pynvml.NVMLError):
            if self._events is not None:
                pynvml.nvmlEventSetFree(self._events)
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
        self._handle = self._events = None

    def _open(self) -> None:
        if self._handle is not None:
            return
        _init()
        try:
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(self.uuid)
            self._events = _known(_register_xids, self._handle)
        except pynvml.NVMLError:
            self._handle = None
            pynvml.nvmlShutdown()
            raise

    def _read(self) -> Reading:
        card = self._handle
        rates = _known(pynvml.nvmlDeviceGetUtilizationRates, card)
        throttles = _known(pynvml.nvmlDeviceGetCurrentClocksEventReasons, card) or 0
        return Reading(
            temperature_c=_known(pynvml.nvmlDeviceGetTemperature, card, pynvml.NVML_TEMPERATURE_GPU),
            busy_percent=None if rates is None else int(rates.gpu),
            power_w=_watts(_known(pynvml.nvmlDeviceGetPowerUsage, card)),
            power_limit_w=_watts(_known(pynvml.nvmlDeviceGetPowerManagementLimit, card)),
            memory_used_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(card).used),
            processes=tuple(_processes(card)),
            throttled=tuple(words for bit, words in _THROTTLES.items() if throttles & bit),
            ecc_errors=_known(
                pynvml.nvmlDeviceGetTotalEccErrors,
                card,
                pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
                pynvml.NVML_VOLATILE_ECC,
            ),
            xids=() if self._events is None else tuple(_reported_xids(self._events)),
        )

    def _lost(self, err: pynvml.NVMLError) -> GristmillError:
        return Unavailable(
            f"The graphics card {self.uuid} does not answer: {err}.",
            effect="No work runs until it is back.",
            todo=_REMEDIES.get(err.value, _REMEDIES[pynvml.NVML_ERROR_GPU_IS_LOST]),
        )


def _init() -> None:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as err:
        todo = _REMEDIES.get(err.value, _REMEDIES[pynvml.NVML_ERROR_LIBRARY_NOT_FOUND])
        raise _missing(f"The graphics driver does not answer: {err}.", todo) from err


@contextmanager
def _open_driver() -> Iterator[None]:
    _init()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _describe(card: Any) -> Device:
    cuda = _known(pynvml.nvmlSystemGetCudaDriverVersion_v2)
    generation = _known(pynvml.nvmlDeviceGetMaxPcieLinkGeneration, card)
    lanes = _known(pynvml.nvmlDeviceGetMaxPcieLinkWidth, card)
    limits_mw = _known(pynvml.nvmlDeviceGetPowerManagementLimitConstraints, card)
    mig, ecc = _known(pynvml.nvmlDeviceGetMigMode, card), _known(pynvml.nvmlDeviceGetEccMode, card)
    return Device(
        name=pynvml.nvmlDeviceGetName(card),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(card).total),
        driver=pynvml.nvmlSystemGetDriverVersion(),
        uuid=pynvml.nvmlDeviceGetUUID(card),
        cuda="" if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        capability=_known(lambda: tuple(pynvml.nvmlDeviceGetCudaComputeCapability(card))),
        mig=mig is not None and bool(mig[0]),
        nvlinks=sum(bool(_known(pynvml.nvmlDeviceGetNvLinkState, card, link)) for link in range(18)),
        pcie=None if generation is None or lanes is None else (generation, lanes),
        power_limits_w=None if limits_mw is None else (limits_mw[0] // 1000, limits_mw[1] // 1000),
        ecc=None if ecc is None else bool(ecc[0]),
    )


def _whole(card: Device) -> Device:
    if card.mig:
        raise _missing(
            f"The graphics card {card.uuid} is cut into MIG instances, which share its power and temperature.",
            f"Make it whole (nvidia-smi -i {card.uuid} -mig 0), or name another card.",
        )
    return card


def _processes(card: Any) -> Iterator[CardProcess]:
    for graphics, listed in (
        (False, pynvml.nvmlDeviceGetComputeRunningProcesses),
        (True, pynvml.nvmlDeviceGetGraphicsRunningProcesses),
    ):
        for process in _known(listed, card) or ():
            yield CardProcess(int(process.pid), process.usedGpuMemory, graphics)


def _register_xids(card: Any) -> Any:
    events = pynvml.nvmlEventSetCreate()
    pynvml.nvmlDeviceRegisterEvents(card, pynvml.nvmlEventTypeXidCriticalError, events)
    return events


def _reported_xids(events: Any) -> Iterator[int]:
    while (event := _next_event(events)) is not None:
        yield int(event.eventData)


def _next_event(events: Any) -> Any:
    try:
        return pynvml.nvmlEventSetWait_v2(events, 0)
    except pynvml.NVMLError as err:
        if err.value != pynvml.NVML_ERROR_TIMEOUT:
            raise
        return None


def _known(ask: Callable[..., T], *about: Any) -> T | None:
    """The driver's answer; None: this driver or this card does not know."""
    try:
        return ask(*about)
    except pynvml.NVMLError as err:
        if err.value not in _UNKNOWN:
            raise
        return None


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _missing(what: str, todo: str = "") -> MissingPart:
    return MissingPart(
        what,
        effect="The node offers nothing.",
        todo=todo or 'Install the NVIDIA driver, name another card in "gpu", or set cpu = true to offer the CPU.',
    )
