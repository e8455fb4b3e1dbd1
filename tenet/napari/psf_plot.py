"""The PSF as told and the PSF used, drawn in a window."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tenet.enhance.pictures import psf_widths, show_psf, show_psf_profiles
from tenet.enhance.views import STYLE
from tenet.types import VoxelSize

#: Height of the plot in pixels, and how many axial widths of a PSF are shown on either side.
HEIGHT, WIDTHS = 340, 3
SMALL = {"font.size": 7, "axes.titlesize": 7}


class PSFPlot(FigureCanvasQTAgg):
    """Cuts (x, z) of two PSFs, and their profiles along z and x."""

    def __init__(self) -> None:
        super().__init__(Figure(figsize=(3.2, 3.6), layout="constrained"))
        self.setFixedHeight(HEIGHT)

    def draw_psf(self, before: NDArray[Any], after: NDArray[Any], voxel_size_um: VoxelSize) -> None:
        """Draw the PSF as told and the PSF used, which is the one found if one was found.

        Parameters
        ----------
        before, after : ndarray, shape (planes, rows, columns)
        voxel_size_um : tuple of float
            Of both along z, y and x.
        """
        before, after = _middle([before, after], voxel_size_um)
        self.figure.clear()
        with rc_context(STYLE | SMALL):
            grid = self.figure.add_gridspec(2, 2, height_ratios=(1.2, 1))
            for place, psf, title in ((0, before, "PSF as told"), (1, after, "PSF used")):
                show_psf(self.figure.add_subplot(grid[0, place]), psf, voxel_size_um, title)
            profiles = self.figure.add_subplot(grid[1, :])
            show_psf_profiles(profiles, before, after, voxel_size_um)
            profiles.legend(fontsize=6)
            self.draw()


def _middle(psfs: Sequence[NDArray[Any]], voxel_size_um: VoxelSize) -> list[NDArray[Any]]:
    """The planes of PSFs (of one size) where there is something to see."""
    axial_um = max(psf_widths(psf, voxel_size_um)[0] for psf in psfs)
    middle = len(psfs[0]) // 2
    planes = math.ceil(min(WIDTHS * axial_um / voxel_size_um[0], middle))
    return [psf[middle - planes : middle + planes + 1] for psf in psfs]
