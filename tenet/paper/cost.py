"""Least cost of work: operations, bytes, and their time at a machine's peak.

Convolutions and Fourier transforms are counted as they are dispatched, forward and backward, with
their real sizes. The time at the peak is a sum over the kinds of operations. Each kind is taken at
the rate that the machine reached in one large operation of the kind. The nearer the measured time
is to this time, the better is the use of the machine. Bytes are those that every operation reads
and writes without a cache.
"""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from tenet.networks.convolution import faster_in_float32
from tenet.networks.recording import as_it_is

_FFT = torch.ops.aten
_TRANSFORMS = {_FFT._fft_c2c: 1.0, _FFT._fft_r2c: 0.5, _FFT._fft_c2r: 0.5}
KINDS = ("bfloat16", "float32", "fft")
Action = Callable[[], Any]
#: Most seconds of one run of a large operation, and of all runs of the operation.
MOST_S = 2.0
NO_BFLOAT16 = "this processor does not multiply bfloat16"


@dataclass(frozen=True)
class Work:
    """Operations by kind (`KINDS`: convolutions in two precisions, transforms), and bytes."""

    operations: dict[str, float]
    bytes: float

    @property
    def total(self) -> float:
        """All operations."""
        return sum(self.operations.values())


@dataclass(frozen=True)
class Peaks:
    """The rates of a machine in operations a second by kind, and reasons for missing kinds."""

    operations: dict[str, float]
    left_out: dict[str, str] = field(default_factory=dict)

    def floor_s(self, work: Work) -> float | None:
        """Seconds of the operations at these rates, one kind after the other.

        None if there are operations of a kind that is left out.
        """
        if self.missing(work):
            return None
        return sum(work.operations[kind] / rate for kind, rate in self.operations.items())

    def missing(self, work: Work) -> str:
        """Why this work has no `floor_s`; empty if it has one."""
        return "; ".join(why for kind, why in self.left_out.items() if work.operations[kind])


class _Count(TorchDispatchMode):
    """Adds up what goes through the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.bytes = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry:
            half = args[0].dtype in (torch.bfloat16, torch.float16)
            kind = "bfloat16" if half else "float32"
            self.operations[kind] += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        elif packet in _TRANSFORMS:
            # 5 n log2 n for a complex transform of length n, half of it if one side is real
            complete = args[0] if packet is not _FFT._fft_c2r else out
            length = math.prod(complete.shape[dim] for dim in args[1])
            share = _TRANSFORMS[packet]
            self.operations["fft"] += share * 5 * complete.numel() * math.log2(max(length, 2))
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
            self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return out


def work_of(action: Action) -> Work:
    """Count the operations and bytes of an action, by doing it once."""
    with as_it_is(), _Count() as count:
        action()
    return Work({kind: float(count.operations[kind]) for kind in KINDS}, count.bytes)


def peaks(device: torch.device) -> Peaks:
    """Measure the highest rates of a device: the best of several short runs of each kind.

    A kind is left out if the device does not support it, or if a small probe foretells more than
    `MOST_S` seconds for a run.
    """
    reached, left_out = {}, {}
    for kind in KINDS:
        if kind == "bfloat16" and faster_in_float32(device):
            left_out[kind] = NO_BFLOAT16
            continue
        with torch.no_grad():
            probe, whole = _one(kind, device, parts=4), _one(kind, device, parts=1)
            rate = work_of(probe).total / _fastest(probe, device)
            work = 4**3 * work_of(probe).total
            if work / rate > MOST_S:
                left_out[kind] = f"a {kind} operation takes about {work / rate:.0f} s: not timed"
                continue
            reached[kind] = work_of(whole).total / _fastest(whole, device)
    return Peaks(reached, left_out)


def _one(kind: str, device: torch.device, parts: int) -> Action:
    """A convolution or a transform that fills a device, or one of a part of each side."""
    if kind == "fft":
        line = torch.rand(*[128 // parts] * 3, device=device, dtype=torch.complex64)
        return lambda: torch.fft.fft(line)
    channels, side = (128, 96) if device.type == "cuda" else (32, 64)
    image = torch.rand(1, channels, *[side // parts] * 3, device=device)
    weight = torch.rand(channels, channels, 3, 3, 3, device=device)
    if kind == "bfloat16":
        layout = torch.channels_last_3d
        image, weight = (t.bfloat16().contiguous(memory_format=layout) for t in (image, weight))
    return lambda: functional.conv3d(image, weight, padding=1)


def _fastest(action: Action, device: torch.device, repeats: int = 8) -> float:
    """Seconds of the fastest of several runs, after one run that is not counted.

    Runs stop after `MOST_S` seconds.
    """
    times: list[float] = []
    while len(times) <= repeats and (len(times) < 2 or sum(times) < MOST_S):
        started = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])
