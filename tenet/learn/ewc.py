"""Elastic weight consolidation, which holds the weights that pre-training needed."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tenet.errors import TenetError


class _WeightedSquares(torch.autograd.Function):
    """Σ F (θ - θ*)² of many tensors by √F: few launches on a GPU, nothing kept for the gradient."""

    @staticmethod
    def forward(ctx: Any, centres: list[Tensor], roots: list[Tensor], *weights: Tensor) -> Tensor:
        ctx.centres, ctx.roots = centres, roots
        ctx.save_for_backward(*weights)
        changes = [*torch._foreach_sub(weights, centres)]
        torch._foreach_mul_(changes, roots)
        return torch.stack(torch._foreach_norm(changes)).square().sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        changes = [*torch._foreach_sub(ctx.saved_tensors, ctx.centres)]
        torch._foreach_mul_(changes, ctx.roots)
        torch._foreach_mul_(changes, ctx.roots)
        torch._foreach_mul_(changes, 2 * gradient)
        return None, None, *changes


class ElasticWeights:
    """Elastic weight consolidation: hold on to what pre-training found important.

    ℒ_EWC = (λ/2) Σ F (θ - θ*)² / #parameters, where F is the diagonal of the empirical Fisher
    information: the *mean over batches of the squared gradient* of a negative log-likelihood. For
    F, pre-training multiplies its loss, a mean over voxels, by the number of voxels in a crop,
    because λ is on that scale. Without the factor, F would be smaller by the square of that number,
    and the term would be nothing.

    Parameters
    ----------
    parameters : mapping of str to Tensor
        θ*, the parameters after pre-training.
    fisher : mapping of str to Tensor
        F, same names and shapes.
    """

    def __init__(self, parameters: Mapping[str, Tensor], fisher: Mapping[str, Tensor]) -> None:
        if parameters.keys() != fisher.keys():
            raise TenetError("EWC: parameters and Fisher information name different weights")
        self.parameters = {name: value.detach().clone() for name, value in parameters.items()}
        self.fisher = {name: value.detach().clone() for name, value in fisher.items()}
        self._roots = [self.fisher[name].sqrt() for name in self.parameters]

    @classmethod
    def estimate(cls, module: nn.Module, losses: Iterable[Tensor]) -> "ElasticWeights":
        """Mean of squared gradients over `losses`, one per batch, consumed one at a time."""
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        fisher = {name: torch.zeros_like(p) for name, p in named.items()}
        batches = 0
        for loss in losses:
            gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            for name, gradient in zip(named, gradients, strict=True):
                if gradient is not None:
                    fisher[name] += gradient.detach().square()
            batches += 1
        if batches == 0:
            raise TenetError("EWC: the Fisher information needs at least one batch")
        return cls(named, {name: value / batches for name, value in fisher.items()})

    def loss(self, module: nn.Module) -> Tensor:
        """½ Σ F (θ - θ*)² / #parameters for the present parameters of `module` (λ = 1)."""
        named = dict(module.named_parameters())
        count = sum(value.numel() for value in self.parameters.values())
        sum_of_squares: Tensor = _WeightedSquares.apply(
            [*self.parameters.values()],
            self._roots,
            *(named[name] for name in self.parameters),
        )
        return 0.5 * sum_of_squares / count

    def to(self, device: torch.device | str) -> "ElasticWeights":
        """Move to a device, in place."""
        self.parameters = {name: value.to(device) for name, value in self.parameters.items()}
        self.fisher = {name: value.to(device) for name, value in self.fisher.items()}
        self._roots = [value.to(device) for value in self._roots]
        return self
