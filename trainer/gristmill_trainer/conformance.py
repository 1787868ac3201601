"""Which machines this one agrees with bit for bit, and how fast it trains: measured, not asked.

Machines are grouped by what they compute. Tiny models of the kinds that recipes use are trained from fixed weights on
fixed numbers; the digest of the resulting bits, with the versions and settings that decide them, is the numeric class.
"""

import math
import platform
import time
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.progress import Probed
from gristmill_protocol.state import Tensor as CanonicalTensor
from gristmill_protocol.state import state_root
from gristmill_trainer.checkpoint import canonical
from gristmill_trainer.determinism import derive, generator
from gristmill_trainer.engine import one_cycle, train_step
from gristmill_trainer.recipes.image_sorter import network, step_flops
from gristmill_trainer.recipes.image_sorter import train as image_sorter

NONCE = 20_251_122  # a new one starts new classes: change it with anything below
_STEPS = 6
_WARM_UP_STEPS = 3
_TIMED_STEPS = 5
_MEASURE_S = 1.0


def probe(device: torch.device, *, threads: int, clock: Callable[[], float] = time.perf_counter) -> Probed:
    """Class and speed of this machine; takes one to two seconds on a processor."""
    return Probed(numeric_class=numeric_class(device, threads=threads), flops_per_s=flops_per_s(device, clock))


def numeric_class(device: torch.device, *, threads: int) -> str:
    """Digest of what this machine computes, hex. Equal digests mean that each can check the other's work."""
    bits = [state_root(_trained(kind, device)).hex() for kind in (_Pictures, _Texts, _Attention)]
    on_gpu = device.type == "cuda"
    return sha256_json(
        {
            "bits": bits,
            "trainer": version("gristmill"),
            "torch": torch.__version__,
            "architecture": platform.machine(),
            "threads": threads,
            "device": _chip(device) if on_gpu else device.type,
            "cuda": torch.version.cuda if on_gpu else None,
            "cudnn": torch.backends.cudnn.version() if on_gpu else None,  # type: ignore[no-untyped-call]
        }
    ).hex()


def _chip(device: torch.device) -> tuple[int, int, int]:
    """Compute capability and number of multiprocessors, as the driver reports them."""
    chip = torch.cuda.get_device_properties(device)
    return chip.major, chip.minor, chip.multi_processor_count


def flops_per_s(device: torch.device, clock: Callable[[], float] = time.perf_counter) -> int:
    """Speed at the work that plans count: steps of the image sorter, each with its overhead."""
    size, width, batch = (32, 64, 128) if device.type == "cuda" else (12, 32, 32)
    net = image_sorter.Net(channels=1, width=width, size=size, answers=10).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    pictures, answers = _numbers("speed", (batch, 1, size, size)), (torch.arange(batch) % 10).to(device)
    flops = step_flops(network(1, width, size), batch)

    def steps(count: int) -> float:
        started = clock()
        for step in range(count):
            varied = image_sorter.vary(pictures, generator(NONCE, "speed", step), mirror=False)
            # train_step returns the loss as a number, so the device has finished when it returns.
            train_step(net, optimizer, functional.cross_entropy(net(varied.to(device)), answers))
        return clock() - started

    steps(_WARM_UP_STEPS)
    until = clock() + _MEASURE_S
    rates = []
    while clock() < until:
        rates.append(_TIMED_STEPS * flops / max(steps(_TIMED_STEPS), 1e-9))
    return max(1, round(median(rates)))


class _Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.second_norm = nn.Conv2d(8, 16, 3, 2, padding=1, bias=False), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 10)
        self.example = (1, 12, 12)

    def forward(self, pictures: Tensor) -> Tensor:
        pictures = self.first_norm(self.first(pictures)).relu()
        pictures = self.second_norm(self.second(pictures)).relu()
        scores: Tensor = self.head(pictures.mean((2, 3)))
        return scores


class _Texts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.example = (24,)
        self.table = nn.EmbeddingBag(128, 24, mode="sum")
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(24, 10)

    def forward(self, weights: Tensor) -> Tensor:
        numbers = (torch.arange(weights.numel(), device=weights.device) * 37 % 128).view(weights.shape)
        scores: Tensor = self.head(self.drop(self.table(numbers, per_sample_weights=weights).tanh()))
        return scores


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.example = (16, 32)
        self.norm = nn.LayerNorm(32)
        self.mix = nn.Linear(32, 96)
        self.grow, self.shrink = nn.Linear(32, 64), nn.Linear(64, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.mix(self.norm(tokens)).chunk(3, -1)
        # Written out: which fused kernel torch would take is its own choice, and not all are deterministic.
        mixed = tokens + (query @ key.mT / math.sqrt(32)).softmax(-1) @ value
        scores: Tensor = self.shrink(functional.gelu(self.grow(mixed))).mean(1)
        return scores


def _trained(kind: Callable[[], _Pictures | _Texts | _Attention], device: torch.device) -> list[CanonicalTensor]:
    """A model of that kind after a few steps from fixed weights on fixed numbers."""
    net = kind()
    kind_name = type(net).__name__
    for name, param in net.named_parameters():
        param.data = _numbers(f"{NONCE}/{kind_name}/{name}", param.shape).mul(0.3)
    net.to(device)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    answers = (torch.arange(16) % 10).to(device)
    for step in range(_STEPS):
        torch.manual_seed(derive(NONCE, kind_name, step))
        optimizer.param_groups[0]["lr"] = one_cycle(step, _STEPS, 0.01)
        inputs = _numbers(f"{NONCE}/{kind_name}/{step}", (16, *net.example)).to(device)
        train_step(net, optimizer, functional.cross_entropy(net(inputs), answers, label_smoothing=0.05))
    return [canonical(f"param/{name}", tensor) for name, tensor in net.state_dict().items()]


def _numbers(purpose: str, shape: tuple[int, ...]) -> Tensor:
    """Fixed numbers between -1 and 1, from SHA-256 instead of a generator that may change between versions."""
    count = torch.Size(shape).numel()
    stream = b"".join(sha256(f"{purpose}/{block}".encode()).digest() for block in range(-(-count // 16)))
    values = torch.frombuffer(bytearray(stream), dtype=torch.uint16)[:count].to(torch.float32)
    return values.mul(2 / 65_535).sub(1).reshape(shape)
