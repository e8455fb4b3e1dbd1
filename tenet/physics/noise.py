"""Noise of a microscope, whose spread grows with the light, and what its electronics add."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
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
        *,
        smear: Tensor | float = 0.0,
        clip: bool = True,
    ) -> Tensor:
        """Add noise N(0, 1)·(a·x + σ), times `stronger`, to `image` and clip it to [0, 1].

        With `smear` s, each pixel has s times the noise of the one before it on its line as well,
        as where a detector is slower than a pixel. The strength of the noise stays, and neighbours
        have a correlation of s / (1 + s²).

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
        if _any(smear):
            spread = (1 + torch.as_tensor(smear).square()).sqrt()
            normal = (normal + smear * normal.roll(1, -1)) / spread
        noisy: Tensor = image + normal * stronger * (self.a * image + self.sigma)
        return noisy.clamp(0, 1) if clip else noisy

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


@dataclass(frozen=True, eq=False)
class Readout:
    """What a detector's electronics make of a signal: rows, offset, ends of the range, levels.

    Each row of each plane is scanned with a gain and an offset of its own. An offset is added to
    all. The signal is cut off at 0 and at the ceiling, and rounded to equal levels between them.
    The defaults add nothing; a Tensor has one number for each image of a batch, shape
    (N, 1, 1, 1, 1).

    Attributes
    ----------
    row_gain, row_offset : float or Tensor
        Standard deviation of the gain of rows, as a share, and of the offset of rows.
    offset : float or Tensor
        Of all voxels; one below 0 hides dim signals below the black level.
    levels : float or Tensor
        Greatest level, 2^bits − 1; 0: no rounding.

    Examples
    --------
    >>> Readout(offset=-0.1, levels=255.0)(torch.tensor([0.05, 0.5, 1.2]), 1.0, None)
    tensor([0.0000, 0.4000, 1.0000])
    """

    row_gain: Tensor | float = 0.0
    row_offset: Tensor | float = 0.0
    offset: Tensor | float = 0.0
    levels: Tensor | float = 0.0

    def __call__(
        self, signal: Tensor, ceiling: Tensor | float, generator: torch.Generator | None
    ) -> Tensor:
        """The image (N, 1, Z, Y, X) of a signal; without a generator no row is drawn."""
        if generator is not None and _any(self.row_gain, self.row_offset):
            gain, offset = _rows(signal, generator), _rows(signal, generator)
            signal = signal * (1 + self.row_gain * gain) + self.row_offset * offset
        ceiling = torch.as_tensor(ceiling, dtype=signal.dtype, device=signal.device)
        image = (signal + self.offset).clamp(min=0).clamp(max=ceiling)
        if not _any(self.levels):
            return image
        levels = torch.as_tensor(self.levels, dtype=signal.dtype, device=signal.device)
        step = ceiling / levels.clamp_min(1)
        return torch.where(levels > 0, (image / step).round() * step, image)

    def to(self, device: torch.device) -> "Readout":
        """The same on a device.

        Examples
        --------
        >>> Readout(offset=0.1).to(torch.device("cpu")).offset
        0.1
        """

        def there(value: Tensor | float) -> Tensor | float:
            return value.to(device) if isinstance(value, Tensor) else value

        return Readout(*map(there, (self.row_gain, self.row_offset, self.offset, self.levels)))

    @classmethod
    def draw(
        cls,
        n: int,
        rng: np.random.Generator,
        *,
        most_row_gain: float = 0.0,
        most_row_offset: float = 0.0,
        offset: tuple[float, float] = (0.0, 0.0),
        bits: tuple[int, ...] = (),
    ) -> "Readout":
        """Draw the readout of n images, each number uniformly; nothing where there is no choice.

        Examples
        --------
        >>> readout = Readout.draw(2, np.random.default_rng(0), bits=(8, 12))
        >>> sorted(set(readout.levels.flatten().tolist()) | {255.0, 4095.0})
        [255.0, 4095.0]
        """

        def between(low: float, high: float) -> Tensor | float:
            return _of_each(rng.uniform(low, high, n)) if high > low else low

        rows, offsets = between(0, most_row_gain), between(0, most_row_offset)
        shift = between(*offset)
        levels = _of_each(2.0 ** rng.choice(bits, n) - 1) if bits else 0.0
        return cls(rows, offsets, shift, levels)


def saturating_gain(image: Tensor, share: Tensor) -> Tensor:
    """The gain at which a share of the voxels of each image reaches 1.

    Parameters
    ----------
    image : Tensor, shape (N, 1, Z, Y, X)
        Not negative.
    share : Tensor, shape (N, 1, 1, 1, 1)
        In [0, 1); 0 brings the brightest voxel to 1.

    Returns
    -------
    Tensor, shape (N, 1, 1, 1, 1)
        1 for an image without light.

    Examples
    --------
    >>> image = torch.arange(1.0, 101).view(1, 1, 4, 5, 5) / 50
    >>> gain = saturating_gain(image, torch.full((1, 1, 1, 1, 1), 0.1))
    >>> int((gain * image > 0.999).sum())
    10
    """
    gains = []
    for one, part in zip(image.flatten(1), share.flatten(), strict=True):
        brightest = max(int(part * one.numel()), 1)
        level = one.topk(brightest).values[-1]
        gains.append(torch.where(level > 0, 1 / level, torch.ones_like(level)))
    return torch.stack(gains).view(-1, 1, 1, 1, 1)


def _any(*values: Tensor | float) -> bool:
    return any(bool(torch.as_tensor(value).any()) for value in values)


def _rows(image: Tensor, generator: torch.Generator) -> Tensor:
    """Normal numbers (N, 1, Z, Y, 1), one for each row of an image."""
    shape = (*image.shape[:-1], 1)
    return torch.randn(shape, generator=generator, device=generator.device).to(image)


def _of_each(values: NDArray[Any]) -> Tensor:
    """Numbers of images as float32 (N, 1, 1, 1, 1)."""
    return torch.from_numpy(values.astype(np.float32)).view(-1, 1, 1, 1, 1)
