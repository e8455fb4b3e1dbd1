"""The linear part of RLTV: a stack, and a volume that reaches beyond the stack."""

import torch
from torch import Tensor
from torch.nn import functional

from tenet.physics.blur import BandLimitedBlur, StridedBlur


class Observation:
    """A, from the fine grid with a margin of half a PSF to the coarse stack, and its adjoint."""

    def __init__(
        self, psf: Tensor, coarse_shape_zyx: torch.Size, scale: int, *, band_limited: bool
    ) -> None:
        self.margin_zyx = tuple(size // 2 for size in psf.shape)
        margin_z, margin_y, margin_x = self.margin_zyx
        planes, rows, columns = coarse_shape_zyx
        self.fine_shape_zyx = (
            planes * scale + 2 * margin_z,
            rows + 2 * margin_y,
            columns + 2 * margin_x,
        )
        blur = StridedBlur(
            psf,
            self.fine_shape_zyx,
            scale,
            first=margin_z + (scale - 1 + psf.shape[0] - 1) // 2,
            coarse_planes=planes,
            inner_only=True,
        )
        self._blur = BandLimitedBlur.of(blur) if band_limited else blur

    def forward(self, fine: Tensor) -> Tensor:
        """Blur and sample: (Z·s, Y, X) with margin to (Z, Y, X) without."""
        _, margin_y, margin_x = self.margin_zyx
        coarse = self._blur.forward(fine[None, None])[0, 0]
        rows, columns = coarse.shape[1:]
        return coarse[:, margin_y : rows - margin_y, margin_x : columns - margin_x]

    def adjoint(self, coarse: Tensor) -> Tensor:
        """Spread back: (Z, Y, X) without margin to (Z·s, Y, X) with."""
        _, margin_y, margin_x = self.margin_zyx
        padded = functional.pad(coarse, (margin_x, margin_x, margin_y, margin_y))
        return self._blur.adjoint(padded[None, None])[0, 0]

    def inside(self, fine: Tensor) -> Tensor:
        """Cut the margin off."""
        return fine[
            tuple(slice(m, n - m) for m, n in zip(self.margin_zyx, fine.shape, strict=True))
        ]
