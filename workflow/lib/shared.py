"""Pre-trained models that samples of equal optics and voxels share, each named by what it is.

A name holds all that a pre-training reads of a sample. So the name says which settings the model
has, whatever rows the sample table has and in whatever order, and a finished model is found again.
"""

import re
from dataclasses import dataclass

from tenet.settings.schema import ModelParams

FOLDER = "shared/"
#: Significant digits of voxel sizes and optics. Voxels that differ by less than 0.5 % are mostly
#: equal: calibrations of one microscope differ as much, and a model serves up to 5 %.
VOXEL_DIGITS, OPTICS_DIGITS = 3, 4
_NAME = re.compile("na{0}_{0}nm_n{0}_([12])p_z{0}_xy{0}".format(r"(\d+(?:\.\d+)?)"), re.ASCII)


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


@dataclass(frozen=True)
class SharedModel:
    """What a pre-training for samples reads of them: optics and voxel size.

    Attributes
    ----------
    na, wavelength_nm, ni : float
        Numerical aperture, wavelength in nm, index of the immersion medium.
    photons : int
        1 or 2.
    z_um, xy_um : float
        Voxel size along z, and along y and x, in µm.
    """

    na: float
    wavelength_nm: float
    ni: float
    photons: int
    z_um: float
    xy_um: float

    @classmethod
    def of(cls, params: ModelParams) -> "SharedModel":
        """Round the optics and the voxel size of a sample."""
        return cls(
            _rounded(params.NA, OPTICS_DIGITS),
            _rounded(1000 * params.wavelength, OPTICS_DIGITS),
            _rounded(params.ni, OPTICS_DIGITS),
            params.photons,
            _rounded(params.res_axial, VOXEL_DIGITS),
            _rounded(params.res_lateral, VOXEL_DIGITS),
        )

    @classmethod
    def named(cls, name: str) -> "SharedModel":
        """Read a name.

        Raises
        ------
        ValueError
            If the name is not one that `name` gives.
        """
        found = _NAME.fullmatch(name)
        if found is not None:
            na, wavelength_nm, ni, photons, z_um, xy_um = map(float, found.groups())
            model = cls(na, wavelength_nm, ni, int(photons), z_um, xy_um)
            if model.name == name:
                return model
        raise ValueError(f"{name} names no shared model; such a name is as {EXAMPLE.name}")

    @property
    def name(self) -> str:
        """The name of the model, as ``na0.8_920nm_n1.33_2p_z1_xy0.12``."""
        return (
            f"na{self.na:g}_{self.wavelength_nm:g}nm_n{self.ni:g}_{self.photons}p"
            f"_z{self.z_um:g}_xy{self.xy_um:g}"
        )

    def options(self) -> list[str]:
        """Give the options of `tenet samples experiment`."""
        wavelength_um = _rounded(self.wavelength_nm / 1000, OPTICS_DIGITS)
        words = ["--voxel-size", *(f"{size:g}" for size in (self.z_um, self.xy_um, self.xy_um))]
        words += ["--na", f"{self.na:g}", "--wavelength", f"{wavelength_um:g}"]
        return [*words, "--ni", f"{self.ni:g}", "--photons", str(self.photons)]


EXAMPLE = SharedModel(0.8, 920, 1.33, 2, 1, 0.12)
