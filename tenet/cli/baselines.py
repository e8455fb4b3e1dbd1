"""`tenet rltv` and `tenet baseline`: the methods that TENET is compared with."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from tenet.cli.device import choose_device
from tenet.cli.options import (
    Channel,
    Data,
    Device,
    Fold,
    ModelFolder,
    Normalisation,
    Out,
    Rois,
    Seed,
    Settings,
    Threads,
    nested,
)
from tenet.cli.printing import report
from tenet.cli.stacks import pairs_of

rltv_app = typer.Typer(
    help="Richardson-Lucy deconvolution with total variation.", no_args_is_help=True
)
baseline_app = typer.Typer(
    help="CARE and Neuroclear: methods that learn from raw stacks too.", no_args_is_help=True
)

LearnedMethod = Annotated[
    Literal["care", "neuroclear"], typer.Argument(help="Which method: care or neuroclear.")
]


@rltv_app.command("tune")
def rltv_tune(
    model: ModelFolder,
    phantoms: Annotated[Path, typer.Option(help="Held-out phantoms.")],
    out: Out,
    iterations: Annotated[
        list[int] | None,
        typer.Option("--iterations", min=1, max=100_000, help="To try. Repeatable."),
    ] = None,
    tv_weight: Annotated[
        list[float] | None, typer.Option("--tv-weight", help="To try. Repeatable.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Choose iterations, weight and threshold by IoU on held-out phantoms."""
    from tenet.paper.comparison.rltv import tune_rltv

    tune_rltv(
        model,
        phantoms,
        out,
        iterations=iterations or (20, 40, 80, 160),
        tv_weights=tv_weight or (0.001, 0.003, 0.01),
        progress=report,
        device=choose_device(device, threads),
        seed=seed,
    )


@rltv_app.command("run")
def rltv_run(
    model: ModelFolder,
    settings: Annotated[Path, typer.Option(help="What `rltv tune` wrote.")],
    data: Data,
    out: Out,
    paper: Annotated[bool, typer.Option("--paper", help="As published: coarse grid.")] = False,
    rois: Rois = None,
    normalisation: Normalisation = None,
    channel: Channel = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Deconvolve all stacks of a folder with the PSF of a model."""
    from tenet.data.folds import every_stack
    from tenet.paper.baselines.rltv_tuning import read_tuning
    from tenet.paper.comparison.rltv import run_rltv

    run_rltv(
        model,
        read_tuning(settings),
        pairs_of(every_stack(data, out, rois, channel=channel), out),
        out,
        paper=paper,
        normalisation=normalisation,
        device=choose_device(device, threads),
    )


@baseline_app.command("train")
def baseline_train(
    method: LearnedMethod,
    model: Annotated[Path, typer.Option(help="Pre-trained model: the microscope it was told.")],
    data: Annotated[list[Path], typer.Option(help="Raw stacks, or a folder. Repeatable.")],
    tuning: Annotated[Path, typer.Option(help="Held-out phantoms for the threshold.")],
    out: Out,
    rois: Rois = None,
    fold: Fold = None,
    normalisation: Normalisation = None,
    settings: Settings = None,
    seed: Seed = 0,
    channel: Channel = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train CARE or Neuroclear on raw stacks, as TENET is fine-tuned.

    Run the same command again after an interruption: it goes on where it was.
    """
    from tenet.data.folds import outside_fold
    from tenet.io.folders import stack_files
    from tenet.io.open import open_stack
    from tenet.paper.tasks import train_baseline

    files = [file for path in data for file in stack_files(path)]
    stacks = [open_stack(file, channel=channel) for file in files]
    stacks = outside_fold(stacks, fold, rois)
    record = train_baseline(
        method,
        model,
        stacks,
        tuning,
        out,
        settings=nested(settings),
        normalisation=normalisation,
        provenance={
            "model": str(model),
            "fold": fold,
            "images": [stack.path.name for stack in stacks],
        },
        device=choose_device(device, threads),
        seed=seed,
    )
    print(json.dumps(record, indent=2))


@baseline_app.command("run")
def baseline_run(
    method: LearnedMethod,
    model: Annotated[Path, typer.Option(help="What `baseline train` wrote.")],
    pretrained: Annotated[Path, typer.Option(help="The pre-trained model given in training.")],
    data: Data,
    out: Out,
    rois: Rois = None,
    fold: Fold = None,
    channel: Channel = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Restore all stacks of a folder with CARE or Neuroclear; with --fold, those of a fold."""
    from tenet.data.folds import every_stack
    from tenet.paper.comparison.learned import run_baseline

    pairs = pairs_of(every_stack(data, out, rois, fold, channel=channel), out)
    run_baseline(method, model, pretrained, pairs, out, device=choose_device(device, threads))
