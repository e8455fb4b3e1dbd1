"""Summaries of the tables: means with intervals, gains, and the published numbers."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from tenet.errors import TenetError
from tenet.io.records import read_table
from tenet.metrics.intervals import bootstrap_interval
from tenet.paper.evaluate.definitions import (
    PAPER_METHODS,
    PUBLISHED_DEFINITION,
    has_fixed_threshold,
    split_quantity,
)
from tenet.paper.evaluate.tables import (
    BEAD_QUANTITIES,
    REFERENCE,
    REFERENCE_EXPERIMENT,
    read_acquisition,
    read_psf_widths,
)

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


# Tables beside the figures ------------------------------------------------------------------------

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
#: Name of the mean over all conditions of the quality bench.
EVERY_CONDITION = "all"
#: Ending of quantities that are differences between an ablation and `REFERENCE`, bead by bead.
DIFFERENCE = "_difference"
#: Fewest images that can show a difference: with five, all of one sign come by chance in 1 of 16.
FEWEST_IMAGES = 6


def summary_table(
    figure: Literal["fig2", "fig3", "fig4", "fig5", "supp", "supp_motion", "quality"],
    tables: Iterable[pd.DataFrame],
    published: Path,
    rng: np.random.Generator,
    psfs: Sequence[Path] = (),
    acquisition: Path | None = None,
    budgets: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Means with 95 % intervals by a cluster bootstrap over images, and the published numbers.

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
        The ``acquisition.json`` of simulated images, with the true widths (``fwhm_um``).
    budgets : mapping of str to str, optional
        How each method was trained or tuned, in words.

    Returns
    -------
    DataFrame
        `SUMMARY_COLUMNS`. Conditions of figure 2 are experiment and part (phantoms_noise,
        angle00_no_noise, …), of figure 3 ``beads``; of the PSF's widths initial, learned and true.
        What is measured by the paper's definition at the paper's threshold has conditions of its
        own, such as ``beads_published_thr0.5``. Missing values (no FWHM, a missed bead's offset)
        are left out of the mean and of `n`. Intervals of a single image are empty. `published` has
        the paper's number of the methods in `PAPER_METHODS`: the IoU of all but TENET, taken at
        each image's best threshold, stands beside ``oracle_iou``; TENET's IoU and the bead measures
        stand beside both conditions. In the supplement ``reference`` is the experiment of figure 3
        on the beads that the ablations have, by TENET and as published, and each ``…_difference``
        is an ablation less the reference, bead by bead; fewer than `FEWEST_IMAGES` images give no
        interval of it. In figures 4 and 5 and in the quality bench ``iou_gain`` is TENET's IoU less
        that of a method, image by image, in each condition, and in the bench over all conditions
        for methods that have all. ``note`` says why a cell is empty.

    Raises
    ------
    TenetError
        If the tables have no rows, or the published numbers cannot be read.
    """
    frame = pd.concat(list(tables), ignore_index=True)
    frame = frame[frame["quantity"] != "threshold"]
    if frame.empty:
        raise TenetError(f"{figure}: there is nothing to summarise; evaluate its experiments first")
    one_image = frame["image"].nunique() == 1
    numbers = _read_published(published)
    if figure == "supp":
        frame = _with_reference(frame)
    name = frame["experiment"].str.removeprefix(f"{figure}_")
    if figure == "fig2":
        frame = frame.assign(condition=name + "_" + frame["part"])
    elif figure in ("fig4", "fig5"):
        frame = frame.assign(condition=name)
        if one_image:  # then each place of the stack counts as one observation
            roi = frame["roi"].fillna("").astype(str)
            frame = frame.assign(image=frame["image"].astype(str) + " " + roi)
    else:
        frame = frame.assign(condition=name)
    split = {quantity: split_quantity(quantity) for quantity in frame["quantity"].unique()}
    ending = frame["quantity"].map(lambda name: split[name][1])
    frame = frame.assign(
        condition=frame["condition"] + ending,
        quantity=frame["quantity"].map(lambda name: split[name][0]),
    )
    if figure not in ("fig2", "fig3", "supp"):  # of others the paper has no number
        frame = frame[ending == ""]
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
    if figure in ("quality", "fig4", "fig5"):
        gains = _gains(frame, rng)
        if figure != "quality":
            gains = (row for row in gains if row["condition"] != EVERY_CONDITION)
        rows += [{"figure": figure} | row for row in gains]
    if figure == "supp":
        rows += [{"figure": figure} | row for row in _differences(frame, rng)]
    rows += [{"figure": figure} | row for row in _psf_rows(psfs, acquisition, rng)]
    table = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
    return table.assign(
        note=[_note(figure, row, one_image=one_image) for row in table.to_dict("records")],
        budget=[
            # The nominal PSF and the true PSF were not trained.
            "" if condition in ("initial", "true") else (budgets or {}).get(method, "")
            for method, condition in zip(table["method"], table["condition"], strict=True)
        ],
    )


def _note(figure: str, row: Mapping[Any, Any], *, one_image: bool) -> str:
    """Why a cell of a row is empty, or the units of its interval."""
    reasons = []
    if row["n"] == 0:
        reasons.append("could not be measured anywhere")
    elif np.isnan(row["low"]) and row["quantity"].endswith(DIFFERENCE):
        reasons.append(f"no interval: fewer than {FEWEST_IMAGES} images")
    elif np.isnan(row["low"]):
        reasons.append("no interval: all values are of one image or fold")
    elif figure in ("fig4", "fig5") and one_image:
        reasons.append("interval over places of one stack")
    if np.isnan(row["published"]):
        reasons.append("not published")
    return "; ".join(reasons)


def _with_reference(frame: pd.DataFrame) -> pd.DataFrame:
    """Ablations, and the experiment `REFERENCE` on the same beads, by TENET and as published."""
    reference = frame["experiment"] == REFERENCE_EXPERIMENT
    keys = ["part", "image", "roi"]
    shared = pd.MultiIndex.from_frame(frame[keys].astype(str)).isin(
        pd.MultiIndex.from_frame(frame.loc[~reference, keys].astype(str))
    )
    frame = frame[~reference | (shared & frame["method"].isin(("tenet", "tenet_published")))]
    return frame.replace({"experiment": {REFERENCE_EXPERIMENT: REFERENCE}})


def _mean_and_interval(
    values: pd.Series, clusters: pd.Series, rng: np.random.Generator
) -> dict[str, float]:
    if values.empty:
        return {"value": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    value, low, high = bootstrap_interval(
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
            # Conditions with the same phantom are one observation.
            yield (
                {"quantity": "iou_gain", "condition": str(condition), "method": str(method)}
                | _mean_and_interval(group["gain"], group["image"], rng)
                | {"published": np.nan}
            )


def _differences(frame: pd.DataFrame, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Each ablation less the reference, on the same beads."""
    frame = frame[~frame["condition"].str.contains(PUBLISHED_DEFINITION)]
    frame = frame[frame["quantity"].isin(BEAD_QUANTITIES)].astype({"image": str, "roi": str})
    beads = frame.pivot_table(
        index=["quantity", "method", "part", "image", "roi"],
        columns="condition",
        values="value",
        sort=False,
    )
    if REFERENCE not in beads:
        return
    for condition in beads.columns.drop(REFERENCE):
        less = (beads[condition] - beads[REFERENCE]).dropna().rename("less").reset_index()
        for (quantity, method), group in less.groupby(["quantity", "method"], sort=False):
            found = _mean_and_interval(group["less"], group["image"], rng)
            if group["image"].nunique() < FEWEST_IMAGES:
                found |= {"low": np.nan, "high": np.nan}
            names = {"quantity": f"{quantity}{DIFFERENCE}", "condition": str(condition)}
            yield names | {"method": str(method)} | found | {"published": np.nan}


def _psf_rows(
    psfs: Sequence[Path], acquisition: Path | None, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Widths of the PSF over folds. Each fold counts as one observation."""
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


def _read_published(path: Path) -> Mapping[tuple[str, str, str, str], float]:
    """Published numbers by figure, quantity, condition and method."""
    columns = ("figure", "quantity", "condition", "method")
    table = read_table(path, columns, numbers=("value",))
    keys = zip(*(table[column] for column in columns), strict=True)
    return dict(zip(keys, table["value"].astype(float), strict=True))


def _published_key(
    figure: str, quantity: str, condition: str, method: str
) -> tuple[str, str, str, str] | None:
    """Key of the published counterpart of a row, if there is one."""
    paper = PAPER_METHODS.get(method)
    if paper is None:
        return None
    condition, _, threshold = condition.partition(PUBLISHED_DEFINITION)
    at = f"thr{threshold or format(paper.thresholds[0], 'g')}"
    if figure == "supp":
        if condition == REFERENCE:
            return "fig3", quantity, at, paper.name
        name = PUBLISHED_ABLATIONS.get(condition)
        return ("supplement", quantity, at, name) if name else None
    if figure == "fig3":
        return (figure, quantity, at, paper.name) if condition == "beads" else None
    if figure != "fig2" or quantity != ("iou" if has_fixed_threshold(method) else "oracle_iou"):
        return None
    name, part = condition.split("_", 1)
    if name == "phantoms":
        return "fig2abc", "mean_iou", part, paper.name
    angle = re.fullmatch(r"angle(\d+)", name)
    return ("fig2de", "iou", f"{part}_{int(angle[1])}deg", paper.name) if angle else None


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
        Columns method, quantity, threshold, value, low and high; bounds are NaN if there is only
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
