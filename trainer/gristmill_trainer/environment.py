"""Process settings that make equal work give equal bits; they must be in place before torch computes anything."""

import os
import platform
from pathlib import Path

# Code paths picked by the instruction set give other bits; every x86 machine of the last ten years has AVX2. With it
# pinned the small nets measured here ran as fast as with AVX-512.
_X86 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}


def pin_environment() -> None:
    """Set the variables that torch and its libraries read once, at their first operation."""
    # https://docs.nvidia.com/cuda/cublas/#results-reproducibility
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    os.environ["TORCHINDUCTOR_MAX_AUTOTUNE"] = "0"
    if _has_avx2():
        os.environ.update(_X86)


def _has_avx2() -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    cpuinfo = Path("/proc/cpuinfo")
    return not cpuinfo.exists() or " avx2 " in cpuinfo.read_text()
