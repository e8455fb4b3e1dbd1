"""The paper's numbers beside those of a run, by the paper's own definitions and by fair ones.

The paper takes TENET's shape at a fixed threshold. It takes the results of other methods at a fixed
share of their range, or at the best threshold of each image, and has its own measures of beads.
``run`` is this run's value by the paper's definition. ``fair`` is the value in this project's
figures, at a threshold that was chosen on held-out phantoms.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tenet.errors import TenetError
from tenet.io.records import read_table
from tenet.metrics.intervals import bootstrap_interval
from tenet.paper.evaluate.summary import PUBLISHED_ABLATIONS, sweep_intervals
from tenet.paper.evaluate.tables import PUBLISHED_DEFINITION, read_metrics

COLUMNS = (
    "figure",
    "quantity",
    "condition",
    "method",
    "published",
    "run",
    "low",
    "high",
    "fair",
    "n",
    "published_ci95_halfwidth",
    "published_n",
    "published_note",
    "note",
)
METHODS = {"TENET": "tenet", "RLTV": "rltv_paper", "CARE": "care", "Neuroclear": "neuroclear"}
#: Experiments of the supplement by the paper's names.
ABLATIONS = {paper: f"supp_{name}" for name, paper in PUBLISHED_ABLATIONS.items()}


class _Place(NamedTuple):
    """Place of the counterpart of a published number."""

    experiment: str
    part: str | None
    method: str
    quantity: str
    threshold: float | None  # share of the range; None: the quantity of the table itself
    fair: str


def published_vs_run(
    published: Path, metrics: Iterable[Path], sweeps: Iterable[Path], rng: np.random.Generator
) -> pd.DataFrame:
    """Find the counterpart of every published number.

    Parameters
    ----------
    published : Path
        CSV: figure, quantity, condition, method, value, ci95_halfwidth, n, note.
    metrics, sweeps : iterable of Path
        This run's tables of measures, ``EXPERIMENT.csv``, and of threshold sweeps,
        ``EXPERIMENT_sweep.csv``. No other tables are read.
    rng : numpy.random.Generator
        Of the bootstrap over images.

    Returns
    -------
    DataFrame
        `COLUMNS`, a row for each published number. ``n`` counts the values behind ``run``; where
        this run has no counterpart, ``note`` says why.

    Raises
    ------
    TenetError
        If a table cannot be read.
    """
    numbers = read_table(published)
    tables = {path.stem: path for path in (*metrics, *sweeps)}
    for path in tables.values():
        if not path.is_file():
            raise TenetError(f"{path}: there is no such table; evaluate first")
    found = []
    try:
        for row in numbers.to_dict("records"):
            keys = {key: str(row[key]) for key in ("figure", "quantity", "condition", "method")}
            own = {
                "published": row["value"],
                "published_ci95_halfwidth": row["ci95_halfwidth"],
                "published_n": row["n"],
                "published_note": row["note"],
            }
            found.append({**keys, **own, **_counterpart(_place(**keys), tables, rng)})
    except KeyError as error:
        raise TenetError(f"{published}: the published numbers lack the column {error}") from None
    return pd.DataFrame(found, columns=list(COLUMNS))


def _place(figure: str, quantity: str, condition: str, method: str) -> _Place | None:
    if figure == "supplement":
        experiment = ABLATIONS.get(method)
        share = _share(condition)
        if experiment is None or share is None:
            return None
        by_paper = f"{quantity}{PUBLISHED_DEFINITION}"
        return _Place(experiment, None, "tenet", by_paper, share, quantity)
    own = METHODS.get(method)
    if own is None:
        return None
    if figure == "fig3":
        share = _share(condition)
        by_paper = f"{quantity}{PUBLISHED_DEFINITION}"
        return _Place("fig3_beads", None, own, by_paper, share, quantity)
    angle = re.fullmatch(r"(noise|no_noise)_(\d+)deg", condition)
    experiment = f"fig2_angle{int(angle[2]):02d}" if angle else "fig2_phantoms"
    part = angle[1] if angle else condition
    if own == "tenet":
        return _Place(experiment, part, own, "iou", 0.5, "iou")
    return _Place(experiment, part, own, "oracle_iou", None, "iou")


def _share(condition: str) -> float | None:
    found = re.fullmatch(r"thr([\d.]+)", condition)
    return float(found[1]) if found else None


def _counterpart(
    place: _Place | None, tables: Mapping[str, Path], rng: np.random.Generator
) -> dict[str, float | str]:
    empty: dict[str, float | str] = {
        "run": np.nan,
        "low": np.nan,
        "high": np.nan,
        "fair": np.nan,
        "n": 0,
        "note": "",
    }
    if place is None:
        return empty | {"note": "no such quantity here"}
    if place.experiment not in tables:
        return empty | {"note": f"{place.experiment} is not part of this run"}
    table = _of(place, read_metrics(tables[place.experiment]))
    if table.empty:
        return empty | {"note": f"{place.method} is not part of this run"}
    fair = table[table["quantity"] == place.fair]["value"]
    known: dict[str, float | str] = {"fair": float(fair.mean()), "note": ""}
    if place.threshold is None:
        values = table[table["quantity"] == place.quantity].dropna(subset=["value"])
        mean, low, high = bootstrap_interval(
            values["value"].to_numpy(), values["image"].astype(str).to_numpy(dtype=str), rng=rng
        )
        return known | {"run": mean, "low": low, "high": high, "n": len(values)}
    name = f"{place.experiment}_sweep"
    if name not in tables:
        return empty | known | {"note": f"no thresholds of {place.experiment} were swept here"}
    sweep = _of(place, read_metrics(tables[name]))
    sweep = sweep[sweep["quantity"] == place.quantity]
    lines = sweep_intervals(sweep, rng)
    # TENET's shape is a probability. Sweeps of beads end at 95 % of a method's range.
    top = 1.0 if place.method == "tenet" else lines["threshold"].max() / 0.95
    nearest = np.abs(lines["threshold"].to_numpy() - place.threshold * top).argmin()
    chosen = lines.iloc[int(nearest)]
    there = sweep[np.isclose(sweep["threshold"], chosen["threshold"])]["value"]
    return known | {
        "run": chosen["value"],
        "low": chosen["low"],
        "high": chosen["high"],
        "n": int(there.count()),
    }


def _of(place: _Place, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the place's method and part."""
    rows = table[table["method"] == place.method]
    return rows if place.part is None else rows[rows["part"] == place.part]
