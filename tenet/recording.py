"""Many small steps on a GPU, recorded once and replayed, as launching costs more than the work."""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from threading import RLock
from typing import Any

import torch
from torch import Tensor

#: Recordings that are kept, the latest ones; each holds its inputs and its result.
KEPT = 32

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class _Recording:
    graph: "torch.cuda.CUDAGraph"
    inputs: tuple[Tensor, ...]
    result: Tensor


_recordings: OrderedDict[Hashable, _Recording] = OrderedDict()
_pools: dict[torch.device, Any] = {}
_lock = RLock()
_off = ContextVar("off", default=False)


@contextlib.contextmanager
def as_it_is() -> Iterator[None]:
    """Record and replay nothing within, so that what is done can be seen and counted."""
    before = _off.set(True)
    try:
        yield
    finally:
        _off.reset(before)


@torch.no_grad()
def replayed(function: Function, *tensors: Tensor, **numbers: Hashable) -> Tensor:
    """Compute a function of tensors on a CUDA device by a CUDA graph.

    Parameters
    ----------
    function : callable
        Called as ``function(*tensors, **numbers)``. Does the same whatever the tensors hold, draws
        nothing at random, and never waits for the device.
    *tensors : Tensor
        All on one CUDA device.
    **numbers
        What else it depends on.

    Returns
    -------
    Tensor
        What the function returns, without gradients. Where there is no memory for a recording it is
        computed as it is.
    """
    if _off.get():
        return function(*tensors, **numbers)
    device = tensors[0].device
    shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
    key = (function, device, shapes, tuple(sorted(numbers.items())))
    with _lock, torch.cuda.device(device):
        try:
            recording = _recordings.pop(key, None) or _record(function, tensors, numbers)
        except torch.OutOfMemoryError:
            forget(0)
            return function(*tensors, **numbers)
        _recordings[key] = recording
        forget(KEPT)
        for own, given in zip(recording.inputs, tensors, strict=True):
            own.copy_(given)
        recording.graph.replay()
        return recording.result.clone()


def forget(but: int) -> None:
    """Give up all recordings but so many, the latest ones."""
    with _lock:
        if len(_recordings) > but:
            for device in _pools:
                torch.cuda.synchronize(device)  # they may be replaying
        while len(_recordings) > but:
            _recordings.popitem(last=False)


def _record(function: Function, tensors: tuple[Tensor, ...], numbers: Any) -> _Recording:
    inputs = tuple(tensor.clone() for tensor in tensors)
    device = inputs[0].device
    # What recordings take while they run lies in one pool: they run one after the other.
    pool = _pools.setdefault(device, torch.cuda.graph_pool_handle())
    graph, aside = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        function(*inputs, **numbers)  # plans of transforms are made outside of a recording
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            result = function(*inputs, **numbers)
        except torch.OutOfMemoryError:
            with contextlib.suppress(RuntimeError):  # says no more than that it was broken off
                graph.capture_end()
            raise
        graph.capture_end()
    torch.cuda.current_stream(device).wait_stream(aside)
    return _Recording(graph, inputs, result)
