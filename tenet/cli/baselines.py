"""`tenet rltv` and `tenet baseline`: methods to compare TENET with."""

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
    Levels,
    ModelFolder,
    Normalisation,
    Out,
    Rois,
    Seed,
    Settings,
    Threads,
    nested,
)

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
    phantoms: Annotated[Path, typer.Option(help="Folder of tuning phantoms.")],
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
    """Choose iterations, weight and threshold by IoU on tuning phantoms."""
    from tenet.paper.tasks.rltv import tune_rltv

    tune_rltv(
        model,
        phantoms,
        out,
        iterations=iterations,
        tv_weights=tv_weight,
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
    levels: Levels = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Deconvolve all stacks of a folder with the nominal PSF of a model."""
    from tenet.paper.tasks.pairs import FolderOfStacks
    from tenet.paper.tasks.rltv import run_rltv

    run_rltv(
        model,
        settings,
        FolderOfStacks(data, rois, channel=channel),
        out,
        paper=paper,
        normalisation=normalisation,
        levels=levels,
        device=choose_device(device, threads),
    )


@baseline_app.command("train")
def baseline_train(
    method: LearnedMethod,
    model: Annotated[Path, typer.Option(help="Pre-trained model, for its nominal microscope.")],
    data: Annotated[list[Path], typer.Option(help="Raw stacks, or a folder. Repeatable.")],
    tuning: Annotated[Path, typer.Option(help="Folder of tuning phantoms, for the threshold.")],
    out: Out,
    rois: Rois = None,
    fold: Fold = None,
    test_image: Annotated[
        list[str] | None,
        typer.Option("--test-image", help="Image that training never reads. Repeatable."),
    ] = None,
    normalisation: Normalisation = None,
    settings: Settings = None,
    seed: Seed = 0,
    channel: Channel = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train CARE or Neuroclear on raw stacks, as TENET is fine-tuned.

    Run the same command again after an interruption to continue the training.
    """
    from tenet.paper.tasks.baselines import train_baseline
    from tenet.tasks.raw_stacks import RawStacks

    record = train_baseline(
        method,
        model,
        RawStacks(data, rois, fold, channel),
        tuning,
        out,
        settings=nested(settings),
        test_images=test_image or (),
        normalisation=normalisation,
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
    levels: Levels = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Restore all stacks of a folder with CARE or Neuroclear; with --fold, those of a fold."""
    from tenet.paper.tasks.baselines import run_baseline
    from tenet.paper.tasks.pairs import FolderOfStacks

    stacks = FolderOfStacks(data, rois, fold, channel)
    run_baseline(
        method,
        model,
        pretrained,
        stacks,
        out,
        levels=levels,
        device=choose_device(device, threads),
    )
