"""The beams of the bench of real structures, of which the models are told nothing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tenet.physics.blur import centred_planes
from tenet.physics.optics import psf_volume
from tenet.settings.schema import ModelParams

#: Half depth and half width in µm of the grid that stacks are blurred on, and that RLTV is given.
BLUR_REACH_UM, RLTV_REACH_UM = (24.0, 6.0), (12.0, 2.5)


@dataclass(frozen=True)
class Beam:
    """How a laser fills the pupil (None: evenly), and waves of spherical aberration."""

    fill: float | None
    spherical: float = 0.0

    def params(self, told: ModelParams) -> ModelParams:
        """Settings of a microscope that is as the model was told, but for the beam."""
        return told.model_copy(update={"fill": self.fill, "spherical": self.spherical})

    def psf(self, told: ModelParams, reach_um: tuple[float, float]) -> Tensor:
        """The true PSF on the fine grid of a model, up to a distance along z and across."""
        step_um, _, pixel_um = told.fine_voxel_size_um
        planes = centred_planes(2 * round(reach_um[0] / step_um), told.scale)
        side = 2 * round(reach_um[1] / pixel_um) + 1
        grid = (planes, side, side)
        return torch.from_numpy(
            psf_volume(self.params(told).model_psf(), grid, told.fine_voxel_size_um)
        )


BEAMS = {
    "uniform": Beam(None),
    "uniform_aberrated": Beam(None, 0.25),
    "fill07": Beam(0.7),
    "fill07_aberrated": Beam(0.7, 0.25),
    "fill04": Beam(0.4),
    "fill04_aberrated": Beam(0.4, 0.25),
}
