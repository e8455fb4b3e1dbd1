"""The description of a model for the BioImage Model Zoo, in the words of its specification 0.5.

https://bioimage-io.github.io/spec-bioimage-io/
"""

import importlib
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tenet.enhance.memory import default_overlap
from tenet.enhance.tiles import round_up
from tenet.errors import TenetError, one_line
from tenet.io.results import CHANNELS
from tenet.model.store import MODEL, digest
from tenet.model.trained import TrainedModel
from tenet.settings.schema import ModelParams
from tenet.types import Triple, VoxelSize

#: Files of a package, and its tensors.
WEIGHTS, INPUT, OUTPUT = "weights.pt", "test_input.npy", "test_output.npy"
COVER, README = "cover.png", "README.md"
RAW, ENHANCED = "raw", "enhanced"
#: Percentiles that become 0 and 1, by the normalisation of the settings, as of `intensity_range`.
PERCENTILES = {"percentile": (25.0, 99.99), "minmax": (0.0, 100.0)}
#: How much results may differ on another machine. Differences here are below 1e-5.
TOLERANCE = 1e-3
#: As in CITATION.cff, which is not part of an installed package. The DOI is that of the data.
AUTHORS = ("TENET developers",)
ARTICLE = (
    "Haruhiko Morita, Shuto Hayashi, Takahiro Tsuji, Daisuke Kato, Hiroaki Wake, Teppei Shimamura: "
    "Unsupervised deep learning enables blur-free resolution-enhancement in two-photon microscopy. "
    "Cell Reports Methods, 2025, submitted. The DOI is that of the data."
)
DOI, LICENCE = "10.5281/zenodo.15545449", "MIT"
TAGS = (
    "3d", "two-photon", "fluorescence-light-microscopy", "deconvolution", "super-resolution",
    "restoration", "semantic-segmentation", "unet", "pytorch",
)  # fmt: skip


def specification() -> Any:
    """Import what describes models, which the extra ``zoo`` installs.

    Raises
    ------
    TenetError
        If it is not installed.
    """
    try:
        return importlib.import_module("bioimageio.spec")
    except ImportError:
        raise TenetError(
            "a package for the model zoo needs bioimageio.spec: pip install 'tenet[zoo]'"
        ) from None


@dataclass(frozen=True)
class Sizes:
    """Sizes of inputs, on the coarse grid along z, y and x.

    Attributes
    ----------
    halo_zyx : tuple of int
        Border of a tile whose result other programs leave out: half of the overlap of TENET's
        tiles. A PSF is long, and so its length is not part of the border along z.
    step_zyx : tuple of int
        Sizes rise by this.
    least_zyx : tuple of int
        Least size: two borders, and something between them.
    """

    halo_zyx: Triple
    step_zyx: Triple
    least_zyx: Triple

    @classmethod
    def of(cls, model: TrainedModel) -> "Sizes":
        """Sizes that a model needs."""
        params = model.params
        step = params.coarse_divisor_zyx
        _, overlap, _ = default_overlap(params)
        half = [math.ceil(overlap / 2 / params.scale), overlap // 2, overlap // 2]
        if params.deconvolution_steps:
            half[1] += params.size_y // 2
            half[2] += params.size_x // 2
        z, y, x = (round_up(n, d) for n, d in zip(half, step, strict=True))
        halo, between = (z, y, x), (4, 16, 16)
        z, y, x = (round_up(2 * h + n, d) for h, n, d in zip(halo, between, step, strict=True))
        return cls(halo, step, (z, y, x))


def steps_um(params: ModelParams) -> tuple[VoxelSize, VoxelSize]:
    """Voxel sizes in µm along z, y and x, coarse and fine, from which sizes follow exactly.

    The specification computes sizes and borders as numbers times one step over another, which must
    give whole numbers. Steps with as few digits as float32 has do, because their multiples are not
    rounded in float64.

    Examples
    --------
    >>> import tenet
    >>> (coarse_um, y_um, _), (fine_um, _, _) = steps_um(tenet.load_experiment("scale3").params)
    >>> 7 * coarse_um / fine_um, round(fine_um, 6), round(y_um, 6)
    (21.0, 0.333333, 0.31)
    """
    fine_um, y_um, x_um = (float(np.float32(um)) for um in params.fine_voxel_size_um)
    return (params.scale * fine_um, y_um, x_um), (fine_um, y_um, x_um)


def described(model: TrainedModel, folder: Path) -> Any:
    """Describe the files of a package: the `ModelDescr` of the specification.

    Parameters
    ----------
    model : TrainedModel
        A model of one microscope.
    folder : Path
        Has the files of a package, except for the description.

    Raises
    ------
    ValueError
        If the specification refuses something.
    """
    v0_5 = importlib.import_module("bioimageio.spec.model.v0_5")
    common = importlib.import_module("bioimageio.spec.common")
    params = model.params
    name = re.sub(r"[^A-Za-z0-9_+() -]+", "-", model.folder.resolve().name)[:64]
    pytorch = torch.__version__.partition("+")[0]

    def file(name: str) -> Any:
        return common.FileDescr(source=folder / name)

    authors = [v0_5.Author(name=author) for author in AUTHORS]
    tolerance = v0_5.ReproducibilityTolerance(
        relative_tolerance=TOLERANCE, absolute_tolerance=TOLERANCE
    )
    about = v0_5.BioimageioConfig(
        reproducibility_tolerance=[tolerance],
        architecture_type="3D U-Net",
        modality=f"fluorescence microscopy, {params.photons} photon{'s'[: params.photons - 1]}",
        task="deconvolution, axial super-resolution and segmentation",
        model_parameter_count=sum(p.numel() for p in model.network.encoder.parameters()),
    )
    return v0_5.ModelDescr(
        name=f"TENET {name}",
        description=(
            "Deblurs, super-resolves along z and segments stacks of one microscope: "
            f"{said_microscope(model)}."
        ),
        authors=authors,
        cite=[v0_5.CiteEntry(text=ARTICLE, doi=DOI)],
        license=LICENCE,
        tags=list(TAGS),
        covers=[file(COVER)],
        documentation=file(README),
        timestamp=datetime.fromtimestamp(int((model.folder / MODEL).stat().st_mtime), UTC),
        inputs=[_input(v0_5, model, file(INPUT))],
        outputs=[_output(v0_5, model, file(OUTPUT))],
        weights=v0_5.WeightsDescr(
            torchscript=v0_5.TorchscriptWeightsDescr(
                source=folder / WEIGHTS, pytorch_version=v0_5.Version(pytorch), authors=authors
            )
        ),
        config=v0_5.Config(bioimageio=about, tenet=_record(model)),
    )


def said_microscope(model: TrainedModel) -> str:
    """Optics and voxels of a model in a few words."""
    params = model.params
    z, y, x = params.coarse_voxel_size_um
    photons = "two photons" if params.photons == 2 else "one photon"
    return (
        f"NA {params.NA:g}, {params.wavelength:g} µm, {photons}, "
        f"voxels of {z:g} × {y:g} × {x:g} µm (z, y, x)"
    )


def _record(model: TrainedModel) -> dict[str, Any]:
    """What only TENET asks for."""
    params = model.params
    return {
        "version": version("tenet"),
        "weights_sha256": digest(model.folder / MODEL),
        "threshold": model.threshold,
        "scale": params.scale,
        "NA": params.NA,
        "wavelength_um": params.wavelength,
        "photons": params.photons,
    }


def _input(v0_5: Any, model: TrainedModel, test: Any) -> Any:
    sizes = Sizes.of(model)
    coarse_um, _ = steps_um(model.params)
    space = [
        v0_5.SpaceInputAxis(
            id=v0_5.AxisId(axis),
            size=v0_5.ParameterizedSize(min=least, step=step),
            scale=um,
            unit="micrometer",
            concatenable=False,
        )
        for axis, least, step, um in zip(
            "zyx", sizes.least_zyx, sizes.step_zyx, coarse_um, strict=True
        )
    ]
    return v0_5.InputTensorDescr(
        id=v0_5.TensorId(RAW),
        description="raw intensities",
        axes=[v0_5.BatchAxis(), v0_5.ChannelAxis(channel_names=["intensity"]), *space],
        data=v0_5.IntervalOrRatioDataDescr(type="float32"),
        test_tensor=test,
        preprocessing=_preprocessing(v0_5, model),
    )


def _preprocessing(v0_5: Any, model: TrainedModel) -> list[Any]:
    steps = []
    limits = PERCENTILES.get(model.experiment.train_dataset.normalisation)
    if limits is not None:
        axes = [v0_5.AxisId(axis) for axis in ("channel", "z", "y", "x")]
        kwargs = v0_5.ScaleRangeKwargs(
            axes=axes, min_percentile=limits[0], max_percentile=limits[1]
        )
        steps.append(v0_5.ScaleRangeDescr(kwargs=kwargs))
    if (level := intensity_level(model)) != 1:
        steps.append(v0_5.ScaleLinearDescr(kwargs=v0_5.ScaleLinearKwargs(gain=level)))
    return [*steps, v0_5.ClipDescr(kwargs=v0_5.ClipKwargs(min=0.0, max=1.0))]


def intensity_level(model: TrainedModel) -> float:
    """What the upper percentile becomes: as in the phantoms that the model was calibrated on.

    TENET looks for this number in each stack, which a package cannot.
    """
    by_percentile = model.experiment.train_dataset.normalisation == "percentile"
    return min(model.signal_level, 1.0) if by_percentile else 1.0


def _output(v0_5: Any, model: TrainedModel, test: Any) -> Any:
    halo = Sizes.of(model).halo_zyx
    scale = model.params.scale
    _, (z_um, y_um, x_um) = steps_um(model.params)

    def axis(name: str, um: float, halo: int) -> Any:
        reference = v0_5.SizeReference(tensor_id=v0_5.TensorId(RAW), axis_id=v0_5.AxisId(name))
        return v0_5.SpaceOutputAxisWithHalo(
            id=v0_5.AxisId(name), size=reference, scale=um, unit="micrometer", halo=halo
        )

    most = None if model.params.brightness == "log" else 1.0
    return v0_5.OutputTensorDescr(
        id=v0_5.TensorId(ENHANCED),
        description=(
            "shape: probability that a voxel is in a structure; brightness: of the structure"
        ),
        axes=[
            v0_5.BatchAxis(),
            v0_5.ChannelAxis(channel_names=list(CHANNELS)),
            axis("z", z_um, scale * halo[0]),
            axis("y", y_um, halo[1]),
            axis("x", x_um, halo[2]),
        ],
        data=[
            v0_5.IntervalOrRatioDataDescr(type="float32", range=(0.0, limit))
            for limit in (1.0, most)
        ],
        test_tensor=test,
    )


def write_package(model: TrainedModel, files: Path, folder: Path) -> None:
    """Write a package into a new folder: files, and their description.

    Parameters
    ----------
    model : TrainedModel
    files : Path
        Folder with the files of the package, except for the description.
    folder : Path

    Raises
    ------
    TenetError
        If the specification refuses something.
    """
    spec = specification()
    try:
        spec.save_bioimageio_package_as_folder(described(model, files), output_path=folder)
    except ValueError as error:
        raise TenetError(
            f"{model.folder}: the model zoo's specification refuses it ({one_line(error)})"
        ) from None
