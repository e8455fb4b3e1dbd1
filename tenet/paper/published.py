"""The paper's numbers beside those of a run, by the paper's own definitions and by fair ones.

``run`` is this run's value by the paper's definition (`tenet.paper.evaluate.definitions`), and
``definition`` says which definition that is. ``run_published`` is the value of the published
method, trained here with the published settings, by the same definition. ``fair`` is the value in
this project's figures, at a threshold that was chosen on held-out phantoms.
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
from tenet.paper.evaluate.definitions import (
    BEAD_VOLUME_UM3,
    FIXED_THRESHOLD,
    PAPER_METHODS,
    has_fixed_threshold,
    published_quantity,
)
from tenet.paper.evaluate.summary import PUBLISHED_ABLATIONS
from tenet.paper.evaluate.tables import BEAD_QUANTITIES, read_metrics

COLUMNS = (
    "figure",
    "quantity",
    "condition",
    "method",
    "published",
    "run",
    "run_published",
    "low",
    "high",
    "fair",
    "n",
    "definition",
    "published_ci95_halfwidth",
    "published_n",
    "published_note",
    "note",
)
#: The method trained with the published settings, which is TENET too by the paper's name.
AS_PUBLISHED = "tenet_published"
#: Methods here by the paper's names.
METHODS = {paper.name: name for name, paper in PAPER_METHODS.items() if name != AS_PUBLISHED}
#: Experiments of the supplement by the paper's names.
ABLATIONS = {paper: f"supp_{name}" for name, paper in PUBLISHED_ABLATIONS.items()}


class _Place(NamedTuple):
    """Place of the counterpart of a published number."""

    experiment: str
    part: str | None
    method: str
    quantity: str
    fair: str
    definition: str


def published_vs_run(
    published: Path, metrics: Iterable[Path], rng: np.random.Generator
) -> pd.DataFrame:
    """Find the counterpart of every published number.

    Parameters
    ----------
    published : Path
        CSV: figure, quantity, condition, method, value, ci95_halfwidth, n, note.
    metrics : iterable of Path
        This run's tables of measures, ``EXPERIMENT.csv``. No other tables are read.
    rng : numpy.random.Generator
        Of the bootstrap over images.

    Returns
    -------
    DataFrame
        `COLUMNS`, a row for each published number. ``low`` and ``high`` bound the 95 % interval of
        ``run``. ``n`` counts the values behind ``run``: images, or beads, of which the paper's
        table lists one twice. ``run_published`` is empty where the published method is not in a
        table. Where this run has no counterpart, ``note`` says why.

    Raises
    ------
    TenetError
        If a table cannot be read.
    """
    numbers = read_table(published)
    tables = {}
    for path in metrics:
        if not path.is_file():
            raise TenetError(f"{path}: there is no such table; evaluate first")
        tables[path.stem] = read_metrics(path)
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
    experiment = ABLATIONS.get(method) if figure == "supplement" else "fig3_beads"
    own = METHODS["TENET"] if figure == "supplement" else METHODS.get(method)
    if experiment is None or own is None:
        return None
    if figure in ("fig3", "supplement"):
        at = re.fullmatch(r"thr([\d.]+)", condition)
        if at is None or quantity not in BEAD_QUANTITIES:
            return None
        by_paper = published_quantity(quantity, float(at[1]))
        definition = _bead_definition(quantity, own, at[1])
        return _Place(experiment, None, own, by_paper, quantity, definition)
    angle = re.fullmatch(r"(noise|no_noise)_(\d+)deg", condition)
    experiment = f"fig2_angle{int(angle[2]):02d}" if angle else "fig2_phantoms"
    part = angle[1] if angle else condition
    if has_fixed_threshold(own):
        by_paper = published_quantity("iou", FIXED_THRESHOLD)
        definition = f"IoU of the probability above {FIXED_THRESHOLD:g}, mean over images"
        return _Place(experiment, part, own, by_paper, "iou", definition)
    definition = "IoU at the best threshold of each image, mean over images"
    return _Place(experiment, part, own, "oracle_iou", "iou", definition)


def _bead_definition(quantity: str, method: str, threshold: str) -> str:
    """How the paper measures a bead, in words."""
    at = (
        f"{threshold} of "
        + {
            "TENET": "the probability",
            "RLTV": "each region's highest score",
            "CARE": "each region's highest score",
            "Neuroclear": "65535, here of a score of 1",
        }[PAPER_METHODS[method].name]
    )
    measured = {
        "volume_um3": "all voxels above",
        "sphericity": "π^(1/3)(6V)^(2/3)/A, V of all voxels above and A of the surface at",
        "z_xy_ratio": "planes with foreground over 2√(A/π) of the largest slice, all voxels above",
        "total_loss": f"|V/{BEAD_VOLUME_UM3} − 1| + |sphericity − 1| + |z/xy − 1|, each above",
    }[quantity]
    return f"{measured} {at}"


def _counterpart(
    place: _Place | None, tables: Mapping[str, pd.DataFrame], rng: np.random.Generator
) -> dict[str, float | str]:
    found: dict[str, float | str] = {
        "run": np.nan,
        "run_published": np.nan,
        "low": np.nan,
        "high": np.nan,
        "fair": np.nan,
        "n": 0,
        "definition": "",
        "note": "",
    }
    if place is None:
        return found | {"note": "no such quantity here"}
    found["definition"] = place.definition
    if place.experiment not in tables:
        return found | {"note": f"{place.experiment} is not part of this run"}
    table = tables[place.experiment]
    if place.part is not None:
        table = table[table["part"] == place.part]
    own = table[table["method"] == place.method]
    if own.empty:
        return found | {"note": f"{place.method} is not part of this run"}
    found["fair"] = float(own[own["quantity"] == place.fair]["value"].mean())
    by_paper = table[table["quantity"] == place.quantity].dropna(subset=["value"])
    if METHODS["TENET"] == place.method:
        published = by_paper[by_paper["method"] == AS_PUBLISHED]["value"]
        found["run_published"] = float(published.mean())
    values = by_paper[by_paper["method"] == place.method]
    if values.empty:
        return found | {"note": "not measured by the paper's definition; evaluate again"}
    mean, low, high = bootstrap_interval(
        values["value"].to_numpy(), values["image"].astype(str).to_numpy(dtype=str), rng=rng
    )
    return found | {"run": mean, "low": low, "high": high, "n": len(values)}
