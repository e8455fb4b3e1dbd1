"""Notes under figures: budgets, winners, and what is simulated."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import PositiveInt

from tenet.data.phantoms.store import SUFFIX as PHANTOM
from tenet.data.phantoms.store import open_phantom
from tenet.errors import TenetError
from tenet.paper.evaluate.tables import read_acquisition
from tenet.paper.figures.style import ANGLES, METHODS, NOTE_CHARACTERS, PARTS
from tenet.settings.sections import Section, read_record, validated

#: Volumes of the paper's phantoms; smaller ones are called demo scale.
_PAPER_VOXELS = 1200 * 500 * 500


# Notes at the foot --------------------------------------------------------------------------------


def notes(
    results: Path, experiment: str, table: pd.DataFrame, quantity: str, simulated: bool | None
) -> list[str]:
    """Words on the best methods, and on the origin of the images."""
    simulation = simulation_note(results, experiment) if simulated is not False else []
    budgets = budget_note(results, experiment, table)
    return wrapped([*winners(table, quantity), *budgets, *simulation])


class _Training(Section):
    """How long a baseline was trained."""

    n_epochs: PositiveInt
    steps_per_epoch: PositiveInt
    batch_size: PositiveInt


class _Told(Section):
    """The part of ``experiment.json`` in notes."""

    params: dict[str, Any]


class _Budget(Section):
    """The part of a baseline's ``settings.json`` in notes."""

    settings: dict[str, Any]
    registered: bool
    trainings: PositiveInt = 1


def budget_note(results: Path, experiment: str, table: pd.DataFrame) -> list[str]:
    """Words on the training of the learned methods, and on results that are not registered."""
    words, elsewhere = [], []
    for method in ("care", "neuroclear"):
        folds = sorted((results / f"baselines/{method}/{experiment}").glob("*/settings.json"))
        if not folds:
            continue
        records = [read_record(_Budget, path) for path in folds]
        told = {key: records[0].settings.get(key) for key in _Training.model_fields}
        training = validated(_Training, told, str(folds[0]))
        steps = training.n_epochs * training.steps_per_epoch
        label = METHODS[method].label
        most = max(record.trainings for record in records)
        again = f", up to {most} times" if most > 1 else ""
        words.append(f"{label} for {steps} steps (batch size {training.batch_size}){again}")
        if not all(record.registered for record in records):
            elsewhere.append(label)
    lines = [f"Trained: {', '.join(words)}."] if words else []
    lines += published_note(table)
    if elsewhere:
        lines.append(f"{' and '.join(elsewhere)} could not be registered: more training is needed.")
    return lines


def published_note(table: pd.DataFrame) -> list[str]:
    """Words on the training of the published method, from the table of a figure."""
    said = table.loc[table["method"] == "tenet_published", "budget"].replace("", np.nan).dropna()
    return [f"{METHODS['tenet_published'].label}: {words}." for words in said.head(1)]


def wrapped(lines: Sequence[str]) -> list[str]:
    """Break lines that are wider than the page."""
    return [part for line in lines for part in textwrap.wrap(line, NOTE_CHARACTERS)]


def simulation_note(results: Path, experiment: str, phantoms: str | None = None) -> list[str]:
    """Say whether and how images are simulated; `phantoms` names another experiment's phantoms."""
    acquisition = results / f"acquisitions/{experiment}/acquisition.json"
    if not acquisition.exists():
        return []
    record = read_acquisition(acquisition)
    return [_simulation(results, experiment, phantoms or experiment, record)]


def winners(table: pd.DataFrame, quantity: str) -> Iterator[str]:
    """The name of the best method of each condition."""
    if quantity == "total_loss":
        best = best_method(table, "beads", quantity)
        if best:
            yield f"Lowest mean total loss of a bead: {best}."
        return
    chosen_on = thresholds_note(table)
    phantoms = [
        f"{words} {best}"
        for part, words in PARTS.items()
        if (best := best_method(table, f"phantoms_{part}", quantity))
    ]
    if phantoms:
        yield f"Highest mean IoU on phantoms {chosen_on}: {'; '.join(phantoms)}."
    for part, words in PARTS.items():
        lines = [
            f"{angle} {best}"
            for name, angle in ANGLES.items()
            if (best := best_method(table, f"{name}_{part}", quantity))
        ]
        if lines:
            yield f"Highest mean IoU on lines {words}: {'; '.join(lines)}."


def thresholds_note(table: pd.DataFrame) -> str:
    """Words on where the thresholds of the methods in a table come from."""
    published = METHODS["tenet_published"].label
    fixed = f"; that of {published} is fixed" if "tenet_published" in set(table["method"]) else ""
    return f"(threshold of each method chosen on held-out phantoms{fixed})"


def best_method(table: pd.DataFrame, condition: str, quantity: str) -> str | None:
    """Method of the best mean, with TENET's mean and rank if the method is another."""
    chosen = table[
        (table["quantity"] == quantity)
        & (table["condition"] == condition)
        & table["method"].isin(list(METHODS))
    ]
    means = chosen.set_index("method")["value"].dropna()
    if means.empty:
        return None
    means = means.sort_values(ascending=quantity == "total_loss")
    best = str(means.index[0])
    words = f"{METHODS[best].label} {means[best]:.2f}"
    if best == "tenet" or "tenet" not in means:
        return words
    place = list(means.index).index("tenet") + 1
    return f"{words} (TENET {means['tenet']:.2f}, place {place} of {len(means)})"


def _simulation(results: Path, experiment: str, phantom_set: str, record: Mapping[str, Any]) -> str:
    """Say that images are simulated, how many, and by which microscope."""
    phantoms = sorted((results / f"phantoms/{phantom_set}").glob(f"*{PHANTOM}"))
    what, scale = "", ""
    if phantoms:
        shape = open_phantom(phantoms[0]).zyx_shape
        size = " × ".join(map(str, shape))
        plural = "s" if len(phantoms) > 1 else ""
        what = f"{len(phantoms)} volume{plural} of {size} voxels"
        scale = ", demo scale" if np.prod(shape) < _PAPER_VOXELS else ""
    hidden = dict(record["microscope"])
    words = [what] if what else []
    assumed = _assumed(results, experiment)
    lengths = ("wavelength", "ti0", "tg", "pZ")
    keys = ("NA", "ni", "ns", "ng", "photons", *lengths)
    different = [k for k in keys if k in assumed and hidden.get(k) != assumed[k]]

    def said(params: Mapping[str, Any], keys: Sequence[str]) -> str:
        return ", ".join(f"{k} {params[k]:g}{' µm' if k in lengths else ''}" for k in keys)

    told = said(hidden, different or ["NA"])
    if different:
        told += f" (nominal {said(assumed, different)})"
    elif assumed:
        told += " (nominal)"
    words.append(f"hidden PSF: {told}")
    if record.get("motion_px"):
        words.append(f"planes shifted by {record['motion_px']:g} px (SD)")
    return f"Simulated acquisitions{scale}: {'; '.join(words)}."


def _assumed(results: Path, experiment: str) -> dict[str, Any]:
    """The nominal microscope of the fine-tuned model."""
    for path in sorted((results / f"models/{experiment}").glob("*/experiment.json")):
        try:
            return read_record(_Told, path).params
        except TenetError as error:
            raise TenetError(f"{error}; fine-tune again") from None
    return {}
