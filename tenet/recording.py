"""Many small steps on a GPU, recorded once and replayed, as launching costs more than the work."""

import contextlib
import sys
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from threading import RLock
from typing import Any

import torch
from torch import Tensor

#: Recordings of a process; what comes later is computed as it is.
MOST = 32

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class _Recording:
    graph: "torch.cuda.CUDAGraph"
    inputs: tuple[Tensor, ...]
    result: Tensor


@dataclass
class _Recorder:
    """All recordings of a process. They run one after the other, so share what memory they need."""

    recordings: dict[Hashable, _Recording]
    pools: dict[torch.device, tuple[Any, "torch.cuda.Stream"]]
    stopped: bool = False


_recorder = _Recorder({}, {})
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
        What the function returns, without gradients. Where it cannot be recorded, for want of
        memory above all, it is computed as it is, and so is all that comes later.
    """
    if _off.get() or _recorder.stopped:
        return function(*tensors, **numbers)
    device = tensors[0].device
    shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
    key = (function, device, shapes, tuple(sorted(numbers.items())))
    with _lock, torch.cuda.device(device):
        recording = _recorder.recordings.get(key)
        if recording is None and len(_recorder.recordings) < MOST:
            try:
                recording = _record(function, tensors, numbers)
                _recorder.recordings[key] = recording
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                reason = str(error).partition("\n")[0]
                print(
                    f"nothing is recorded on {device}, so it is slower: {reason}", file=sys.stderr
                )
            if recording is None:  # here, where the error holds no memory any more
                stop()
        if recording is not None:
            for own, given in zip(recording.inputs, tensors, strict=True):
                own.copy_(given)
            recording.graph.replay()
            return recording.result.clone()
    return function(*tensors, **numbers)


def stop() -> None:
    """Give up all recordings and their memory, and make no others."""
    with _lock:
        _recorder.stopped = True
        for device in _recorder.pools:
            torch.cuda.synchronize(device)  # they may be replaying
        _recorder.recordings.clear()
        _recorder.pools.clear()
        torch.cuda.empty_cache()


def _record(function: Function, tensors: tuple[Tensor, ...], numbers: Any) -> _Recording:
    device = tensors[0].device
    if device not in _recorder.pools:
        _recorder.pools[device] = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)
    pool, aside = _recorder.pools[device]
    # What is made in inference mode could not be written to outside of it.
    with torch.inference_mode(False), torch.no_grad():
        inputs = tuple(tensor.clone() for tensor in tensors)
        function(*inputs, **numbers)  # plans of transforms are made outside of a recording
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool, aside, capture_error_mode="thread_local"):
            result = function(*inputs, **numbers)
    return _Recording(graph, inputs, result)
