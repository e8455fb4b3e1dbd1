"""The norm of networks that serve every microscope."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class StackNorm(nn.BatchNorm3d):
    """Batch norm with the statistics of each image, in training and afterwards.

    Noise, blur and brightness differ more between microscopes than within a stack, so the mean
    statistics of a training fit no stack. To enhance a stack tile by tile, the statistics are fixed
    to those of the stack (`fixed_norms`): a result does not depend on how the stack is cut.
    """

    #: Statistics are those of the whole batch, and are kept; then those that were kept are used.
    finding = fixed = False

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.train()

    def train(self, mode: bool = True) -> "StackNorm":
        """Stay in evaluation mode, because the norm does the same in both."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        if self.fixed:
            return super().forward(x)
        if self.finding:
            result = self._own(x, self.running_mean, self.running_var)
            assert self.running_var is not None
            self.running_var.nan_to_num_(0.0)  # of a single voxel
            return result
        return self._own(x) if len(x) == 1 else torch.cat([self._own(one) for one in x.split(1)])

    def _own(self, x: Tensor, mean: Tensor | None = None, variance: Tensor | None = None) -> Tensor:
        """Norm of a batch by its own statistics, which replace those that are given.

        `torch.nn.functional.batch_norm` refuses a single voxel.
        """
        weight, bias, cudnn = self.weight, self.bias, torch.backends.cudnn.enabled
        return torch.batch_norm(x, weight, bias, mean, variance, True, 1.0, self.eps, cudnn)


#: The norms that settings name.
NORMS: dict[str, type[nn.BatchNorm3d]] = {"batch": nn.BatchNorm3d, "stack": StackNorm}


def has_stack_norms(network: nn.Module) -> bool:
    """Whether a network has norms whose statistics can be fixed."""
    return any(isinstance(module, StackNorm) for module in network.modules())


@contextlib.contextmanager
def finding_norms(network: nn.Module) -> Iterator[None]:
    """Keep the statistics of the batch that a network is shown meanwhile."""
    with _switched(network, "finding"):
        yield


@contextlib.contextmanager
def fixed_norms(network: nn.Module) -> Iterator[None]:
    """Use the statistics that were kept, also in copies of the network that are made meanwhile."""
    with _switched(network, "fixed"):
        yield


@contextlib.contextmanager
def _switched(network: nn.Module, name: str) -> Iterator[None]:
    norms = [module for module in network.modules() if isinstance(module, StackNorm)]
    for norm in norms:
        setattr(norm, name, True)
    try:
        yield
    finally:
        for norm in norms:
            setattr(norm, name, False)
