"""The microscope as one object: PSF, sampling, saturation and noise.

    luminance = brightness * shape  ->  blur by the PSF  ->  every s-th plane
    ->  noise  ->  readout  ->  [0, ceiling]

Simulation, training, calibration and the model image a sharp volume with this, and nowhere else.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tenet.physics.blur import StridedBlur, lookup_blur
from tenet.physics.noise import NoiseModel, Readout
from tenet.physics.psf import PSFSampling
from tenet.types import Triple, VoxelSize


@dataclass(frozen=True, eq=False)
class Microscope:
    """What makes a raw stack of a sharp volume.

    Attributes
    ----------
    psf : Tensor, shape (planes, rows, columns)
        On the fine grid, with sum 1; gradients flow to it.
    noise : NoiseModel
    scale : int
        s, fine planes per coarse plane.
    voxel_size_um : tuple of float
        Of raw stacks along z, y and x.
    sampling : {"continuous", "lookup"}
        Where coarse planes lie: centred on the fine grid, or as the published code has it.
    noise_strength : float or Tensor
        How much stronger the noise is than `noise` says; a Tensor has one number for each image of
        a batch, shape (N, 1, 1, 1, 1).
    noise_smear : float or Tensor
        How much of its noise each pixel passes on to the next one on its line; a Tensor likewise.
    ceiling : float or Tensor
        The intensity at which the detector saturates, at most 1; a Tensor likewise.
    readout : Readout
        What the detector's electronics add.

    Examples
    --------
    >>> from tenet.physics.optics import gaussian, psf_volume
    >>> psf = torch.from_numpy(psf_volume(gaussian(2.0, 0.5), (15, 7, 7), (0.31, 0.31, 0.31)))
    >>> noise = NoiseModel(a=0.01, sigma=0.01)
    >>> microscope = Microscope(psf, noise, scale=3, voxel_size_um=(0.93, 0.31, 0.31))
    >>> luminance = torch.zeros(1, 1, 18, 24, 20)
    >>> luminance[0, 0, 9, 12] = 1  # a line along x
    >>> with torch.no_grad():
    ...     raw = microscope.acquire(luminance, torch.Generator().manual_seed(0))
    >>> raw.shape
    torch.Size([1, 1, 6, 24, 20])
    """

    psf: Tensor
    noise: NoiseModel
    scale: int
    voxel_size_um: VoxelSize
    sampling: PSFSampling = "continuous"
    noise_strength: Tensor | float = 1.0
    noise_smear: Tensor | float = 0.0
    ceiling: Tensor | float = 1.0
    readout: Readout = field(default_factory=Readout)

    def blur(self, zyx_shape: Triple) -> StridedBlur:
        """The linear part, for fine volumes of a shape (Z·s, Y, X).

        Examples
        --------
        >>> psf = torch.ones(1, 1, 1)  # of a microscope that does not blur
        >>> microscope = Microscope(psf, NoiseModel(0.01, 0.01), 3, (0.93, 0.31, 0.31))
        >>> microscope.blur((18, 24, 20)).coarse_planes
        6
        """
        if self.sampling == "continuous":
            return StridedBlur(self.psf, zyx_shape, self.scale)
        step_um, _, pixel_um = self.voxel_size_um
        return lookup_blur(self.psf, zyx_shape, self.scale, res_axial=step_um, res_lateral=pixel_um)

    def expose(self, luminance: Tensor) -> Tensor:
        """Blur and sample a sharp volume: the light that reaches the detector.

        Parameters
        ----------
        luminance : Tensor, shape (N, 1, Z·s, Y, X)
            Brightness · shape, not negative.

        Returns
        -------
        Tensor, shape (N, 1, Z, Y, X)
            Not negative. It is above 1 where there is more light than the detector can show.

        Examples
        --------
        >>> psf = torch.ones(1, 1, 1)  # of a microscope that does not blur
        >>> microscope = Microscope(psf, NoiseModel(0.01, 0.01), 3, (0.93, 0.31, 0.31))
        >>> microscope.expose(torch.rand(1, 1, 18, 24, 20)).shape
        torch.Size([1, 1, 6, 24, 20])
        """
        planes, rows, columns = luminance.shape[2:]
        return self.blur((planes, rows, columns))(luminance).clamp_min(0)

    def record(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        """What the detector makes of the light that reaches it.

        Parameters
        ----------
        image : Tensor, shape (N, 1, Z, Y, X)
            Not negative; see `expose`.
        generator : torch.Generator or None
            Draws the noise; None: no noise is added.

        Returns
        -------
        Tensor, shape (N, 1, Z, Y, X)
            In [0, `ceiling`].

        Examples
        --------
        >>> psf = torch.ones(1, 1, 1)
        >>> microscope = Microscope(psf, NoiseModel(0.01, 0.01), 3, (0.93, 0.31, 0.31), ceiling=0.8)
        >>> microscope.record(torch.tensor([0.5, 0.9]), generator=None)  # without noise
        tensor([0.5000, 0.8000])
        """
        if generator is not None:
            strength, smear = self.noise_strength, self.noise_smear
            image = self.noise.sample(image, generator, strength, smear=smear, clip=False)
        return self.readout(image, self.ceiling, generator)

    def acquire(self, luminance: Tensor, generator: torch.Generator | None) -> Tensor:
        """The raw stack (N, 1, Z, Y, X) of a sharp volume that stands still.

        Examples
        --------
        >>> psf = torch.ones(1, 1, 1)  # of a microscope that does not blur
        >>> microscope = Microscope(psf, NoiseModel(0.01, 0.01), 3, (0.93, 0.31, 0.31))
        >>> generator = torch.Generator().manual_seed(0)
        >>> microscope.acquire(torch.rand(1, 1, 18, 24, 20), generator).shape
        torch.Size([1, 1, 6, 24, 20])
        """
        return self.record(self.expose(luminance), generator)
