"""CUDA graphs: many small steps on a GPU are recorded once and replayed.

Launching such steps one by one costs more than their work.

`replayed` is for functions without gradients, `Passes` for networks in training.
"""

import contextlib
import gc
import sys
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

#: Recordings of a process, and of a network in training; what comes later is computed as it is.
MOST, MOST_PASSES = 32, 4

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class _Recording:
    graph: "torch.cuda.CUDAGraph"
    inputs: tuple[Tensor, ...]
    result: Tensor


@dataclass
class _Recorder:
    """All recordings of a process; they share memory because they run one after the other."""

    recordings: dict[Hashable, _Recording]
    pools: dict[torch.device, tuple[Any, "torch.cuda.Stream"]]
    stopped: bool = False


_recorder = _Recorder({}, {})
_lock = RLock()
_off = ContextVar("off", default=False)


@contextlib.contextmanager
def as_it_is() -> Iterator[None]:
    """Record and replay nothing within, so that a profiler sees and counts every operation."""
    before = _off.set(True)
    try:
        yield
    finally:
        _off.reset(before)


@torch.no_grad()
def replayed(function: Function, *tensors: Tensor, **numbers: Hashable) -> Tensor:
    """Compute a function of tensors on a CUDA device, by a CUDA graph.

    Parameters
    ----------
    function : callable
        Called as ``function(*tensors, **numbers)``. The function runs the same kernels whatever the
        tensors hold, draws nothing at random, and never waits for the device.
    *tensors : Tensor
        All on one CUDA device.
    **numbers
        All else that the function depends on.

    Returns
    -------
    Tensor
        What the function returns, without gradients. Where the function cannot be recorded, above
        all for want of memory, this call and all later ones compute it without a recording.
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
                _say(device, error)
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


@dataclass
class _Pass:
    """A recorded forward pass; `waits` for its backward pass, which needs what it keeps."""

    replay: Callable[..., Any]
    waits: bool = False


class Passes:
    """Forward and backward passes of a network in training on a GPU, recorded and replayed.

    Each call whose backward pass is still to come has a recording of its own, at most `MOST_PASSES`
    of them. A call whose backward pass never comes keeps its recording. The next backward pass
    writes its gradients over those of the last one, so each backward pass needs an optimiser step
    of its own. A mode has recordings of its own, because norms in evaluation mode compute other
    things.

    Parameters
    ----------
    function : callable
        The function takes tensors on a CUDA device that need no gradients, never waits for the
        device, and returns tensors, the first of which the loss depends on.
    network : module
        The network whose parameters and buffers the function uses. Some parameters need gradients,
        and all stay at their places in memory.
    """

    def __init__(self, function: Callable[..., Any], network: nn.Module) -> None:
        self.function, self.network = function, network
        self.passes: dict[Hashable, list[_Pass]] = {}
        self.stopped = False

    def __call__(self, *tensors: Tensor) -> Any:
        """Return what the function returns, by a recording where one can be made."""
        device = tensors[0].device
        half = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        modes = tuple(module.training for module in self.network.modules())
        key = (device, half, modes, *((tensor.shape, tensor.dtype) for tensor in tensors))
        if self.stopped or _off.get():
            return self.function(*tensors)
        known = self.passes.setdefault(key, [])
        free = next((one for one in known if not one.waits), None)
        if free is None and sum(map(len, self.passes.values())) < MOST_PASSES:
            try:
                with torch.autocast("cuda", half, enabled=half is not None, cache_enabled=False):
                    free = _Pass(self._record(tensors))
                known.append(free)
            except RuntimeError as error:
                _say(device, error)
            if free is None:  # here, where the error holds no memory any more
                self.stopped = True
                self.passes.clear()
                free_memory()
        if free is None:
            return self.function(*tensors)
        result = free.replay(*tensors)
        free.waits = True
        result[0].register_hook(lambda _: setattr(free, "waits", False))
        return result

    def _record(self, tensors: tuple[Tensor, ...]) -> Callable[..., Any]:
        """Record both passes, and leave buffers and random states unchanged.

        Meanwhile no other thread may use the GPU; the threads that read crops do not.
        """
        before = [buffer.clone() for buffer in self.network.buffers()]
        body = _Body(self.function, self.network)
        device = tensors[0].device
        try:
            with torch.random.fork_rng([device]), torch.cuda.device(device):
                torch.cuda.make_graphed_callables(body, tuple(t.clone() for t in tensors))
        finally:
            for buffer, value in zip(self.network.buffers(), before, strict=True):
                buffer.copy_(value)
        return body.forward


def free_memory() -> None:
    """Give back the memory of passes that nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Body(nn.Module):
    """A function of tensors, and the network whose parameters it depends on."""

    def __init__(self, function: Callable[..., Any], network: nn.Module) -> None:
        super().__init__()
        self.function, self.network = function, network

    def forward(self, *tensors: Tensor) -> Any:
        return self.function(*tensors)


def _say(device: torch.device, error: RuntimeError) -> None:
    reason = str(error).partition("\n")[0]
    print(f"nothing is recorded on {device}, so it is slower: {reason}", file=sys.stderr)
