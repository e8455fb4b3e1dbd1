"""`tenet pretrain`, `align`, `finetune`, `learn` and `import-weights`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from tenet.cli.device import choose_device
from tenet.cli.options import (
    EXPERIMENTS,
    NA,
    Align,
    AnyModel,
    Channels,
    Device,
    ExperimentName,
    ExperimentsFolder,
    Fold,
    Immersion,
    Out,
    Overlays,
    Phantoms,
    Photons,
    PlanesAre,
    Rois,
    ScanOffset,
    Seed,
    Settings,
    StructureUm,
    Threads,
    Times,
    Tuning,
    VoxelSizeUm,
    Wavelength,
    nested,
    picked,
    read_experiment,
    scan_offset,
)
from tenet.errors import TenetError


def pretrain(
    experiment: ExperimentName,
    phantoms: Annotated[Path, typer.Option(help="Folder of phantoms, or of your own *.npz.")],
    out: Out,
    tuning: Tuning = None,
    start: Annotated[
        Path | None, typer.Option(help="Model whose encoder the training begins with.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Fit the PSF network to the optics and train the encoder on blurred phantoms.

    Run the same command again after an interruption to continue the training.
    """
    from tenet.tasks import pretrain as tasks

    chosen = read_experiment(experiment, overlay, settings, experiments)
    where = choose_device(device, threads)
    tasks.pretrain(chosen, phantoms, out, tuning=tuning, start=start, device=where, seed=seed)


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
    """Train the network of `align_params`, which aligns planes of a sample that moved.

    The result is the pre-trained model with this network. Fine-tune from the result.
    """
    from tenet.tasks import align as tasks

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
    voxel_size: VoxelSizeUm = None,
    channel: Channels = None,
    time: Times = None,
    planes_are: PlanesAre = None,
    offset: ScanOffset = None,
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
    from tenet.tasks import finetune as tasks
    from tenet.tasks.raw_stacks import RawStacks

    chosen = read_experiment(experiment, overlay, settings, experiments)
    where = choose_device(device, threads)
    if simulation == bool(data):
        raise TenetError("give either --data with raw stacks, or --simulation")
    shifted = scan_offset(offset)
    if simulation and shifted is not None:
        raise TenetError("--scan-offset is for raw stacks, and not for --simulation")
    channels, times = picked("--channel", channel), picked("--time", time)
    raw = None
    if data:
        raw = RawStacks(data, rois, fold, channels, planes_are, voxel_size, times, shifted)
    if evaluate_only:
        losses = tasks.evaluate(
            chosen, pretrained, out, raw, phantoms=phantoms, device=where, seed=seed
        )
        print(json.dumps(losses, indent=2))
        return
    tasks.fine_tune(
        chosen,
        pretrained,
        out,
        raw,
        tuning=tuning,
        phantoms=phantoms,
        mode=train,
        align=align,
        device=where,
        seed=seed,
    )


def learn(
    stacks: Annotated[
        list[Path], typer.Argument(metavar="STACK...", help="Raw stacks, or folders of them.")
    ],
    out: Out,
    model: AnyModel = None,
    what: Annotated[
        Literal["psf", "all"],
        typer.Option(
            "--train",
            help="psf: look for the PSF, learn the noise; all: learn the encoder as well.",
        ),
    ] = "psf",
    na: NA = None,
    wavelength: Wavelength = None,
    immersion: Immersion = None,
    photons: Photons = None,
    thickness: StructureUm = None,
    voxel_size: VoxelSizeUm = None,
    channel: Channels = None,
    time: Times = None,
    planes_are: PlanesAre = None,
    offset: ScanOffset = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    settings: Settings = None,
) -> None:
    """Fit the model of every microscope to your microscope, once for many stacks.

    Give the result to `tenet enhance --model`. Run the same command again after an interruption
    to continue.
    """
    from tenet.io.optics import Optics
    from tenet.model.shipped import shipped_model
    from tenet.tasks import learn as tasks
    from tenet.tasks.raw_stacks import RawStacks

    channels, times = picked("--channel", channel), picked("--time", time)
    tasks.learn(
        RawStacks(stacks, None, None, channels, planes_are, voxel_size, times, scan_offset(offset)),
        model or shipped_model(),
        out,
        Optics(na, wavelength, immersion, photons),
        structure_um=thickness,
        what=what,
        settings=nested(settings),
        device=choose_device(device, threads),
        seed=seed,
    )


def import_weights(
    weights: Annotated[
        Path, typer.Argument(metavar="FILE.pt", help="Weights of the published code.")
    ],
    configuration: Annotated[
        str, typer.Argument(metavar="CONFIG", help="The JSON file that goes with them, or a name.")
    ],
    out: Out,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Make a model of weights of the published code, to enhance with or to fine-tune.

    Nothing in FILE.pt is run. The threshold of the model is that of CONFIG.
    """
    from tenet.tasks import import_weights as tasks

    chosen = read_experiment(configuration, overlay, settings, experiments)
    tasks.import_weights(weights, chosen, out)
