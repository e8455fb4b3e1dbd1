"""Noise of a microscope, whose spread grows with the light."""

from typing import Literal

import torch
from torch import Tensor, nn

NoiseKind = Literal["published", "consistent"]


class NoiseModel(nn.Module):
    """Signal-dependent Gaussian noise with learnable strength.

    Simulation adds N(0, 1)·(a·x + σ). The score is a Gaussian negative log-likelihood with variance

    - ``"published"``: a·x + σ, as in the published code, although a·x + σ is the *standard
      deviation* of the noise that was drawn;
    - ``"consistent"``: (a·x + σ)², the variance of what was drawn.

    a and σ pass through a sigmoid and never fall under 1e-3.

    Parameters
    ----------
    a, sigma : float
        Initial values, between 0 and 1.
    kind : {"published", "consistent"}
        Which variance is scored.

    Examples
    --------
    >>> noise = NoiseModel(a=0.02, sigma=0.01)
    >>> round(noise.a.item(), 3), round(noise.sigma.item(), 3)
    (0.02, 0.01)
    """

    # A little under 1e-3, so that a start at exactly 1e-3 still has a gradient.
    smallest = 0.99999e-3

    def __init__(self, a: float, sigma: float, kind: NoiseKind = "published") -> None:
        super().__init__()
        self.kind = kind
        self.logit_a = nn.Parameter(
            torch.logit(torch.tensor(float(a), dtype=torch.float64)).float()
        )
        self.logit_sigma = nn.Parameter(
            torch.logit(torch.tensor(float(sigma), dtype=torch.float64)).float()
        )

    @property
    def a(self) -> Tensor:
        """Noise per unit of signal, 0-dimensional."""
        return self.logit_a.sigmoid().clamp_min(self.smallest)

    @property
    def sigma(self) -> Tensor:
        """Noise without signal, 0-dimensional."""
        return self.logit_sigma.sigmoid().clamp_min(self.smallest)

    def sample(
        self,
        image: Tensor,
        generator: torch.Generator | None = None,
        stronger: Tensor | float = 1.0,
    ) -> Tensor:
        """Add noise N(0, 1)·(a·x + σ), times `stronger`, to `image` and clip to [0, 1].

        Examples
        --------
        >>> noise, generator = NoiseModel(a=0.02, sigma=0.01), torch.Generator().manual_seed(0)
        >>> noisy = noise.sample(torch.full((100, 100), 0.5), generator)
        >>> round(noisy.mean().item(), 2), round(noisy.std().item(), 2)  # 0.02 · 0.5 + 0.01
        (0.5, 0.02)
        """
        normal = torch.randn(
            image.shape, generator=generator, device=generator.device if generator else image.device
        ).to(image.device)
        return (image + normal * stronger * (self.a * image + self.sigma)).clamp(0, 1)

    def variance(self, image: Tensor) -> Tensor:
        """Variance that the likelihood assumes at each voxel of a noise-free `image`.

        Examples
        --------
        >>> noise = NoiseModel(a=0.02, sigma=0.01, kind="consistent")
        >>> round(noise.variance(torch.tensor(0.5)).item(), 5)  # (0.02 · 0.5 + 0.01)²
        0.0004
        """
        spread = self.a * image + self.sigma
        return spread if self.kind == "published" else spread**2
