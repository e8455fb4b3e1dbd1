"""`params`: the network, the microscope and the noise."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tenet.physics.optics import Optics, RadialPSF, focused, gaussian, gibson_lanni, lookup_padding
from tenet.settings.ranges import (
    Blocks,
    Channels,
    Fraction,
    Positive,
    PositiveInt,
    RefractiveIndex,
    Thickness,
    Width,
    check_length,
    check_network,
    check_psf,
)
from tenet.settings.sections import Section

OpenFraction = Annotated[float, Field(gt=0, lt=1)]


class ModelParams(Section):
    """`params`: the network, the microscope and the noise."""

    # network
    network: Literal["jnet", "coarse", "cells"] = Field(
        default="jnet",
        description="Encoder: jnet, the published one, which works on the fine grid; coarse, which "
        "works on the recorded planes first and needs a fraction of the time; cells, as coarse, "
        "with the same weights for every scale.",
    )
    hidden_channels_list: Annotated[Channels, Field(max_length=8)] = Field(
        default=(16, 32, 64, 128, 256),
        description="Channels of each level of the encoder; as many levels as numbers.",
    )
    attn_list: tuple[bool, ...] = Field(
        default=(),
        description="Whether each level of jnet has self-attention (8 heads) at its bottom; empty: "
        "none has.",
    )
    nblocks: Blocks = Field(
        default=2, description="Residual blocks in a row, at each place of a level."
    )
    norm: Literal["batch", "stack"] = Field(
        default="batch",
        description="Norms of cells: batch, with the statistics of the training; stack, with those "
        "of the stack that is enhanced.",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.5,
        description="Share of the features that a residual block drops while it is trained.",
    )
    deconvolution_steps: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0,
        description="Richardson-Lucy steps whose result the encoder is shown beside the image; 0: "
        "it is shown the image alone, as published.",
    )
    brightness: Literal["sigmoid", "log"] = Field(
        default="sigmoid",
        description="Scale of the brightness: sigmoid, from 0 to 1, as published; log, from 1/100 "
        "to 30, so that structures may be brighter than the detector shows. With log the encoder "
        "is shown logarithms of what is above the noise.",
    )
    early_steps: PositiveInt | None = Field(
        default=None,
        description="The encoder is also shown the result after so many steps, to which a wrong "
        "PSF has done less harm; null, or not below deconvolution_steps: it is not.",
    )
    apply_vq: bool = Field(
        default=True, description="Whether the shape is 0 or 1 before it is blurred in the model."
    )
    use_x_quantized: bool = Field(
        default=True, description="Whether the shape of the decoder is the quantised one."
    )
    threshold: Fraction = Field(
        default=0.5,
        description="Probability from which on a voxel belongs to the shape: in fine-tuning, and "
        "in results unless choose_threshold says else.",
    )
    choose_threshold: bool = Field(
        default=False,
        description="Whether the threshold of results is the best one on tuning phantoms; else it "
        "is threshold.",
    )
    structure_um: Positive | None = Field(
        default=None,
        description="Mean thickness of the structures in µm, where it is known: tuning phantoms "
        "count by how nearly theirs is that thick; null: all count alike.",
    )
    # point spread function
    blur_mode: Literal["gibsonlanni", "gaussian"] = Field(
        default="gibsonlanni", description="Model of the PSF that the PSF network starts from."
    )
    psf_sampling: Literal["lookup", "continuous"] = Field(
        default="lookup",
        description="lookup: planes of the PSF are repeated, as published; continuous: the model "
        "PSF at each fine plane and radius, which the PSF network corrects.",
    )
    photons: Literal[1, 2] = Field(
        default=1, description="Photons of one excitation; 2 squares the intensity of the PSF."
    )
    fill: Annotated[float, Field(ge=0.1, le=100)] | None = Field(
        default=None,
        description="Radius at which the amplitude of the beam has fallen to 1/e in the pupil of "
        "the objective, as a part of the radius of the pupil; null: the pupil is filled evenly. "
        "Two-photon microscopes often have 0.4 to 1.",
    )
    spherical: Annotated[float, Field(ge=-2, le=2)] = Field(
        default=0,
        description="Spherical aberration, in wavelengths: the factor of 6ρ⁴ - 6ρ² + 1 over the "
        "radius ρ of the pupil. The PSF is then asymmetric in z.",
    )
    psf_light: Annotated[float, Field(ge=0.5, le=0.999)] | None = Field(
        default=None,
        description="Share of the light of a line across the axis that the PSF's grid holds, for "
        "stacks of your own and two photons: size_z, size_y and size_x follow from it, at most "
        "401, 101 and 101. null: they follow from the widths of the PSF.",
    )
    size_x: PositiveInt = Field(default=51, description="Columns of the PSF, in pixels; odd.")
    size_y: PositiveInt = Field(default=51, description="Rows of the PSF, in pixels; odd.")
    size_z: PositiveInt = Field(default=201, description="Planes of the PSF, in fine voxels.")
    NA: Annotated[float, Field(le=2)] = Field(
        description="Numerical aperture of the objective; below the immersion index."
    )
    wavelength: Positive = Field(description="Wavelength of the excitation, in µm.")
    ns: RefractiveIndex = Field(default=1.4, description="Refractive index of the sample.")
    ng0: RefractiveIndex = Field(
        default=1.5,
        description="Refractive index of the cover slip, as the objective was designed for.",
    )
    ng: RefractiveIndex = Field(default=1.5, description="Refractive index of the cover slip.")
    ni0: RefractiveIndex = Field(
        default=1.33,
        description="Refractive index of the immersion medium, as the objective was designed for.",
    )
    ni: RefractiveIndex = Field(
        default=1.33, description="Refractive index of the immersion medium."
    )
    ti0: Thickness = Field(
        default=150, description="Thickness of the immersion medium (working distance), in µm."
    )
    tg0: Thickness = Field(
        default=170,
        description="Thickness of the cover slip, as the objective was designed for, in µm.",
    )
    tg: Thickness = Field(default=170, description="Thickness of the cover slip, in µm.")
    res_lateral: Positive = Field(description="Edge of a pixel of the raw stacks, in µm.")
    res_axial: Positive = Field(description="Distance between planes of the raw stacks, in µm.")
    pZ: Thickness = Field(
        default=0,
        description="Depth of the focus below the cover slip, in µm (spherical aberration).",
    )
    bet_z: Width = Field(
        default=5.0,
        description="Width of a Gaussian PSF along z, in raw planes; of blur_mode gaussian.",
    )
    bet_xy: Width = Field(
        default=10.0,
        description="Width of a Gaussian PSF across, in pixels; of blur_mode gaussian.",
    )
    # noise
    poisson_weight: OpenFraction = Field(
        default=0.001,
        description="Part of the noise at first that grows with the intensity (a of a·x + σ).",
    )
    sig_eps: OpenFraction = Field(
        default=0.001,
        description="Part of the noise at first without intensity (σ of a·x + σ), in intensities "
        "from 0 to 1.",
    )
    noise: Literal["published", "consistent"] = Field(
        default="published",
        description="Whether a·x + σ is drawn as a standard deviation and scored as a variance, as "
        "published, or is the variance in both.",
    )
    scale: Annotated[int, Field(gt=0, le=100)] = Field(
        description="Fine planes for each recorded one."
    )
    # fit of the PSF network
    mid: Annotated[int, Field(gt=0, le=1024)] = Field(
        default=40, description="Hidden units of the PSF network."
    )
    num_iter_psf_pretrain: Annotated[int, Field(gt=0, le=10**7)] = Field(
        default=20_000,
        description="Steps of the fit of the PSF network, before it starts again; of lookup.",
    )
    nipsf_loss_target: Positive = Field(
        default=1e-5,
        description="Mean squared error at which the fit of the PSF network ends; of lookup.",
    )

    @model_validator(mode="after")
    def _physical(self) -> "ModelParams":
        if self.NA <= 0:
            raise ValueError(f"NA is {self.NA:g}; it must be above 0")
        if self.NA < 0.01:
            raise ValueError(f"NA is {self.NA:g}; objectives have 0.01 and more")
        if min(self.ni, self.ni0) < self.NA:
            raise ValueError(
                f"NA {self.NA:g} is above the immersion index {min(self.ni, self.ni0):g}: "
                "no objective can do that; check NA and ni"
            )
        check_length("wavelength", self.wavelength, (0.1, 10))
        check_length("res_lateral", self.res_lateral, (0.01, 10))
        check_length("res_axial", self.res_axial, (0.01, 100))
        if self.res_axial < self.res_lateral:
            raise ValueError(
                f"res_axial {self.res_axial:g} is finer than res_lateral {self.res_lateral:g} µm: "
                "axial super-resolution has nothing to do; check their order and units"
            )
        if self.size_x % 2 == 0 or self.size_y % 2 == 0:
            raise ValueError(f"size_y, size_x are {self.size_y}, {self.size_x}; both must be odd")
        if self.norm == "stack" and self.network != "cells":
            raise ValueError(f"norm stack is for network cells alone, not for {self.network}")
        if self.attn_list and len(self.attn_list) != len(self.hidden_channels_list):
            raise ValueError("attn_list and hidden_channels_list differ in length")
        if any(self.attn_list) and self.network != "jnet":
            raise ValueError('attn_list: only network "jnet" has attention; leave attn_list out')
        levels = zip(self.hidden_channels_list, self.attn_list, strict=False)
        if any(channels % 8 for channels, attended in levels if attended):
            raise ValueError("attn_list: attention has 8 heads, which must divide its channels")
        return self

    @model_validator(mode="after")
    def _planes_come_out_as_they_went_in(self) -> "ModelParams":
        if self.psf_sampling != "lookup":
            return self
        if self.size_z < 2 * self.scale:
            raise ValueError(
                f"size_z {self.size_z} holds fewer than two coarse planes of {self.scale}: raise "
                'it, or choose psf_sampling "continuous"'
            )
        beyond = self.size_z - 2 * lookup_padding(self.size_z, self.res_axial, self.res_lateral)
        if not 0 < beyond <= self.scale:
            raise ValueError(
                f"res_axial // res_lateral is {self.res_axial // self.res_lateral:g}, scale "
                f'{self.scale}, size_z {self.size_z}: with psf_sampling "lookup" the blurred stack '
                'has other planes than the raw one; mend one of them, or choose "continuous"'
            )
        return self

    @model_validator(mode="after")
    def _fits_into_memory(self) -> "ModelParams":
        check_psf((self.size_z, self.size_y, self.size_x), self.mid)
        check_network("", self.hidden_channels_list, self.nblocks)
        return self

    @property
    def estimate_steps(self) -> tuple[int, ...]:
        """Steps of each deconvolved stack that the encoder is shown, most first."""
        steps = self.deconvolution_steps, self.early_steps or 0
        return tuple(n for n in dict.fromkeys(steps) if 0 < n <= self.deconvolution_steps)

    @property
    def coarse_voxel_size_um(self) -> tuple[float, float, float]:
        """Voxel size of raw stacks along z, y, x in µm."""
        return self.res_axial, self.res_lateral, self.res_lateral

    @property
    def fine_voxel_size_um(self) -> tuple[float, float, float]:
        """Voxel size of the fine grid along z, y, x in µm."""
        return self.res_axial / self.scale, self.res_lateral, self.res_lateral

    @property
    def divisor_zyx(self) -> tuple[int, int, int]:
        """Divisors of the axes of a fine crop: the scale, and 2 for each level."""
        depth = len(self.hidden_channels_list) - 1
        if self.network == "jnet":
            return math.lcm(2**depth, self.scale), 2**depth, 2**depth
        if self.network == "cells":
            return self.scale, 2**depth, 2**depth
        z_levels = sum(2 ** (level + 1) > self.scale for level in range(depth))
        return self.scale * 2**z_levels, 2**depth, 2**depth

    @property
    def coarse_divisor_zyx(self) -> tuple[int, int, int]:
        """Divisors of the axes of a coarse crop, which fills whole voxels of the lowest level."""
        z, y, x = self.divisor_zyx
        return z // self.scale, y, x

    @property
    def optics(self) -> Optics:
        """The microscope of the Gibson–Lanni model."""
        return Optics(
            NA=self.NA,
            wavelength_um=self.wavelength,
            ns=self.ns,
            ng0=self.ng0,
            ng=self.ng,
            ni0=self.ni0,
            ni=self.ni,
            ti0_um=self.ti0,
            tg0_um=self.tg0,
            tg_um=self.tg,
            pZ_um=self.pZ,
            photons=self.photons,
            fill=math.inf if self.fill is None else self.fill,
            spherical_waves=self.spherical,
        )

    @property
    def searches_form(self) -> bool:
        """Whether the form of the PSF can be found in stacks, and not its length alone.

        The light of a line falls off along z with two photons. With one, all planes hold as much,
        and the grid cuts the PSF.
        """
        return self.photons == 2 and self.psf_light is not None and self.blur_mode == "gibsonlanni"

    def model_psf(self) -> RadialPSF:
        """The PSF that the model starts from, called as `psf(z_um, r_um)`; z has a sign.

        It is that of theory, in focus; with the published sampling as the stage stands.
        """
        if self.psf_sampling == "lookup" and self.blur_mode == "gibsonlanni":
            return gibson_lanni(self.optics)
        return self.focused_psf()

    def focused_psf(self) -> RadialPSF:
        """The PSF of theory with its maximum at 0, whatever the aberration."""
        if self.blur_mode == "gaussian":  # bet_z is in coarse planes, bet_xy in pixels
            return gaussian(self.bet_z * self.res_axial, self.bet_xy * self.res_lateral)
        return focused(self.optics)
