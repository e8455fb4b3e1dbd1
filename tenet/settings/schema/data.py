"""Data of a training: phantoms, crops of phantoms and of raw stacks, motion and microscopes."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tenet.settings.ranges import (
    ZYX,
    AtLeastOne,
    Count,
    Fraction,
    NotNegative,
    PositiveInt,
    Seed,
    check_volume,
)
from tenet.settings.sections import Section, validated

Share = Annotated[float, Field(gt=0, le=1)]
Offset = Annotated[float, Field(ge=-1, le=1)]
Brightness = Annotated[float, Field(ge=1e-6, le=1)]
Ends = tuple[Annotated[float, Field(ge=0.05, le=100)], Annotated[float, Field(ge=0.05, le=100)]]


class Dataset(Section):
    """Crops, and the boxes of them that are blanked in the encoder's input."""

    cropsize: ZYX = Field(
        default=(240, 112, 112),
        description="Size of a crop along z, y and x, in fine voxels; divisible by the scale and "
        "by 2 for each level of the encoder.",
    )
    I: Annotated[int, Field(gt=0, le=10**7)] = Field(  # noqa: E741
        default=200,
        description="Number of crops in an epoch.",
    )
    mask: bool = Field(
        default=False, description="Whether boxes of the encoder's input are set to 0."
    )
    mask_size: ZYX = Field(
        default=(1, 10, 10),
        description="Size of a blanked box along z, y and x, in raw planes and pixels.",
    )
    mask_num: Count = Field(default=0, description="Number of blanked boxes in each crop.")


class PhantomDataset(Dataset):
    """`pretrain_dataset`: crops of phantoms to train on."""

    margin: tuple[Count, Count, Count] = Field(
        default=(0, 0, 0),
        description="Margin that is simulated around a crop on each side along z, y and x, in fine "
        "voxels, because light comes from beyond the borders of a crop.",
    )
    low: Count = Field(default=0, description="Number of the first volume, counted from 0.")
    high: Count = Field(default=16, description="Number of the last volume, plus 1.")
    augment: bool = Field(
        default=True, description="Whether crops are flipped and rotated at random."
    )
    min_foreground: Fraction = Field(
        default=0.001, description="Least share of a crop's voxels that lie in structures."
    )


class PhantomValidation(PhantomDataset):
    """`pretrain_val_dataset`: crops of phantoms to validate on, the same in each epoch."""

    seed: Seed = Field(default=0, description="Number that the validation crops follow from.")


class RawDataset(Dataset):
    """`train_dataset`: crops of raw stacks to learn from."""

    folderpath: str = Field(
        default="",
        description="Folder of the raw stacks, for the Python classes of tenet.paper.legacy alone; "
        "commands have an option for the folder.",
    )
    augment: bool = Field(
        default=True, description="Whether crops are flipped and rotated at random."
    )
    normalisation: Literal["none", "minmax", "percentile"] = Field(
        default="minmax",
        description="Raw intensities that become 0 and 1. none: 0 and 1; minmax: the least and the "
        "greatest; percentile: robust percentiles.",
    )


class RawValidation(Dataset):
    """`val_dataset`: crops of raw stacks to validate on, the same in each epoch."""

    seed: Seed = Field(default=0, description="Number that the validation crops follow from.")
    stack_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.2,
        description="Share of the stacks that are validated on and not trained on. With 0, or with "
        "fewer than 5 stacks, validation takes other crops of the same stacks.",
    )


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class TestDataset(Section):
    """`test_dataset`: images that training never sees."""

    test_images: tuple[Annotated[str, BeforeValidator(_as_text)], ...] = Field(
        default=(),
        description="Names of the stacks' files, with or without suffixes, or the numbers that the "
        "names end with.",
    )


class Objects(Section):
    """`objects`: how often an object of a phantom is of a kind, in any unit.

    Lines and solids have lengths in fine voxels; the others have lengths in µm.
    """

    line: NotNegative = Field(default=0.0, description="Bent lines.")
    solid: NotNegative = Field(default=0.0, description="Balls, octahedra and cubes.")
    dendrite: NotNegative = Field(
        default=0.0, description="Dendrites of 0.3 to 2 µm with spines, right through the volume."
    )
    axon: NotNegative = Field(
        default=0.0, description="Axons of 0.15 to 0.3 µm with boutons, right through the volume."
    )
    vessel: NotNegative = Field(
        default=0.0, description="Vessels of 4 to 10 µm with branches; half of them are hollow."
    )
    microglia: NotNegative = Field(
        default=0.0, description="Somata of 6 to 10 µm with branching processes of 0.3 to 1 µm."
    )
    soma: NotNegative = Field(
        default=0.0, description="Somata of 8 to 15 µm with the first of their dendrites."
    )

    def shares(self) -> dict[str, float]:
        """The kinds that occur; none in the published mixture."""
        return {kind: share for kind, share in self.model_dump().items() if share}


class PhantomSet(Section):
    """`simulation_data_generation`: the phantoms for pre-training."""

    train_num: PositiveInt = Field(default=16, description="Volumes to train on.")
    valid_num: PositiveInt = Field(default=4, description="Volumes to validate on.")
    image_size: ZYX = Field(
        default=(1200, 500, 500), description="Size of a volume along z, y and x, in fine voxels."
    )
    train_object_num_min: PositiveInt = Field(
        default=1500, description="Fewest objects of a volume."
    )
    train_object_num_max: PositiveInt = Field(default=2500, description="Most objects of a volume.")
    object_scale: Annotated[float, Field(ge=0.01, le=100)] = Field(
        default=1.0, description="Factor on the lengths of lines and the radii of solids."
    )
    line_fraction: Fraction = Field(
        default=0.95, description="Share of the objects that are lines."
    )
    line_thickness: tuple[AtLeastOne, AtLeastOne] = Field(
        default=(7.0, 7.0), description="Least and greatest thickness of a line, in fine voxels."
    )
    objects: Objects = Field(
        default=Objects(),
        description="How often an object is of a kind; all 0: lines and solids by line_fraction.",
    )
    brightest: Annotated[float, Field(ge=0.001, le=1000)] = Field(
        default=1.0,
        description="Brightness of the brightest object; one of 1 fills the range of an image.",
    )
    brightness_decades: Annotated[float, Field(ge=0, le=4)] = Field(
        default=0.0,
        description="Brightness is log-uniform over so many decades below brightest; 0: log-normal "
        "and cut off at brightest.",
    )
    neuropil: Annotated[float, Field(ge=0, le=10)] = Field(
        default=0.0,
        description="Length of dim neurites, in µm for each µm³, that are seen as haze and not "
        "labelled as shape.",
    )
    neuropil_brightness: tuple[Brightness, Brightness] = Field(
        default=(0.003, 0.03),
        description="Least and greatest brightness of a dim neurite, drawn log-uniformly.",
    )
    worlds: tuple[dict[str, Any], ...] = Field(
        default=(),
        examples=["[]"],
        description="Keys of this section that differ from volume to volume: each volume is of one "
        "of these, in turn. none: all volumes are of one kind.",
    )

    def each(self) -> "tuple[PhantomSet, ...]":
        """The settings of each world; of the only one if there are none."""
        if not self.worlds:
            return (self,)
        own = self.model_dump(exclude={"worlds"})
        return tuple(validated(PhantomSet, own | world, "worlds") for world in self.worlds)

    @property
    def is_published(self) -> bool:
        """Whether phantoms are made of what the published ones are made of."""
        new = {"objects", "brightest", "brightness_decades", "neuropil"}
        return all(getattr(self, name) == type(self).model_fields[name].default for name in new)

    @model_validator(mode="after")
    def _can_be_made(self) -> "PhantomSet":
        for name, (least, most) in {
            "train_object_num": (self.train_object_num_min, self.train_object_num_max),
            "line_thickness": self.line_thickness,
            "neuropil_brightness": self.neuropil_brightness,
        }.items():
            if least > most:
                raise ValueError(f"{name}: at least {least:g} but at most {most:g}; exchange them")
        check_volume(self.image_size)
        for number, world in enumerate(self.worlds):
            if fixed := {"worlds", "image_size", "train_num", "valid_num"} & set(world):
                raise ValueError(f"worlds: {min(fixed)} is one for all; take it out of {number}")
        self.each()  # refuses a world that cannot be
        return self


class Range(Section):
    """A hyper-parameter that moves from one end to the other as epochs go by."""

    min: NotNegative = Field(description="The lower end.")
    max: NotNegative = Field(description="The upper end.")


class Vibration(Section):
    """`vibration`: ranges of the z-stack misalignment.

    Plane t is shifted along y and along x by b·t + A·cos(ωt + φ) + ε/ν, mean removed. It grows from
    the first epoch to epoch `max_step`.
    """

    max_step: PositiveInt = Field(default=60, description="Epoch from which on it does not grow.")
    b_sigma: Range = Field(
        default=Range(min=0, max=0.2),
        description="Standard deviation of the drift b, in pixels for each plane.",
    )
    amp_alpha: Range = Field(
        default=Range(min=0, max=2),
        description="Shape of the gamma distribution of the amplitude A, in pixels.",
    )
    omega_alpha: Range = Field(
        default=Range(min=0, max=2),
        description="Shape of the gamma distribution of the frequency ω, in radians for each "
        "plane.",
    )
    noise_inv_var_alpha: Range = Field(
        default=Range(min=2, max=10),
        description="Shape of the gamma distribution of ν, which divides the jitter; it falls from "
        "max to min.",
    )


class FreeMicroscopes(Section):
    """`microscopes.free`: microscopes of every kind, for one encoder that serves all of them.

    Only proportions count: those of planes, pixels and PSF, and the NA over the index.
    """

    scales: Annotated[tuple[Annotated[int, Field(ge=1, le=32)], ...], Field(min_length=1)] = Field(
        default=(1, 2, 3, 4, 5, 6, 8, 10, 12, 16),
        description="Fine planes for each recorded one; one is drawn for each PSF.",
    )
    apertures: Ends = Field(
        default=(0.25, 1.1), description="Least and greatest NA; drawn by logarithms."
    )
    pixels: Ends = Field(
        default=(1.5, 6.0),
        description="Least and greatest width of a PSF (FWHM) across, in pixels.",
    )
    planes: Ends = Field(
        default=(0.8, 16.0), description="Least and greatest length of a PSF (FWHM), in planes."
    )
    one_photon: Fraction = Field(default=0.0, description="Share of the PSFs of one photon.")

    @model_validator(mode="after")
    def _in_order(self) -> "FreeMicroscopes":
        for name in ("apertures", "pixels", "planes"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name}: at least {least:g} but at most {most:g}; exchange them")
        return self


class Microscopes(Section):
    """`microscopes`: what pre-training images its phantoms with, so that one encoder serves many.

    `count` PSFs are drawn around that of `params`, each in focus. Light, saturation, noise and
    contrast are drawn for each image.
    """

    count: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=0, description="PSFs; with 0 all images are blurred by the PSF of params."
    )
    free: FreeMicroscopes | None = Field(
        default=None,
        description="Ranges of microscopes that are drawn whatever params says; null: PSFs are "
        "drawn about that of params.",
    )
    na_spread: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Most that the NA of a PSF is higher or lower, as a share of params.NA.",
    )
    depth: Annotated[float, Field(ge=0, le=1e5)] = Field(
        default=0.0,
        description="Greatest depth of the focus in the sample, in µm (spherical aberration).",
    )
    most_haze: Fraction = Field(
        default=0.0,
        description="Greatest share of the light that is spread all over the grid of the PSF, "
        "which the network is not shown.",
    )
    least_fill: Annotated[float, Field(ge=0.1, le=100)] | None = Field(
        default=None,
        description="Least fill of a PSF, at the same length; 1 / fill is drawn evenly from 0 on; "
        "null: params.fill.",
    )
    most_spherical: Annotated[float, Field(ge=0, le=2)] = Field(
        default=0.0,
        description="Primary spherical aberration that a PSF has more or less than params, at "
        "most, in wavelengths.",
    )
    told_form: Fraction = Field(
        default=0.0,
        description="How far fill and aberration of the PSF that the network is told are from "
        "those of an image towards those of another draw, at most.",
    )
    told_length: AtLeastOne = Field(
        default=1.0,
        description="Factor by which the PSF that the network is told is longer or shorter than "
        "that of an image, at most.",
    )
    least_light: Share = Field(
        default=1.0, description="Least share of the light that reaches an image."
    )
    least_ceiling: Share = Field(
        default=1.0, description="Least intensity, of 0 to 1, at which the detector saturates."
    )
    noise_spread: AtLeastOne = Field(
        default=1.0,
        description="Factor by which noise is stronger or weaker than that of params, at most.",
    )
    most_smear: Fraction = Field(
        default=0.0,
        description="Greatest part of its noise that each pixel passes on to the next one on its "
        "line, as where a detector is slower than a pixel; 1: a correlation of 0.5.",
    )
    most_contrast: Annotated[float, Field(ge=1, le=100)] = Field(
        default=1.0,
        description="Greatest power that all brightness is raised to, which makes dim objects "
        "dimmer.",
    )
    most_saturated: Annotated[float, Field(ge=0, le=0.2)] = Field(
        default=0.0,
        description="Greatest share of an image's voxels that are saturated in full light; light "
        "is scaled so that as many are as is drawn. 0: light is not scaled.",
    )
    offset: tuple[Offset, Offset] = Field(
        default=(0.0, 0.0),
        description="Least and greatest intensity that is added to all voxels before they are cut "
        "off at 0.",
    )
    most_row_gain: Fraction = Field(
        default=0.0,
        description="Greatest standard deviation of the gain of rows (line noise), as a share.",
    )
    most_row_offset: Fraction = Field(
        default=0.0,
        description="Greatest standard deviation of the offset of rows (line noise).",
    )
    bits: tuple[Annotated[int, Field(ge=1, le=24)], ...] = Field(
        default=(),
        description="Bits of the images, of which one is drawn for each; none: no rounding.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> "Microscopes":
        least, most = self.offset
        if least > most:
            raise ValueError(f"offset: at least {least:g} but at most {most:g}; exchange them")
        return self


class Visualization(Section):
    """`visualization`: pictures of the Python classes of `tenet.paper.legacy`; no command reads it.

    Planes, rows and columns are counted from 0 in the raw stack.
    """

    path: str = Field(default="results/images", description="Folder of the pictures.")
    z_stack: Count = Field(default=12, description="Plane that is shown.")
    x_slice: Count = Field(default=64, description="Column that is shown.")
    mip: PositiveInt = Field(
        default=12, description="Planes, rows or columns of which the maximum is shown."
    )
