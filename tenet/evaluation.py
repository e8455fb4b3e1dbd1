"""From predictions and truth to tables: the same measures, thresholds and intervals for everyone.

`evaluate_segmentation` and `evaluate_beads` give one row per image or bead, method and quantity;
`summary_table` makes the table beside a figure of them, with intervals and published numbers.

Predictions of an experiment lie in ``{method}/{part}/NN.ome.tif``; their first channel holds the
scores (the shape, or an intensity). A `settings.json` beside them has the method's threshold,
chosen on held-out phantoms.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from tenet import metrics
from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.records import read_table
from tenet.io.stack import Stack
from tenet.phantoms import SUFFIX as PHANTOM
from tenet.phantoms import open_phantom, open_phantoms
from tenet.sections import Section, read_record

VoxelSize = tuple[float, float, float]

COLUMNS = ("experiment", "part", "method", "image", "roi", "quantity", "value")
SWEEP_COLUMNS = ("experiment", "part", "method", "image", "roi", "threshold", "quantity", "value")
SUMMARY_COLUMNS = (
    "figure",
    "quantity",
    "condition",
    "method",
    "value",
    "low",
    "high",
    "n",
    "published",
    "note",
    "budget",
)
PREDICTION, SETTINGS = ".ome.tif", "settings.json"

#: Methods whose scores are probabilities; those of all others have no fixed upper end.
PROBABILITIES = ("tenet", "pretrained")
#: Thresholds of the bead sweep, as shares of a method's range of scores.
SWEEP_SHARES = np.arange(1, 20) / 20
#: Ending of quantities that are measured as the published numbers were.
PUBLISHED_DEFINITION = "_published_definition"
BEAD_QUANTITIES = ("volume_um3", "sphericity", "z_xy_ratio", "total_loss")

# A phantom whose planes are no multiple of the scale (12 at most) loses the rest in acquisition.
_MOST_MISSING_PLANES = 11


# Segmentation -------------------------------------------------------------------------------------


def evaluate_segmentation(
    experiment: str,
    predictions: Path,
    phantoms: Path,
    methods: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare segmentations with the phantoms that the images were simulated from.

    Parameters
    ----------
    experiment : str
        Name for the tables.
    predictions : Path
        The experiment's folder: ``{method}/{part}/NN.ome.tif`` and ``{method}/settings.json``.
    phantoms : Path
        Folder with the truth, ``NN.zarr.zip``. Each phantom must have been predicted by every
        method in every part. The last planes of a phantom that no coarse plane covers are left out.
    methods : sequence of str, optional
        By default all that there are.

    Returns
    -------
    table : DataFrame
        `COLUMNS`. Quantities: iou and dice at the method's threshold, average_precision,
        oracle_iou (the best in hindsight), and the threshold itself.
    sweep : DataFrame
        `SWEEP_COLUMNS`. Quantities iou and dice at the thresholds of `metrics.threshold_grid`.

    Raises
    ------
    TenetError
        If a prediction or a threshold is missing, or of another size than the phantom.
    """
    truths = open_phantoms(phantoms)
    names = [phantom.path.name.split(".")[0] for phantom in truths]
    methods = methods_in(predictions, methods)
    parts = sorted({f.name for method in methods for f in _folders(predictions / method)})
    if not parts:
        raise TenetError(f"{predictions}: no method has a folder of predictions; predict first")
    rows: list[dict[str, Any]] = []
    sweeps: list[pd.DataFrame] = []
    for method in methods:
        threshold = read_threshold(predictions / method, predictions)
        stacks = {
            (part, name): _open(predictions / method / part / f"{name}{PREDICTION}")
            for part in parts
            for name in names
        }
        highest = max(float(slab.max()) for s in stacks.values() for _, slab in s.slabs())
        grid = metrics.threshold_grid(max(highest, 0.0))
        for name, phantom in zip(names, truths, strict=True):
            whole, _ = phantom.read(slice(None), slice(None), slice(None))
            for part in parts:
                stack = stacks[part, name]
                truth = _covered(whole, stack, phantom.path)
                score = stack.read()
                table = metrics.threshold_sweep(score, truth, grid)
                found = score >= np.float32(threshold)
                values = {
                    "iou": metrics.iou(found, truth),
                    "dice": metrics.dice(found, truth),
                    "average_precision": metrics.average_precision(score, truth),
                    "oracle_iou": float(table["iou"].max()),
                    "threshold": threshold,
                }
                about = _about(experiment, part, method, name)
                rows += [about | {"quantity": q, "value": v} for q, v in values.items()]
                long = table.melt("threshold", var_name="quantity", value_name="value")
                sweeps.append(long.assign(**about))
    return _frame(rows), pd.concat(sweeps, ignore_index=True)[list(SWEEP_COLUMNS)]


def _covered(truth: NDArray[np.uint8], stack: Stack, phantom: Path) -> NDArray[np.uint8]:
    """The part of a phantom that its prediction covers."""
    missing = truth.shape[0] - stack.zyx_shape[0]
    if truth.shape[1:] != stack.zyx_shape[1:] or not 0 <= missing <= _MOST_MISSING_PLANES:
        raise TenetError(
            f"{stack.path} has the shape {stack.zyx_shape}, {phantom} {truth.shape}: it is not "
            "what the image was simulated from; predict again"
        )
    return truth[: stack.zyx_shape[0]]


# Beads --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Region:
    """A region around a bead: crop of the fine grid, and the bead's expected centre in it."""

    crop: tuple[slice, slice, slice]
    centre_zyx: tuple[float, float, float]


def bead_region(
    centre_zyx: Sequence[float],
    fine_zyx_shape: Sequence[int],
    scale: int,
    planes: int = 24,
    width: int | None = None,
) -> Region:
    """Region of interest around a bead, clipped at the borders of the image.

    Parameters
    ----------
    centre_zyx : sequence of float
        Centre in coarse planes and pixels.
    fine_zyx_shape : sequence of int
        Size of the image on the fine grid.
    scale : int
        Fine planes per coarse plane; coarse plane i is centred on fine plane i·s + (s − 1)/2.
    planes : int
        Height in coarse planes.
    width : int, optional
        Width in pixels: by default 128, or half of a smaller image's shorter side.

    Returns
    -------
    Region

    Raises
    ------
    TenetError
        If the centre is outside of the image.
    """
    width = width or min(128, min(fine_zyx_shape[1:]) // 2)
    crop, expected = [], []
    for at, half, fine_size, step in zip(
        centre_zyx,
        (planes // 2, width // 2, width // 2),
        fine_zyx_shape,
        (scale, 1, 1),
        strict=True,
    ):
        size = fine_size // step
        if not -0.5 <= at <= size - 0.5:
            raise TenetError(
                f"the bead at {tuple(centre_zyx)} (plane, row, column) lies outside of its image, "
                f"which is {tuple(fine_zyx_shape)} on the fine grid: is it the right table of ROIs?"
            )
        start, stop = max(int(at) - half, 0), min(int(at) + half, size)
        crop.append(slice(start * step, stop * step))
        expected.append((at - start) * step + (step - 1) / 2)
    return Region((crop[0], crop[1], crop[2]), (expected[0], expected[1], expected[2]))


def read_rois(path: Path) -> pd.DataFrame:
    """Read a table of beads: roi, image, z, y, x (coarse planes, pixels) and fold.

    A bead that stands in the table twice (same image, same centre) is kept once, as it comes first.

    Raises
    ------
    TenetError
        If the table cannot be read, is empty or lacks a column.
    """
    table = read_table(path, numbers=("roi", "image", "z", "y", "x", "fold"))
    return table.drop_duplicates(["image", "z", "y", "x"], ignore_index=True)


def evaluate_beads(
    experiment: str,
    predictions: Path,
    rois: Path,
    scale: int,
    methods: Sequence[str] | None = None,
    *,
    folds: Sequence[int] | None = None,
    voxel_size_um: VoxelSize | None = None,
    phantoms: Path | None = None,
    planes: int = 24,
    width: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure every bead in the predictions of every method.

    Where a method has one model per fold, a bead is measured in the predictions of its own fold
    (``{method}/fold{K}``), whose model has not seen its image; else in ``{method}/all``.

    Parameters
    ----------
    experiment : str
        Name for the tables.
    predictions : Path
        The experiment's folder; image NN of the table is ``…/NN.ome.tif``, whatever its zeros.
    rois : Path
        The beads; see `read_rois`.
    scale : int
        Fine planes per coarse plane.
    methods : sequence of str, optional
        By default all that there are.
    folds : sequence of int, optional
        Only the beads of these folds, for every method; by default all.
    voxel_size_um : tuple of float, optional
        Voxel size (z, y, x) that all predictions must have; by default that of the first.
    phantoms : Path, optional
        Folder of the phantoms that the images were simulated from. They know the centres of the
        beads exactly, where the table has whole coarse planes; so offsets become exact too.
    planes, width : int
        Size of a region; see `bead_region`.

    Returns
    -------
    table : DataFrame
        `COLUMNS`; `part` is the fold. Quantities: those of `metrics.BeadMetrics`, the Gaussian
        FWHM of the scores along z, y and x through the bead's centroid (fwhm_z_um, …; NaN where
        no Gaussian fits; of an ideal bead 1.7 to 2.0 µm, as a Gaussian is not a box and the region
        is finite), the offset from the expected centre in fine voxels (offset_z, …; NaN for
        a missed bead), the threshold, and the four of `BEAD_QUANTITIES` by the published
        definitions (…_published_definition).
    sweep : DataFrame
        `SWEEP_COLUMNS`, for `BEAD_QUANTITIES`, and the same by the published definitions, at 19
        thresholds from 5 to 95 % of the range of scores: [0, 1] for probabilities, else up to the
        highest score in any of the regions.

    Raises
    ------
    TenetError
        If a prediction, a threshold or the table is missing or wrong.
    """
    table = read_rois(rois)
    if folds is not None:
        table = table[table["fold"].isin(folds)]
        if table.empty:
            raise TenetError(f"{rois}: no bead is in the folds {sorted(folds)}")
    rows: list[dict[str, Any]] = []
    sweep: list[dict[str, Any]] = []
    for method in methods_in(predictions, methods):
        top = 1.0
        if method not in PROBABILITIES:
            beads = _beads(predictions / method, table, scale, phantoms, planes, width)
            top = max(float(bead.score.max()) for bead in beads)
        grid = SWEEP_SHARES * (top if top > 0 else 1.0)
        for part, roi, stack, score, centre in _beads(
            predictions / method, table, scale, phantoms, planes, width
        ):
            voxel_size_um = voxel_size_um or stack.voxel_size_um
            if not _same_size(stack.voxel_size_um, voxel_size_um):
                raise TenetError(
                    f"{stack.path} has voxels of {stack.voxel_size_um} µm, not {voxel_size_um}: "
                    "predict again with the model of this experiment"
                )
            assert voxel_size_um is not None
            about = _about(experiment, part, method, str(roi["image"]), roi["roi"])
            threshold = read_threshold(predictions / method / part, predictions)
            values = _measure(score, threshold, voxel_size_um, centre)
            rows += [about | {"quantity": q, "value": v} for q, v in values.items()]
            for at in grid:
                bead = metrics.measure_bead(score, at, voxel_size_um, expected_centre_zyx=centre)
                measured = {q: getattr(bead, q) for q in BEAD_QUANTITIES}
                measured |= _by_published_definition(score, at, voxel_size_um, centre)
                sweep += [
                    about | {"threshold": at, "quantity": q, "value": value}
                    for q, value in measured.items()
                ]
    return _frame(rows), pd.DataFrame(sweep, columns=list(SWEEP_COLUMNS))


def _measure(
    score: NDArray[np.float32],
    threshold: float,
    voxel_size_um: VoxelSize,
    centre: tuple[float, float, float],
) -> dict[str, float]:
    """All quantities of one bead."""
    bead = metrics.measure_bead(score, threshold, voxel_size_um, expected_centre_zyx=centre)
    offset = np.asarray(bead.offset_zyx)
    through = np.where(np.isfinite(offset), np.asarray(centre) + offset, centre)
    through = np.clip(through, 0, np.asarray(score.shape) - 1)
    widths = metrics.gaussian_fwhm(score, through.tolist(), voxel_size_um)
    return (
        {quantity: getattr(bead, quantity) for quantity in BEAD_QUANTITIES}
        | {f"fwhm_{axis}_um": width for axis, width in zip("zyx", widths, strict=True)}
        | {f"offset_{axis}": float(by) for axis, by in zip("zyx", offset, strict=True)}
        | {"threshold": threshold}
        | _by_published_definition(score, threshold, voxel_size_um, centre)
    )


def _by_published_definition(
    score: NDArray[np.float32],
    threshold: float,
    voxel_size_um: VoxelSize,
    centre: tuple[float, float, float],
) -> dict[str, float]:
    """The quantities of `BEAD_QUANTITIES` as the published numbers were measured."""
    bead = metrics.measure_bead(
        score, threshold, voxel_size_um, expected_centre_zyx=centre, definition="published"
    )
    ratio = bead.z_xy_box_ratio
    values = {
        "volume_um3": bead.volume_um3,
        "sphericity": bead.sphericity,
        "z_xy_ratio": ratio,
        "total_loss": metrics.bead_loss(bead.volume_um3, bead.sphericity, ratio),
    }
    return {f"{quantity}{PUBLISHED_DEFINITION}": value for quantity, value in values.items()}


class _Bead(NamedTuple):
    """A row of the table, where its prediction is, the scores around it and its centre in them."""

    part: str
    roi: dict[Any, Any]
    stack: Stack
    score: NDArray[np.float32]
    centre_zyx: tuple[float, float, float]


def _beads(
    folder: Path,
    rois: pd.DataFrame,
    scale: int,
    phantoms: Path | None,
    planes: int,
    width: int | None,
) -> Iterator[_Bead]:
    by_fold = any(re.fullmatch(r"fold\d+", f.name) for f in _folders(folder))
    for roi in rois.to_dict("records"):
        part = f"fold{roi['fold']}" if by_fold else "all"
        stack = find_image(folder / part, int(roi["image"]))
        centre = true_centre(phantoms, roi, scale)
        region = bead_region(centre, stack.zyx_shape, scale, planes, width)
        yield _Bead(part, roi, stack, stack.read(*region.crop), region.centre_zyx)


def true_centre(
    phantoms: Path | None, roi: Mapping[Any, Any], scale: int
) -> tuple[float, float, float]:
    """Centre of a bead in coarse planes and pixels: that of its phantom, else that of the table.

    Parameters
    ----------
    phantoms : Path, optional
        Folder of phantoms that know their beads' centres (``centres_zyx``, on the fine grid).
    roi : mapping
        A row of the table of beads.
    scale : int
        Fine planes per coarse plane.
    """
    noted = (float(roi["z"]), float(roi["y"]), float(roi["x"]))
    path = phantoms and phantoms / f"{int(roi['image']):02d}{PHANTOM}"
    if not path or not path.exists():
        return noted
    centres = np.asarray(open_phantom(path).attributes.get("centres_zyx", ()), dtype=float)
    if centres.size == 0:
        return noted
    centres = (centres - ((scale - 1) / 2, 0, 0)) / (scale, 1, 1)
    distances = np.abs(centres - noted)
    nearest = int(distances.max(axis=1).argmin())
    if distances[nearest].max() > 1:
        raise TenetError(f"{path} has no bead at {noted}, where the table has one: simulate again")
    z, y, x = (float(value) for value in centres[nearest])
    return z, y, x


def _same_size(first: VoxelSize | None, second: VoxelSize | None) -> bool:
    return first is not None and second is not None and np.allclose(first, second, rtol=0.01)


def find_image(folder: Path, number: int, suffixes: Sequence[str] = (PREDICTION,)) -> Stack:
    """Open the image of a folder whose name ends in a number, whatever its leading zeros.

    Raises
    ------
    TenetError
        If there is none, or more than one.
    """
    found = [
        f
        for suffix in suffixes
        for f in sorted(folder.glob(f"*{suffix}"))
        if (digits := re.search(r"(\d+)$", f.name.removesuffix(suffix)))
        and int(digits[1]) == number
    ]
    if len(found) != 1:
        raise TenetError(
            f"{folder}: {len(found) or 'no'} images of number {number} "
            f"({number:02d}{suffixes[0]}): predict it, or leave one"
        )
    return open_stack(found[0], channel=0)


# Tables beside the figures ------------------------------------------------------------------------

_PUBLISHED_METHODS = {
    "tenet": "TENET",
    "rltv_paper": "RLTV",
    "care": "CARE",
    "neuroclear": "Neuroclear",
}
# Thresholds at which the paper gives its bead measures.
_PUBLISHED_AT = {
    "tenet": "thr0.5",
    "rltv_paper": "thr0.2",
    "care": "thr0.5",
    "neuroclear": "thr0.7",
}


#: The paper's names of ablations.
PUBLISHED_ABLATIONS = {
    "no_ewc": "without_ewc",
    "no_psf": "without_psf",
    "no_vq": "without_vq",
    "x2_ewc": "x2_ewc",
    "x2_psf": "x2_psf",
    "x2_vq": "x2_vq",
    "mrf": "x1_mrf",
    "gaussian_psf": "gaussian_psf",
}
#: What ablations are compared with: nothing left out or changed.
REFERENCE, REFERENCE_EXPERIMENT = "reference", "fig3_beads"
#: Name of the mean over all conditions of the quality bench.
EVERY_CONDITION = "all"
#: End of the name of an experiment that is another one with the published settings.
AS_PUBLISHED = "_as_published"


def summary_table(
    figure: Literal["fig2", "fig3", "fig4", "fig5", "supp", "supp_motion", "quality"],
    tables: Iterable[pd.DataFrame],
    published: Path,
    rng: np.random.Generator,
    psfs: Sequence[Path] = (),
    acquisition: Path | None = None,
    budgets: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Means with cluster-bootstrap 95 % intervals over images, and the published numbers.

    Parameters
    ----------
    figure : {"fig2", "fig3", "fig4", "fig5", "supp", "supp_motion", "quality"}
        The figure; its experiments' names begin with it.
    tables : iterable of DataFrame
        Tables of `evaluate_segmentation` or `evaluate_beads`.
    published : Path
        CSV with the columns figure, quantity, condition, method and value.
    rng : numpy.random.Generator
        Source of the resamples.
    psfs : sequence of Path
        A ``psf.csv`` (which, axis, fwhm_um) of each fold, for figure 3.
    acquisition : Path, optional
        The ``acquisition.json`` of simulated images, which knows the true widths (``fwhm_um``).
    budgets : mapping of str to str, optional
        How each method was trained or tuned, in words.

    Returns
    -------
    DataFrame
        `SUMMARY_COLUMNS`. Conditions of figure 2 are experiment and part (phantoms_noise,
        angle00_no_noise, …), of figure 3 ``beads`` and ``beads_published_definition``; of the PSF's
        widths initial, learned and true. Missing values (no FWHM, a missed bead's offset) are left
        out of the mean and of `n`. Intervals of a single image are empty. `published` has the
        paper's number of TENET, CARE, Neuroclear, and of RLTV for `rltv_paper`: the IoU of all but
        TENET, taken at each image's best threshold, stands beside ``oracle_iou``; the bead
        measures, taken by the paper's definitions, stand beside both conditions. In the supplement
        ``reference`` is the experiment of figure 3 on the beads that the ablations have. Of the
        quality bench ``iou_gain`` is how much higher TENET's IoU is than that of a method, image by
        image, in each condition and, of methods that have all, over all of them; experiments that
        end in ``_as_published`` are methods there, see `published_as_method`.
        ``note`` says why a cell is empty.

    Raises
    ------
    TenetError
        If there is nothing to summarise, or the published numbers cannot be read.
    """
    frame = pd.concat(list(tables), ignore_index=True)
    frame = frame[frame["quantity"] != "threshold"]
    if frame.empty:
        raise TenetError(f"{figure}: there is nothing to summarise; evaluate its experiments first")
    numbers = _read_published(published)
    if figure == "supp":
        frame = _with_reference(frame)
    name = frame["experiment"].str.removeprefix(f"{figure}_")
    if figure == "fig2":
        frame = frame.assign(condition=name + "_" + frame["part"])
    elif figure in ("fig4", "fig5"):
        # A place, where there are several to a stack, counts as one observation.
        roi = frame["roi"].fillna("").astype(str)
        frame = frame.assign(condition=name, image=frame["image"].astype(str) + " " + roi)
    else:
        by_paper = frame["quantity"].str.endswith(PUBLISHED_DEFINITION)
        frame = frame.assign(
            condition=name + np.where(by_paper, PUBLISHED_DEFINITION, ""),
            quantity=frame["quantity"].str.removesuffix(PUBLISHED_DEFINITION),
        )
    frame = published_as_method(frame)
    rows = []
    keys = ["quantity", "condition", "method"]
    for key, group in frame.groupby(keys, sort=False):
        quantity, condition, method = map(str, key)
        finite = group[np.isfinite(group["value"])]
        at = _published_key(figure, quantity, condition, method)
        number = numbers.get(at, np.nan) if at else np.nan
        rows.append(
            {"figure": figure, "quantity": quantity, "condition": condition, "method": method}
            | _mean_and_interval(finite["value"], finite["image"], rng)
            | {"published": number}
        )
    if figure == "quality":
        rows += [{"figure": figure} | row for row in _gains(frame, rng)]
    rows += [{"figure": figure} | row for row in _psf_rows(psfs, acquisition, rng)]
    table = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
    return table.assign(
        note=[_note(figure, row) for row in table.to_dict("records")],
        budget=[
            # The PSF that a model was told, or the true one, was not trained.
            "" if condition in ("initial", "true") else (budgets or {}).get(method, "")
            for method, condition in zip(table["method"], table["condition"], strict=True)
        ],
    )


def published_as_method(frame: pd.DataFrame) -> pd.DataFrame:
    """What is named as published becomes a method of its own under the condition it is named after.

    So the method ``tenet`` of the condition ``matched_as_published`` is the method
    ``tenet_published`` of ``matched``.
    """
    published = frame["condition"].str.endswith(AS_PUBLISHED)
    return frame.assign(
        condition=frame["condition"].str.removesuffix(AS_PUBLISHED),
        method=frame["method"] + np.where(published, "_published", ""),
    )


def _note(figure: str, row: Mapping[Any, Any]) -> str:
    """Why a cell of a row is empty, or what its interval is over."""
    reasons = []
    if row["n"] == 0:
        reasons.append("could not be measured anywhere")
    elif np.isnan(row["low"]):
        reasons.append("no interval: all values are of one image or fold")
    elif figure in ("fig4", "fig5"):
        reasons.append("interval over places, which one stack may share")
    if np.isnan(row["published"]):
        reasons.append("not published")
    return "; ".join(reasons)


def _with_reference(frame: pd.DataFrame) -> pd.DataFrame:
    """Ablations, and what they are compared with (`REFERENCE`) on the same beads."""
    reference = frame["experiment"] == REFERENCE_EXPERIMENT
    keys = ["part", "method", "image", "roi"]
    shared = pd.MultiIndex.from_frame(frame[keys].astype(str)).isin(
        pd.MultiIndex.from_frame(frame.loc[~reference, keys].astype(str))
    )
    frame = frame[~reference | shared]
    return frame.replace({"experiment": {REFERENCE_EXPERIMENT: REFERENCE}})


def _mean_and_interval(
    values: pd.Series, clusters: pd.Series, rng: np.random.Generator
) -> dict[str, float]:
    if values.empty:
        return {"value": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    value, low, high = metrics.bootstrap_interval(
        values.to_numpy(), clusters.astype(str).to_numpy(dtype=str), rng=rng
    )
    return {"value": value, "low": low, "high": high, "n": len(values)}


def _gains(frame: pd.DataFrame, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """TENET's IoU less that of each other method, on the same images."""
    ious = frame[frame["quantity"] == "iou"].pivot_table(
        index=["condition", "image"], columns="method", values="value", sort=False
    )
    if "tenet" not in ious:
        return
    for method in ious.columns.drop("tenet"):
        gain = (ious["tenet"] - ious[method]).dropna().rename("gain").reset_index()
        parts = [*gain.groupby("condition", sort=False)]
        if len(gain) == len(ious):
            parts.append((EVERY_CONDITION, gain))
        for condition, group in parts:
            # Conditions that show the same phantom are one observation of it.
            yield (
                {"quantity": "iou_gain", "condition": str(condition), "method": str(method)}
                | _mean_and_interval(group["gain"], group["image"], rng)
                | {"published": np.nan}
            )


def _psf_rows(
    psfs: Sequence[Path], acquisition: Path | None, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Widths of the PSF over folds, each of which counts as one observation."""
    if not psfs:
        return
    tables = [read_psf_widths(path).assign(fold=str(path)) for path in psfs]
    truth = read_acquisition(acquisition) if acquisition else {}
    if truth and not any((table["which"] == "true").any() for table in tables):
        tables += [
            pd.DataFrame({"which": ["true"], "axis": axis, "fwhm_um": width, "fold": "microscope"})
            for axis, width in truth["fwhm_um"].items()
        ]
    folds = pd.concat(tables)
    for (axis, which), group in folds.groupby(["axis", "which"], sort=False):
        finite = group[np.isfinite(group["fwhm_um"])]
        yield (
            {"quantity": f"psf_{axis}_fwhm_um", "condition": which, "method": "tenet"}
            | _mean_and_interval(finite["fwhm_um"], finite["fold"], rng)
            | {"published": np.nan}
        )


class Acquisition(Section):
    """``acquisition.json``: what is known of simulated stacks."""

    microscope: dict[str, Any]
    fwhm_um: dict[str, Annotated[float, Field(gt=0)]]
    motion_px: Annotated[float, Field(ge=0)] | None = None


class PredictionSettings(Section):
    """``settings.json`` beside predictions: from which value on a voxel belongs to the shape."""

    threshold: float


def read_metrics(path: Path) -> pd.DataFrame:
    """Read a table of `evaluate`, of metrics or of sweeps; values may be missing.

    Raises
    ------
    TenetError
        If it is none.
    """
    columns = [name for name in COLUMNS if name != "value"]
    return read_table(path, columns, gaps=("value",))


def read_acquisition(path: Path) -> dict[str, Any]:
    """Read what is known of a simulated acquisition: microscope, fwhm_um, motion_px.

    Raises
    ------
    TenetError
        If the file cannot be read or lacks one of them.
    """
    try:
        return read_record(Acquisition, path).model_dump()
    except TenetError as error:
        raise TenetError(f"{error}; simulate again") from None


def read_psf_widths(path: Path) -> pd.DataFrame:
    """Read a ``psf.csv``: which (initial, learned, true), axis (axial, lateral), fwhm_um."""
    return read_table(path, ("which", "axis"), gaps=("fwhm_um",))[["which", "axis", "fwhm_um"]]


def _read_published(path: Path) -> Mapping[tuple[str, str, str, str], float]:
    """Published numbers by figure, quantity, condition and method."""
    columns = ("figure", "quantity", "condition", "method")
    table = read_table(path, columns, numbers=("value",))
    keys = zip(*(table[column] for column in columns), strict=True)
    return dict(zip(keys, table["value"].astype(float), strict=True))


def _published_key(
    figure: str, quantity: str, condition: str, method: str
) -> tuple[str, str, str, str] | None:
    """Where the published counterpart of a row stands, if it has one."""
    author = _PUBLISHED_METHODS.get(method)
    if author is None:
        return None
    if figure == "supp":
        at = _PUBLISHED_AT["tenet"]
        if condition.removesuffix(PUBLISHED_DEFINITION) == REFERENCE:
            return "fig3", quantity, at, author
        name = PUBLISHED_ABLATIONS.get(condition.removesuffix(PUBLISHED_DEFINITION))
        return ("supplement", quantity, at, name) if name else None
    if figure not in ("fig2", "fig3"):
        return None
    if figure == "fig3":
        if not condition.startswith("beads"):
            return None
        return figure, quantity, _PUBLISHED_AT[method], author
    if quantity != ("iou" if method == "tenet" else "oracle_iou"):
        return None
    name, part = condition.split("_", 1)
    if name == "phantoms":
        return "fig2abc", "mean_iou", part, author
    angle = re.fullmatch(r"angle(\d+)", name)
    return ("fig2de", "iou", f"{part}_{int(angle[1])}deg", author) if angle else None


def sweep_intervals(
    sweep: pd.DataFrame, rng: np.random.Generator, n_resamples: int = 1000
) -> pd.DataFrame:
    """Mean and cluster-bootstrap 95 % interval at each threshold of a sweep.

    The same resamples of images serve all thresholds and quantities of a method.

    Parameters
    ----------
    sweep : DataFrame
        `SWEEP_COLUMNS`, of one experiment.
    rng : numpy.random.Generator
        Source of the resamples.
    n_resamples : int
        Number of bootstrap samples.

    Returns
    -------
    DataFrame
        Columns method, quantity, threshold, value, low and high; bounds are NaN where there is only
        one image.
    """
    parts = []
    for method, group in sweep.groupby("method", sort=False):
        cells = group.assign(image=group["image"].astype(str)).pivot_table(
            index="image",
            columns=["quantity", "threshold"],
            values="value",
            aggfunc=["sum", "count"],
        )
        sums, counts = cells["sum"].to_numpy(), cells["count"].to_numpy()
        draws = rng.integers(len(sums), size=(n_resamples, len(sums)))
        means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
        low, high = np.percentile(means, (2.5, 97.5), axis=0)
        if len(sums) == 1:
            low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
        index = cells["sum"].columns
        parts.append(
            pd.DataFrame(
                {
                    "method": method,
                    "quantity": index.get_level_values("quantity"),
                    "threshold": index.get_level_values("threshold"),
                    "value": sums.sum(axis=0) / counts.sum(axis=0),
                    "low": low,
                    "high": high,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


# Files --------------------------------------------------------------------------------------------


def read_threshold(folder: Path, top: Path) -> float:
    """Read a method's threshold from the settings in a folder of predictions, or above it.

    Parameters
    ----------
    folder : Path
        Folder of predictions.
    top : Path
        The experiment's folder, where the search ends.

    Raises
    ------
    TenetError
        If there is none.
    """
    for place in (folder, *folder.parents):
        if place == top:
            break
        path = place / SETTINGS
        if not path.exists():
            continue
        try:
            return read_record(PredictionSettings, path).threshold
        except TenetError as error:
            raise TenetError(f"{error}; predict again") from None
    raise TenetError(f"{folder}: there is no {SETTINGS} with the method's threshold; predict again")


def methods_in(predictions: Path, methods: Sequence[str] | None = None) -> Sequence[str]:
    """Methods that are asked for, or all with a folder of predictions."""
    if methods is None:
        methods = [f.name for f in _folders(predictions)]
    if not methods:
        raise TenetError(f"{predictions}: there are no predictions in it; predict first")
    return methods


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise TenetError(f"{path}: there is no such folder of predictions; predict first")
    return sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))


def _open(path: Path) -> Stack:
    if not path.exists():
        raise TenetError(f"{path}: this prediction is missing; predict again")
    return open_stack(path, channel=0)


def _about(
    experiment: str, part: str, method: str, image: str, roi: int | str = ""
) -> dict[str, Any]:
    return {"experiment": experiment, "part": part, "method": method, "image": image, "roi": roi}


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS))
