"""Settings of pre-training, of fine-tuning, and of the alignment of planes."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tenet.settings.ranges import (
    Blocks,
    Channels,
    Count,
    Fraction,
    NotNegative,
    Positive,
    PositiveInt,
    Rate,
    Signed,
)
from tenet.settings.sections import Section

ShapeLoss = Literal[
    "nn.BCELoss()", "nn.BCEWithLogitsLoss()", "nn.MSELoss()", "bce", "bce_dice", "mse"
]


class Optimisation(Section):
    """How weights move: shared by `pretrain_loop` and `train_loop`."""

    batch_size: Annotated[int, Field(gt=0, le=4096)] = Field(
        default=1, description="Crops of a batch."
    )
    n_epochs: PositiveInt = Field(default=100, description="Epochs at most.")
    lr: Rate = Field(default=1e-3, description="Learning rate.")
    es_patience: PositiveInt | None = Field(
        default=None,
        description="Epochs without a better validation after which training ends, or with wsd "
        "begins to end; null: never.",
    )
    optimizer: Literal["adam", "adamw", "muon"] = Field(default="adam", description="Optimiser.")
    weight_decay: NotNegative = Field(default=0.0, description="Weight decay of adamw and muon.")
    schedule: Literal["plateau", "cosine", "wsd", "constant"] = Field(
        default="plateau",
        description="Learning rate: a tenth whenever ten epochs bring nothing (plateau), falling "
        "to 0 by the end (cosine), the same until es_patience and then falling to 0 over "
        "decay_epochs (wsd), or constant.",
    )
    warmup_epochs: Count = Field(
        default=10, description="Epochs in which the rate of plateau rises at first."
    )
    warmup_steps: Annotated[int, Field(ge=0, le=10**9)] = Field(
        default=0, description="Steps in which the rate of cosine or wsd rises at first."
    )
    decay_epochs: PositiveInt = Field(
        default=8, description="Last epochs, in which the rate of wsd falls to 0."
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Decay of the moving average of the weights that is kept; null: none.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Numbers that the networks compute with; the physics has float32.",
    )
    accumulate: PositiveInt = Field(
        default=1,
        description="Batches whose mean gradient makes a step: a large batch in the memory of a "
        "small one.",
    )
    checkpoint: bool = Field(
        default=False,
        description="Whether residual blocks are computed again for the gradient: less memory, "
        "more time.",
    )
    gradient_norm: Positive | None = Field(
        default=None, description="Norm that gradients are clipped to; null: none."
    )

    @property
    def half_precision(self) -> bool:
        """Whether networks run in bfloat16, where that is fast."""
        return self.precision == "bfloat16"

    def steps_of(self, crops: int) -> int:
        """Number of steps for so many crops, at least one."""
        return max(crops // (self.batch_size * self.accumulate), 1)


class PretrainLoop(Optimisation):
    """`pretrain_loop`: supervised training on phantoms."""

    loss_fnx: ShapeLoss = Field(default="bce", description="Loss of the shape.")
    loss_fnz: ShapeLoss | Literal["masked_bce"] = Field(
        default="bce",
        description="Loss of the brightness: masked_bce in structures alone; any other is the "
        "published one.",
    )
    weight_x: NotNegative = Field(default=1.0, description="Weight of the loss of the shape.")
    weight_z: NotNegative = Field(default=1.0, description="Weight of the loss of the brightness.")
    without_noise: bool = Field(default=False, description="Whether images have no noise.")
    frozen_norm: Fraction = Field(
        default=0.0,
        description="Last share of the epochs, in which batch normalisation keeps its statistics, "
        "so that the network learns in the mode that it is used in.",
    )
    is_vibrate: bool = Field(
        default=False, description="Whether the planes of images are shifted, as vibration says."
    )

    def freezes_norm(self, epoch: int) -> bool:
        """Whether batch normalisation keeps its statistics in an epoch, counted from 0.

        Examples
        --------
        >>> [PretrainLoop(n_epochs=3, frozen_norm=0.6).freezes_norm(epoch) for epoch in range(3)]
        [False, True, True]
        """
        return epoch >= round(self.n_epochs * (1 - self.frozen_norm))


class MRFWeights(Section):
    """`mrfloss_weights`: energies of a voxel and its neighbour."""

    l_00: Signed = Field(default=0.0, description="Both outside of the shape.")
    l_01: Signed = Field(default=0.0, description="The voxel outside, the neighbour inside.")
    l_10: Signed = Field(default=0.0, description="The voxel inside, without any neighbour inside.")
    l_11: Signed = Field(default=0.0, description="The voxel inside, with neighbours inside.")


class TrainLoop(Optimisation):
    """`train_loop`: fine-tuning on raw stacks."""

    ewc: Literal[True] | None = Field(
        default=True,
        description="Whether weights are held near those of pre-training; null: no.",
    )
    adjust_luminance: bool = Field(
        default=False,
        description="Whether a reconstruction is scaled to fit its image best before both are "
        "compared.",
    )
    zloss_weight: NotNegative = Field(
        default=1.0, description="Weight of the prior of the brightness."
    )
    ewc_weight: NotNegative = Field(default=1.0, description="Weight of the elastic weights, λ.")
    ewc_batches: PositiveInt = Field(
        default=100,
        description="Batches that the Fisher information is estimated from, at the end of "
        "pre-training.",
    )
    qloss_weight: NotNegative = Field(default=1.0, description="Weight of the quantisation loss.")
    ploss_weight: NotNegative = Field(
        default=1.0, description="Weight of the distance of the PSF from its model."
    )
    mrfloss_dilation: Annotated[int, Field(gt=0, le=100)] = Field(
        default=1, description="Distance of neighbours in the Markov random field, in fine voxels."
    )
    mrfloss_weights: MRFWeights = Field(
        default=MRFWeights(),
        description="Energies of the Markov random field; all 0: there is none.",
    )
    rehearsal_weight: NotNegative = Field(
        default=0.0,
        description="Weight of the pre-training loss on phantoms, seen by the present PSF.",
    )
    freeze_norm: bool = Field(
        default=False,
        description="Whether batch normalisation keeps the statistics of pre-training.",
    )
    psf_lr: Rate | None = Field(
        default=None, description="Learning rate of the PSF network; null: lr."
    )
    stretch_lr: Rate | None = Field(
        default=None,
        description="Learning rate of the PSF's length and of the noise; null: psf_lr.",
    )
    scan_stretch: bool = Field(
        default=False,
        description="Whether fine-tuning of the decoder alone looks for the PSF by trying lengths, "
        "and with two photons and psf_light also fills and aberrations.",
    )


AlignmentLoss = Literal["pixelwise", "perceptual", "segmentation"]


def _summands(value: Any) -> Any:
    """The parts of a sum: "pixelwise + segmentation" -> ("pixelwise", "segmentation")."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split("+"))
    return tuple(value) if isinstance(value, list) else value


class AlignParams(Section):
    """`align_params`: the network that aligns the planes of a stack before the encoder.

    It is trained for as long as the encoder (`pretrain_loop`, `pretrain_dataset`), on planes that
    moved as `vibration` says.
    """

    loss_mode: Annotated[
        tuple[AlignmentLoss, ...], Field(min_length=1), BeforeValidator(_summands)
    ] = Field(
        default=("pixelwise",),
        description='What is compared with still planes, or a sum such as "pixelwise + '
        'segmentation".',
    )
    hidden_channels_list: Channels | None = Field(
        default=None, description="Channels of each level; null: those of the encoder."
    )
    nblocks: Blocks | None = Field(
        default=None, description="Residual blocks in a row; null: as many as the encoder's."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Share of features dropped in training; null: that of the encoder.",
    )
