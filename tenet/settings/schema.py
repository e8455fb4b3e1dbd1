"""The schema of an experiment's settings: a class per section, typed, validated and frozen.

A key that a file omits means what the published code did, so that users' own files mean the same;
`config/experiments/default.json` holds the recommended settings on top of that. Any key with a
``$`` is a comment. `tenet.settings.load` reads the files.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tenet.physics.optics import Optics, RadialPSF, gaussian, gibson_lanni, lookup_padding
from tenet.settings.ranges import (
    ZYX,
    AtLeastOne,
    Blocks,
    Channels,
    Count,
    Fraction,
    NotNegative,
    Positive,
    PositiveInt,
    Rate,
    RefractiveIndex,
    Seed,
    Signed,
    Thickness,
    Width,
    check_activity,
    check_length,
    check_network,
    check_psf,
    check_psfs,
    check_volume,
)
from tenet.settings.sections import Section, validated

ShapeLoss = Literal[
    "nn.BCELoss()", "nn.BCEWithLogitsLoss()", "nn.MSELoss()", "bce", "bce_dice", "mse"
]
DATASETS = ("pretrain_dataset", "pretrain_val_dataset", "train_dataset", "val_dataset")
#: Keys that are read as published files hold them and do nothing, with the values that ask for
#: nothing either; any other value is noted when a file is loaded.
COMPATIBILITY: dict[str, tuple[Any, ...]] = {
    "params.partial": (None,),
    **{f"{dataset}.surround": (False,) for dataset in DATASETS},
    "pretrain_loop.partial": (None, "params['partial']"),
    "pretrain_loop.compile": (False,),
    "train_loop.partial": (None, "params['partial']"),
    "train_loop.compile": (False,),
    "train_loop.encoder_learns_from": ("raw",),
    "train_loop.loss_fn": ("nn.MSELoss()", "mse"),
    "train_loop.is_instantblur": (False,),
}


class ModelParams(Section):
    """`params`: the network, the microscope and the noise."""

    # network
    network: Literal["jnet", "coarse"] = "jnet"
    hidden_channels_list: Annotated[Channels, Field(max_length=8)] = (16, 32, 64, 128, 256)
    attn_list: tuple[bool, ...] = ()
    nblocks: Blocks = 2
    activation: Literal["nn.ReLU(inplace=True)", "nn.ReLU()", "relu"] = "relu"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    superres: Literal[True] = True
    partial: Literal["encoder", "decoder"] | None = None  # read for compatibility; does nothing
    deconvolution_steps: Annotated[int, Field(ge=0, le=10_000)] = 0
    reconstruct: bool = True
    apply_vq: bool = True
    use_x_quantized: bool = True
    threshold: Fraction = 0.5
    use_fftconv: bool = True
    mu_z: Signed = 1.2
    sig_z: Positive = 0.3
    # point spread function
    blur_mode: Literal["gibsonlanni", "gaussian"] = "gibsonlanni"
    psf_sampling: Literal["lookup", "continuous"] = "lookup"
    photons: Literal[1, 2] = 1
    size_x: PositiveInt = 51
    size_y: PositiveInt = 51
    size_z: PositiveInt = 201
    NA: Annotated[float, Field(le=2)]
    wavelength: Positive
    M: Annotated[float, Field(gt=0, le=1000)] = 20
    ns: RefractiveIndex = 1.4
    ng0: RefractiveIndex = 1.5
    ng: RefractiveIndex = 1.5
    ni0: RefractiveIndex = 1.33
    ni: RefractiveIndex = 1.33
    ti0: Thickness = 150
    tg0: Thickness = 170
    tg: Thickness = 170
    res_lateral: Positive
    res_axial: Positive
    pZ: Thickness = 0
    bet_z: Width = 5.0
    bet_xy: Width = 10.0
    # noise
    poisson_weight: Annotated[float, Field(gt=0, lt=1)] = 0.001
    sig_eps: Annotated[float, Field(gt=0, lt=1)] = 0.001
    noise: Literal["published", "consistent"] = "published"
    background: NotNegative = 0.01
    scale: Annotated[int, Field(gt=0, le=100)]
    # fit of the PSF network
    mid: Annotated[int, Field(gt=0, le=1024)] = 40
    loss_fn: Literal["nn.MSELoss()", "mse"] = "mse"
    lr: Rate = 1e-2
    num_iter_psf_pretrain: Annotated[int, Field(gt=0, le=10**7)] = 20_000
    nipsf_loss_target: Positive = 1e-5
    device: str = "auto"

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
    def coarse_voxel_size_um(self) -> tuple[float, float, float]:
        """Voxel size of raw stacks along z, y, x in µm."""
        return self.res_axial, self.res_lateral, self.res_lateral

    @property
    def fine_voxel_size_um(self) -> tuple[float, float, float]:
        """Voxel size of the fine grid along z, y, x in µm."""
        return self.res_axial / self.scale, self.res_lateral, self.res_lateral

    @property
    def divisor_zyx(self) -> tuple[int, int, int]:
        """What the axes of a fine crop must be divisible by: scale, and halving at each level."""
        depth = len(self.hidden_channels_list) - 1
        if self.network == "jnet":
            return math.lcm(2**depth, self.scale), 2**depth, 2**depth
        z_levels = sum(2 ** (level + 1) > self.scale for level in range(depth))
        return self.scale * 2**z_levels, 2**depth, 2**depth

    @property
    def coarse_divisor_zyx(self) -> tuple[int, int, int]:
        """The same for a coarse crop: it makes up whole voxels of the network's lowest level."""
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
        )

    def model_psf(self) -> RadialPSF:
        """The theoretical PSF: `psf(z_um, r_um)`."""
        if self.blur_mode == "gaussian":  # bet_z is in coarse planes, bet_xy in pixels
            return gaussian(self.bet_z * self.res_axial, self.bet_xy * self.res_lateral)
        return gibson_lanni(self.optics)


class Dataset(Section):
    """`*_dataset`: crops, masks and how they are accepted. Lengths in fine voxels."""

    folderpath: str = ""
    labelname: str = "_label"
    size: ZYX | None = None
    cropsize: ZYX = (240, 112, 112)
    margin: tuple[Count, Count, Count] = (0, 0, 0)
    I: Annotated[int, Field(gt=0, le=10**7)] = 200  # noqa: E741
    low: Count = 0
    high: Count = 16
    scale: PositiveInt | None = None
    train: bool = True
    mask: bool = False
    mask_size: ZYX = (1, 10, 10)
    mask_num: Count = 0
    surround: bool = False  # read for compatibility; does nothing
    surround_size: ZYX = (32, 4, 4)  # read for compatibility; does nothing
    seed: Seed = 0
    augment: bool = True
    normalisation: Literal["none", "minmax", "percentile"] = "minmax"
    min_foreground: Fraction = 0.001


class TestDataset(Section):
    """`test_dataset`: images that training never sees."""

    test_images: tuple[str, ...] = ()


class Optimisation(Section):
    """How weights move: shared by `pretrain_loop` and `train_loop`."""

    batch_size: Annotated[int, Field(gt=0, le=4096)] = 1
    n_epochs: PositiveInt = 100
    lr: Rate = 1e-3
    path: str = "model"
    savefig_path: str = "train"
    # read for compatibility; does nothing: what is trained is chosen by `finetune --train`
    partial: Literal["encoder", "decoder", "params['partial']"] | None = None
    es_patience: PositiveInt | None = None
    is_vibrate: bool = False
    optimizer: Literal["adam", "adamw", "muon"] = "adam"
    weight_decay: NotNegative = 0.0
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    warmup_epochs: Count = 10
    warmup_steps: Annotated[int, Field(ge=0, le=10**9)] = 0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    # batches whose mean gradient makes a step: a large batch in the memory of a small one
    accumulate: PositiveInt = 1
    # keep only what goes into the encoder's residual blocks, and compute them again: less memory
    checkpoint: bool = False
    compile: bool = False  # read for compatibility; does nothing
    gradient_norm: Positive | None = None

    def steps_of(self, crops: int) -> int:
        """Steps that so many crops make, at least one."""
        return max(crops // (self.batch_size * self.accumulate), 1)


class PretrainLoop(Optimisation):
    """`pretrain_loop`: supervised training on phantoms."""

    loss_fnx: ShapeLoss = "bce"
    loss_fnz: ShapeLoss | Literal["masked_bce"] = "bce"
    ewc: Literal[None] = None
    weight_x: NotNegative = 1.0
    weight_z: NotNegative = 1.0
    without_noise: bool = False


class MRFWeights(Section):
    """`mrfloss_weights`: the four configurations of a voxel and its neighbour."""

    l_00: Signed = 0.0
    l_01: Signed = 0.0
    l_10: Signed = 0.0
    l_11: Signed = 0.0


class TrainLoop(Optimisation):
    """`train_loop`: fine-tuning on raw stacks."""

    loss_fn: ShapeLoss = "mse"  # read for compatibility; does nothing
    ewc: Literal[True] | None = True
    params: str = "params"
    reconstruct: bool = True
    is_instantblur: bool = False  # read for compatibility; does nothing
    adjust_luminance: bool = False
    zloss_weight: NotNegative = 1.0
    ewc_weight: NotNegative = 1.0
    ewc_batches: PositiveInt = 100
    qloss_weight: NotNegative = 1.0
    ploss_weight: NotNegative = 1.0
    mrfloss_order: Literal[1] = 1
    mrfloss_dilation: Annotated[int, Field(gt=0, le=100)] = 1
    mrfloss_weights: MRFWeights = MRFWeights()
    rehearsal_weight: NotNegative = 0.0
    freeze_norm: bool = False
    # read for compatibility; does nothing: the encoder learns from raw crops and from rehearsal
    encoder_learns_from: Literal["raw", "rehearsal"] = "raw"
    psf_lr: Rate | None = None
    stretch_lr: Rate | None = None
    scan_stretch: bool = False


class PhantomSet(Section):
    """`simulation_data_generation`: the phantoms for pre-training."""

    dataset_name: str = "_var_num_realisticdata3"
    train_num: PositiveInt = 16
    valid_num: PositiveInt = 4
    image_size: ZYX = (1200, 500, 500)
    train_object_num_min: PositiveInt = 1500
    train_object_num_max: PositiveInt = 2500
    valid_object_num_min: PositiveInt = 1500
    valid_object_num_max: PositiveInt = 2500
    object_scale: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    line_fraction: Fraction = 0.95
    line_thickness: tuple[AtLeastOne, AtLeastOne] = (7.0, 7.0)

    @model_validator(mode="after")
    def _can_be_made(self) -> "PhantomSet":
        for name, (least, most) in {
            "train_object_num": (self.train_object_num_min, self.train_object_num_max),
            "valid_object_num": (self.valid_object_num_min, self.valid_object_num_max),
            "line_thickness": self.line_thickness,
        }.items():
            if least > most:
                raise ValueError(f"{name}: at least {least:g} but at most {most:g}; exchange them")
        check_volume(self.image_size)
        return self


class Range(Section):
    """A hyper-parameter that moves from one end to the other."""

    min: NotNegative
    max: NotNegative


class Vibration(Section):
    """`vibration`: ranges of the z-stack misalignment."""

    max_step: PositiveInt = 60
    b_sigma: Range = Range(min=0, max=0.2)
    amp_alpha: Range = Range(min=0, max=2)
    omega_alpha: Range = Range(min=0, max=2)
    noise_inv_var_alpha: Range = Range(min=2, max=10)


AlignmentLoss = Literal["pixelwise", "perceptual", "segmentation"]


def _summands(value: Any) -> Any:
    """The parts of a sum: "pixelwise + segmentation" -> ("pixelwise", "segmentation")."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split("+"))
    return tuple(value) if isinstance(value, list) else value


class AlignParams(Section):
    """`align_params`: the network that aligns the planes of a stack before the encoder.

    It is trained for as long as the encoder (`pretrain_loop`, `pretrain_dataset`), on planes that
    moved as `vibration` says. What is None is as for the encoder.
    """

    loss_mode: Annotated[
        tuple[AlignmentLoss, ...], Field(min_length=1), BeforeValidator(_summands)
    ] = ("pixelwise",)
    hidden_channels_list: Channels | None = None
    nblocks: Blocks | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None


class Microscopes(Section):
    """`microscopes`: what pre-training images its phantoms with, so that one encoder serves many.

    Each of `count` PSFs is the told one with an NA up to a fraction `na_spread` higher or lower,
    focused at up to `depth` µm into the sample (spherical aberration). With `count` 0 all images
    are blurred by the told PSF. Up to `most_haze` of the light is spread all over the grid of the
    PSF, which the network is not told.

    Drawn for each image: a share of the light, from `least_light` to all; where the detector
    saturates, from `least_ceiling` to 1; its noise, up to `noise_spread` times stronger or weaker
    than told; and its contrast, a power from 1 to `most_contrast` of all brightness, which makes
    dim objects dimmer.
    """

    count: Annotated[int, Field(ge=0, le=1000)] = 0
    na_spread: Annotated[float, Field(ge=0, lt=1)] = 0.0
    depth: Annotated[float, Field(ge=0, le=1e5)] = 0.0
    most_haze: Fraction = 0.0
    least_light: Annotated[float, Field(gt=0, le=1)] = 1.0
    least_ceiling: Annotated[float, Field(gt=0, le=1)] = 1.0
    noise_spread: AtLeastOne = 1.0
    most_contrast: Annotated[float, Field(ge=1, le=100)] = 1.0


class Visualization(Section):
    """`visualization`: where pictures go, and which planes they show."""

    path: str = "results/images"
    z_stack: Count = 12
    x_slice: Count = 64
    mip: PositiveInt = 12


class Experiment(Section):
    """One experiment, complete: what a training or an inference needs to know."""

    name: str
    explanation: str = ""
    pretrained_model: str = ""
    params: ModelParams
    pretrain_dataset: Dataset = Dataset()
    pretrain_val_dataset: Dataset = Dataset(I=20, low=16, high=20, seed=907)
    pretrain_loop: PretrainLoop = PretrainLoop()
    simulation_data_generation: PhantomSet = PhantomSet()
    train_dataset: Dataset = Dataset()
    val_dataset: Dataset = Dataset(I=20, train=False, seed=723)
    test_dataset: TestDataset = TestDataset()
    vibration: Vibration = Vibration()
    microscopes: Microscopes = Microscopes()
    train_loop: TrainLoop = TrainLoop()
    align_params: AlignParams | None = None
    visualization: Visualization = Visualization()

    @model_validator(mode="after")
    def _crops_fit(self) -> "Experiment":
        params = self.params
        for section in DATASETS:
            dataset: Dataset = getattr(self, section)
            if dataset.scale not in (None, params.scale):
                raise ValueError(
                    f"{section}.scale {dataset.scale} is not params.scale {params.scale}"
                )
            if any(n % d for n, d in zip(dataset.cropsize, params.divisor_zyx, strict=True)):
                raise ValueError(
                    f"{section}.cropsize {dataset.cropsize} does not fit: it must be divisible "
                    f"by {params.divisor_zyx} for scale {params.scale} and "
                    f"{len(params.hidden_channels_list)} levels"
                )
            self._check_activity(section)
        own = self.align_params and self.align_params.hidden_channels_list
        if own and len(own) > len(params.hidden_channels_list):
            raise ValueError(
                f"align_params.hidden_channels_list has {len(own)} levels; at most as many as the "
                f"encoder's {len(params.hidden_channels_list)} fit its crops"
            )
        if self.align_params:
            channels = own or params.hidden_channels_list
            check_network("align_params.", channels, self.align_params.nblocks or params.nblocks)
        check_psfs(self.microscopes.count, (params.size_z, params.size_y, params.size_x))
        return self

    def _check_activity(self, section: str) -> None:
        """Refuse crops whose first level no memory holds."""
        params, dataset = self.params, getattr(self, section)
        loop = self.pretrain_loop if section.startswith("pretrain") else self.train_loop
        crop = [n + 2 * margin for n, margin in zip(dataset.cropsize, dataset.margin, strict=True)]
        if params.network == "coarse":
            crop[0] = -(-crop[0] // params.scale)
        check_activity(section, crop, loop.batch_size, params.hidden_channels_list[0])


def parse_experiment(data: Mapping[str, Any], *, where: str = "settings") -> Experiment:
    """Check a nested mapping and make it an `Experiment`; `where` names it in errors."""
    return validated(Experiment, data, where)


def parse_params(data: Mapping[str, Any], *, where: str = "params") -> ModelParams:
    """Check a `params` section alone."""
    return validated(ModelParams, data, where)
