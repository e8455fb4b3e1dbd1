"""`tenet evaluate`: predictions measured against the truth."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tenet.cli.options import (
    EXPERIMENTS,
    Data,
    ExperimentName,
    ExperimentsFolder,
    ModelFolder,
    Out,
    Overlays,
    Phantoms,
    Settings,
    Threads,
    read_experiment,
)

evaluate_app = typer.Typer(help="Measure predictions against the truth.", no_args_is_help=True)

Predictions = Annotated[Path, typer.Option(help="Folder with a sub-folder per method.")]
Methods = Annotated[
    list[str] | None, typer.Option("--method", help="Method; all by default. Repeatable.")
]
Sweep = Annotated[Path, typer.Option(help="Table of threshold sweeps (CSV).")]


@evaluate_app.command("segmentation")
def evaluate_segmentation(
    experiment: ExperimentName,
    predictions: Predictions,
    phantoms: Annotated[Path, typer.Option(help="Folder of phantoms, the truth.")],
    out: Out,
    sweep: Sweep,
    method: Methods = None,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """IoU, Dice and average precision of every prediction."""
    from tenet.paper.tasks import evaluate

    chosen = read_experiment(experiment, overlay, settings, experiments)
    lines = evaluate.evaluate_segmentation(
        chosen, predictions, phantoms, out, sweep, methods=method
    )
    print(*lines, sep="\n")


@evaluate_app.command("beads")
def evaluate_beads(
    experiment: ExperimentName,
    predictions: Predictions,
    rois: Annotated[Path, typer.Option(help="Table of beads: roi, image, z, y, x, fold.")],
    out: Out,
    sweep: Sweep,
    phantoms: Annotated[
        Path | None, typer.Option(help="Folder of phantoms, with exact centres.")
    ] = None,
    method: Methods = None,
    fold: Annotated[
        list[int] | None, typer.Option("--fold", help="Only beads of these folds. Repeatable.")
    ] = None,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Volume, sphericity, z/xy ratio and widths of every bead."""
    from tenet.paper.tasks import evaluate

    lines = evaluate.evaluate_beads(
        read_experiment(experiment, overlay, settings, experiments),
        predictions,
        rois,
        out,
        sweep,
        methods=method,
        folds=fold,
        phantoms=phantoms,
    )
    print(*lines, sep="\n")


@evaluate_app.command("profiles")
def evaluate_profiles(
    experiment: ExperimentName,
    predictions: Predictions,
    data: Data,
    out: Out,
    phantoms: Annotated[Path | None, typer.Option(help="Folder of phantoms, the truth.")] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="Method. Repeatable.")
    ] = None,
) -> None:
    """Widths of thin structures along z and across, in the raw stacks and in every result."""
    from tenet.paper.tasks import structures

    lines = structures.evaluate_profiles(
        experiment, predictions, data, out, phantoms=phantoms, methods=method
    )
    print(*lines, sep="\n")


@evaluate_app.command("cells")
def evaluate_cells(
    experiment: ExperimentName,
    predictions: Predictions,
    out: Out,
    cells: Annotated[Path, typer.Option(help="Table of every cell (CSV).")],
    projections: Annotated[
        Path, typer.Option(help="Projections of the cells of the first image, for a figure (.npz).")
    ],
    tumour: Annotated[
        Path | None, typer.Option(help="One method's predictions of the tumour's channel.")
    ] = None,
    phantoms: Annotated[Path | None, typer.Option(help="Folder of phantoms, the truth.")] = None,
    tumour_phantoms: Annotated[
        Path | None, typer.Option(help="Folder of the tumour's phantoms.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="Method. Repeatable.")
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Blocks of a stack that are labelled at once.")
    ] = 1,
) -> None:
    """Cells of every segmentation: number, shape, distance to the tumour."""
    from tenet.paper.tasks import structures

    lines = structures.evaluate_cells(
        experiment,
        predictions,
        out,
        cells,
        projections,
        tumour=tumour,
        phantoms=phantoms,
        tumour_phantoms=tumour_phantoms,
        methods=method,
        threads=threads,
    )
    print(*lines, sep="\n")


@evaluate_app.command("real")
def evaluate_real(
    kind: Annotated[Literal["dendrites", "vessels"], typer.Argument(help="Structures.")],
    beam: Annotated[
        str, typer.Argument(help="uniform, fill07 or fill04, each also with _aberrated.")
    ],
    model: ModelFolder,
    tuning: Annotated[Path, typer.Option(help="Folder of phantoms that thresholds come from.")],
    data: Annotated[Path, typer.Option(help="Folder of the structures.")],
    out: Out,
    seeds: Annotated[int, typer.Option(min=1, help="Number of stacks.")] = 4,
    phantoms: Phantoms = None,
    train: Annotated[
        Literal["all", "encoder", "decoder", "old"],
        typer.Option(help="What fine-tuning trains; decoder is PSF and noise."),
    ] = "decoder",
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="Method; all but box and rltv_true by default. Repeatable."),
    ] = None,
    thickness: Annotated[
        float | None,
        typer.Option("--thickness", help="Mean thickness in µm that the method box is told."),
    ] = None,
    threads: Threads = None,
) -> None:
    """Real structures, blurred by a beam that the model was not told of: every method."""
    from tenet.cli.device import choose_device
    from tenet.paper.real.bench import Condition
    from tenet.paper.real.methods import METHODS
    from tenet.paper.tasks.real import run_condition

    choose_device("cpu", threads)
    condition = Condition(kind, beam, model, tuning, data, out, seeds, phantoms, train, thickness)
    methods = method or [name for name in METHODS if name not in ("box", "rltv_true")]
    print(*run_condition(condition, methods), sep="\n")


@evaluate_app.command("real-summary")
def evaluate_real_summary(
    folders: Annotated[list[Path], typer.Argument(help="Results of tenet evaluate real.")],
    out: Annotated[Path, typer.Option(help="Table by structure, beam and method (CSV).")],
    psf: Annotated[Path, typer.Option(help="Table of the PSFs, true and found (CSV).")],
    figure: Annotated[list[Path] | None, typer.Option(help="Figure. Repeatable.")] = None,
) -> None:
    """Table and figure of the bench of real structures."""
    from tenet.paper.tasks.real_summary import summarise

    print(*summarise(folders, out, psf, figure or []), sep="\n")
