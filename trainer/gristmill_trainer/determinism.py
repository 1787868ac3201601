"""Torch, pinned: the same task gives the same bits in every process of a machine and on every machine of its class."""

from hashlib import sha256

import torch


def pin(threads: int) -> torch.device:
    """Switch every choice that torch makes by itself to a fixed one, and return the device to train on.

    Args:
        threads: of one operation; one thread and two give different bits.
    """
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    torch.backends.mkldnn.set_flags(True)  # type: ignore[no-untyped-call]
    # NNPACK convolves so roughly that honest machines come out 8 % apart; see docs/decisions.md 17.
    torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def derive(seed: int, purpose: str, counter: int = 0) -> int:
    """A 63-bit seed that is a pure function of its arguments; different purposes never share one."""
    key = purpose.encode() + b"\0" + seed.to_bytes(8, "little") + counter.to_bytes(8, "little")
    return int.from_bytes(sha256(key).digest()[:8], "little") >> 1


def seed_device(device: torch.device, seed: int) -> None:
    """Seed what a step on this device draws from; torch.manual_seed sees to every kind of device, in 40 times the time.

    Args:
        seed: non-negative.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def generator(seed: int, purpose: str, counter: int = 0) -> torch.Generator:
    """A CPU generator seeded by derive."""
    return torch.Generator().manual_seed(derive(seed, purpose, counter))
