"""Figures and their tables: which experiments each shows, and what files it reads."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tenet.paper.evaluate.budgets import budgets
from workflow.lib.catalogue import TENET_PUBLISHED, Catalogue, path_of, resolved
from workflow.lib.models import (
    FINE_TUNED,
    LEARN_FROM_STACKS,
    aligned_models,
    is_simulation_variant,
    model_folder,
    predictions,
    pretrained_of,
)
from workflow.lib.stacks import acquisitions, phantoms_of, rois, stack_folder
from workflow.lib.words import repeated, without_suffix

#: Figures with a table beside them.
TABLES = {
    "fig2": "fig2_iou",
    "fig3": "fig3_beads",
    "fig4": "fig4_neurons",
    "fig5": "fig5_cells",
    "supp": "supp_ablations",
    "supp_motion": "supp_motion_iou",
    "quality": "quality",
}
#: Experiments whose raw stacks a figure shows, and what its names for them begin with.
FIRST_SHOWN = {
    "fig3": {"fig3_beads": ""},
    "fig4": {"fig4_neurons": ""},
    "fig5": {"fig5_microglia": "", "fig5_tumour": "tumour_"},
}


def shown_in(catalogue: Catalogue, figure: str) -> list[str]:
    """List the experiments that a figure or its table shows.

    Figure 1 takes its example from figure 2.
    """
    if figure == "fig1":
        return [name for name in catalogue.experiments if name == "fig2_phantoms"]
    return [name for name, spec in catalogue.experiments.items() if spec["figure"] == figure]


def compared_in(catalogue: Catalogue, figure: str) -> list[str]:
    """List a figure's experiments, and the one that the supplement's ablations compare with."""
    beads = figure == "supp" and "fig3_beads" in catalogue.experiments
    return [*(["fig3_beads"] if beads else []), *shown_in(catalogue, figure)]


def figure_of(table: str) -> str:
    """Name the figure that a table belongs to."""
    return next(figure for figure, name in TABLES.items() if name == table)


def tumour_of(catalogue: Catalogue, experiment: str) -> str | None:
    """Name the experiment that shows the tumour beside the cells of another."""
    return catalogue.experiments[experiment].get("tumour")


# Files --------------------------------------------------------------------------------------------


def final_files(catalogue: Catalogue) -> list[str]:
    """Name everything that the configured figures and tables are."""
    figures = catalogue.config["figures"]
    return [
        *(f"<results>/{figure}.{kind}" for figure in figures for kind in ("pdf", "png")),
        *(f"<results>/tables/{TABLES[figure]}.csv" for figure in figures if figure in TABLES),
        *(["<results>/tables/published_vs_run.csv"] if figures else []),
    ]


def measured(catalogue: Catalogue, figures: Iterable[str]) -> list[str]:
    """Name the tables of measures behind figures; the tumour is measured with the cells."""
    return [
        f"<results>/metrics/{name}.csv"
        for figure in figures
        for name in compared_in(catalogue, figure)
        if catalogue.experiments[name]["evaluation"] != "none"
    ]


def sweeps(catalogue: Catalogue, figures: Iterable[str]) -> list[str]:
    """Name the tables of measures by threshold behind figures."""
    return [
        f"<results>/metrics/{name}_sweep.csv"
        for figure in figures
        for name in compared_in(catalogue, figure)
        if catalogue.experiments[name]["evaluation"] in ("segmentation", "beads")
    ]


def psf_tables(catalogue: Catalogue, figure: str) -> list[str]:
    """Name the widths of the PSFs that a figure's table gives: those of the beads' folds."""
    return [
        f"{model_folder(catalogue, name, 'tenet', fold)}/psf.csv"
        for name in shown_in(catalogue, figure)
        if catalogue.is_beads(name)
        for fold in catalogue.folds(catalogue.owner_of_model(name))
    ]


def histories(catalogue: Catalogue) -> list[str]:
    """Name the course of every training behind the configured figures."""
    found: set[str] = set()
    figures, aligned = catalogue.config["figures"], aligned_models(catalogue)
    for name in (name for figure in figures for name in compared_in(catalogue, figure)):
        owner = catalogue.owner_of_model(name)
        for method in set(LEARN_FROM_STACKS) & set(catalogue.methods_of(name)):
            model = path_of(owner, method)
            top = "models" if method in FINE_TUNED else f"baselines/{method}"
            trained = [f"{model}/{fold}" for fold in catalogue.folds(owner)]
            found |= {f"{top}/{path}" for path in trained if not catalogue.imported(path)}
            if method not in FINE_TUNED or all(map(catalogue.imported, trained)):
                continue
            pretrained = pretrained_of(catalogue, path_of(name, method))
            if pretrained in aligned:
                found.add(f"models/{pretrained}/alignment")
                pretrained = pretrained_of(catalogue, pretrained)
            if not catalogue.imported(pretrained):
                found.add(f"models/{pretrained}")
    return [f"<results>/{folder}/history.csv" for folder in sorted(found)]


def figure_inputs(catalogue: Catalogue, figure: str) -> dict[str, Any]:
    """Name everything that a figure may read, by what it is."""
    names = shown_in(catalogue, figure)
    models = [
        f"{model_folder(catalogue, name, 'tenet', fold)}/{file}"
        for name in compared_in(catalogue, figure)
        for fold in catalogue.folds(catalogue.owner_of_model(name))
        for file in ("model.pt", "psf.csv", "history.csv", "threshold.json")
    ]
    raw = [acquisitions(catalogue, name) for name in names]
    if figure == "supp_training":
        return {"histories": histories(catalogue)}
    if figure == "fig1":
        return {"models": models, "acquisitions": raw}
    pretrained = {pretrained_of(catalogue, name) for name in names}
    return {
        "metrics": measured(catalogue, [figure]),
        "sweeps": sweeps(catalogue, [figure]),
        "cells": [
            path
            for name in names
            if catalogue.experiments[name]["evaluation"] == "cells"
            for path in (
                f"<results>/tables/{name}_cells.csv",
                f"<results>/metrics/{name}_projections.npz",
            )
        ],
        "predictions": [path for name in names for path in predictions(catalogue, name)],
        "acquisitions": raw,
        "phantoms": [phantoms_of(catalogue, n) for n in names if catalogue.is_simulated(n)],
        "models": sorted(set(models)),
        "alignment": [
            f"<results>/models/{model}/alignment/history.csv"
            for model in sorted(pretrained & set(aligned_models(catalogue)))
        ],
        "table": f"<results>/tables/{TABLES[figure]}.csv" if figure in TABLES else [],
        "published": "resources/bead_metrics_per_roi.csv" if figure == "supp" else [],
    }


# Parameters ---------------------------------------------------------------------------------------


def figure_parameters(
    catalogue: Catalogue,
    figure: str,
    *,
    acquisitions: Sequence[str] = (),
    histories: Iterable[str] = (),
    published: str = "",
) -> str:
    """Tell a notebook, as JSON, the results and which raw stacks its figure shows.

    Parameters
    ----------
    catalogue : Catalogue
    figure : str
    acquisitions : sequence of str
        Checksums of the raw stacks of each experiment shown, in the order of `shown_in`.
    histories : iterable of str
        Courses of trainings, for the figure of the trainings.
    published : str
        Table of the published beads, for the supplement.
    """
    known: dict[str, Any] = {"results": catalogue.config["results"]}
    shown = shown_in(catalogue, figure)
    for experiment, prefix in FIRST_SHOWN.get(figure, {}).items():
        if experiment not in shown:
            continue
        checksums = acquisitions[shown.index(experiment)]
        simulated = catalogue.is_simulated(experiment)
        known[f"{prefix}data"] = stack_folder(catalogue, experiment, checksums)
        if not prefix:
            known["simulated"] = simulated
        if catalogue.is_beads(experiment):
            own = f"{without_suffix(checksums)}/rois.csv"
            known["rois"] = rois(catalogue, experiment) or own
    if figure == "supp":
        known["simulated"] = any(map(catalogue.is_simulated, shown))
        known["published_beads"] = published
    if figure == "supp_training":
        known["histories"] = list(histories)
    return json.dumps(known, ensure_ascii=False)  # YAML has no escapes for letters beyond 16 bits


def acquisition_option(catalogue: Catalogue, figure: str) -> list[str]:
    """Give the record of a simulated microscope, which knows the true widths of its PSF."""
    for name in shown_in(catalogue, figure):
        if catalogue.is_beads(name) and catalogue.is_simulated(name):
            images = catalogue.experiments[name].get("images", name)
            folder = Path(catalogue.config["results"], "acquisitions", images)
            return ["--acquisition", f"{folder}/acquisition.json"]
    return []


def budget_options(catalogue: Catalogue, figure: str) -> list[str]:
    """Give how the methods of a figure's table were trained or tuned."""
    config: Mapping[str, Any] = catalogue.config
    paths: dict[str, str] = {}
    for method in FINE_TUNED:
        having = [n for n in compared_in(catalogue, figure) if method in catalogue.methods_of(n)]
        paths |= {method: path_of(having[0], method)} if having else {}
    trained = {
        method: (
            resolved(catalogue, path),
            resolved(catalogue, pretrained_of(catalogue, path)),
            is_simulation_variant(catalogue, path),
        )
        for method, path in paths.items()
    }
    said = budgets(trained, config["rltv"], {name: config[name] for name in ("care", "neuroclear")})
    if config["published"]["weights"] and TENET_PUBLISHED in said:
        said[TENET_PUBLISHED] += f"; weights given for {', '.join(config['published']['weights'])}"
    compared = catalogue.config["methods"]
    return repeated("--budget", (f"{m}={words}" for m, words in said.items() if m in compared))
