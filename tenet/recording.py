"""Many small steps on a GPU, recorded once and replayed, as launching costs more than the work."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
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
_lock = Lock()


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
        What the function returns, without gradients.
    """
    device = tensors[0].device
    shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
    key = (function, device, shapes, tuple(sorted(numbers.items())))
    with _lock, torch.cuda.device(device):
        recording = _recordings.pop(key, None) or _record(function, tensors, numbers)
        _recordings[key] = recording
        while len(_recordings) > KEPT:
            torch.cuda.synchronize(device)  # it may be replaying
            _recordings.popitem(last=False)
        for own, given in zip(recording.inputs, tensors, strict=True):
            own.copy_(given)
        recording.graph.replay()
        return recording.result.clone()


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
        finally:
            graph.capture_end()
    torch.cuda.current_stream(device).wait_stream(aside)
    return _Recording(graph, inputs, result)
