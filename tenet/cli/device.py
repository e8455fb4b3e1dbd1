"""Choice of the device that a command computes on."""

import ctypes
import sys
from typing import TYPE_CHECKING

from tenet.errors import TenetError

if TYPE_CHECKING:
    import torch


def choose_device(name: str, threads: int | None) -> "torch.device":
    """Choose the device of `--device`, and set the number of CPU threads to `--threads`.

    Raises
    ------
    TenetError
        If this machine has no such device.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    keep_freed_memory()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise TenetError(f"--device {name}: give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TenetError("--device cuda: this machine has no CUDA device; use --device cpu")
    if (device.index or 0) >= max(1, torch.cuda.device_count()):
        raise TenetError(f"--device {name}: there is no such device, they are counted from 0")
    return device


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of freed tensors, and not return the memory to the system.

    Each step allocates the same tensors again, and fresh pages cost as much as the FFTs in them.
    All threads share one arena, because otherwise the backward pass could not reuse the memory of
    the forward pass.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt:
            mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, its largest value
            mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
            mallopt(-8, 1)  # M_ARENA_MAX
