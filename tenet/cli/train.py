"""`tenet pretrain`, `align` and `finetune`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from tenet.cli.device import choose_device
from tenet.cli.options import (
    EXPERIMENTS,
    Align,
    Channel,
    Device,
    ExperimentName,
    ExperimentsFolder,
    Fold,
    Out,
    Overlays,
    Phantoms,
    PlanesAre,
    Rois,
    Seed,
    Settings,
    Threads,
    Tuning,
    VoxelSize,
    read_experiment,
)
from tenet.cli.printing import note_missing_calibration, warn_of_voxels
from tenet.errors import TenetError


def pretrain(
    experiment: ExperimentName,
    phantoms: Annotated[Path, typer.Option(help="Folder of phantoms, or of your own *.npz.")],
    out: Out,
    tuning: Tuning = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Fit the PSF network to the optics and train the encoder on blurred phantoms.

    Run the same command again after an interruption: it goes on where it was.
    """
    from tenet import tasks

    chosen = read_experiment(experiment, overlay, settings, experiments)
    where = choose_device(device, threads)
    tasks.pretrain(chosen, phantoms, out, tuning=tuning, device=where, seed=seed)


def align(
    experiment: ExperimentName,
    pretrained: Annotated[Path, typer.Option(help="Folder of the pre-trained model.")],
    phantoms: Annotated[Path, typer.Option(help="Folder of phantoms.")],
    out: Out,
    tuning: Tuning = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Train the network of `align_params` that lays misaligned planes on one another.

    The result is the pre-trained model with it: fine-tune from there.
    """
    from tenet import tasks

    chosen = read_experiment(experiment, overlay, settings, experiments)
    where = choose_device(device, threads)
    tasks.train_alignment(chosen, pretrained, phantoms, out, tuning=tuning, device=where, seed=seed)


def finetune(
    experiment: ExperimentName,
    pretrained: Annotated[Path, typer.Option(help="Folder of the pre-trained model.")],
    out: Out,
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="Raw stacks, or a folder. Repeatable.")
    ] = None,
    simulation: Annotated[
        bool, typer.Option("--simulation", help="Make images from phantoms, PSF frozen.")
    ] = False,
    phantoms: Phantoms = None,
    tuning: Tuning = None,
    rois: Rois = None,
    fold: Fold = None,
    train: Annotated[
        Literal["all", "encoder", "decoder", "old"],
        typer.Option(help="What is trained; decoder is PSF and noise, old is all."),
    ] = "old",
    align: Align = None,
    evaluate_only: Annotated[
        bool, typer.Option("--evaluate-only", help="Losses of the model in --out; no training.")
    ] = False,
    voxel_size: VoxelSize = None,
    channel: Channel = None,
    planes_are: PlanesAre = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Adapt a pre-trained model to raw stacks, without any truth.

    With --rois and --fold the images that hold the regions of that fold are left out.
    """
    from tenet import tasks
    from tenet.data.folds import outside_fold
    from tenet.io.folders import stack_files
    from tenet.io.open import open_stack

    chosen = read_experiment(experiment, overlay, settings, experiments)
    where = choose_device(device, threads)
    stacks = None
    if simulation == bool(data):
        raise TenetError("give either --data with raw stacks, or --simulation")
    if data:
        files = [file for path in data for file in stack_files(path)]
        stacks = [open_stack(file, channel=channel, planes_are=planes_are) for file in files]
        stacks = outside_fold(stacks, fold, rois, chosen.test_dataset.test_images)
        for stack in stacks:
            warn_of_voxels(stack, voxel_size, chosen)
        note_missing_calibration(pretrained)
    if evaluate_only:
        losses = tasks.evaluate(
            chosen, out, pretrained, stacks, phantoms=phantoms, device=where, seed=seed
        )
        print(json.dumps(losses, indent=2))
        return
    names = [stack.path.name for stack in stacks or ()]
    tasks.fine_tune(
        chosen,
        pretrained,
        out,
        stacks,
        tuning=tuning,
        provenance={"pretrained": str(pretrained), "fold": fold, "images": names},
        device=where,
        seed=seed,
        phantoms=phantoms,
        mode=train,
        align=align,
    )
