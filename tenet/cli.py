"""The command line: every step of the pipeline by hand."""

import atexit
import ctypes
import gc
import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tenet.errors import TenetError, one_line, printable
from tenet.interruption import end_on_signals, hold_if_ending
from tenet.io.atomic import NO_ROOM

if TYPE_CHECKING:
    import torch

    from tenet.io.stack import Stack
    from tenet.model.tenet import TENET
    from tenet.settings.schema import Experiment

app = typer.Typer(
    help="Sharp, isotropic, segmented volumes from blurred two-photon stacks, without any truth.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
config_app = typer.Typer(help="Look at the settings of experiments.", no_args_is_help=True)
phantoms_app = typer.Typer(help="Make simulated structures with known truth.", no_args_is_help=True)
rltv_app = typer.Typer(
    help="Richardson-Lucy deconvolution with total variation.", no_args_is_help=True
)
baseline_app = typer.Typer(
    help="CARE and Neuroclear: methods that learn from raw stacks too.", no_args_is_help=True
)
evaluate_app = typer.Typer(help="Measure predictions against what is known.", no_args_is_help=True)
samples_app = typer.Typer(help="Settings for your own stacks.", no_args_is_help=True)
for name, part in (
    ("config", config_app),
    ("phantoms", phantoms_app),
    ("rltv", rltv_app),
    ("baseline", baseline_app),
    ("evaluate", evaluate_app),
    ("samples", samples_app),
):
    app.add_typer(part, name=name)

ExperimentName = Annotated[
    str,
    typer.Argument(metavar="EXPERIMENT", help="Name in the experiments folder, or a JSON file."),
]
Overlays = Annotated[
    list[str] | None,
    typer.Option("--overlay", help="Settings laid over the experiment, as 'demo'. Repeatable."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, as params.NA=0.8. Repeatable."),
]
ExperimentsFolder = Annotated[
    Path, typer.Option("--experiments", help="Folder of the experiments' JSON files.")
]
Out = Annotated[Path, typer.Option("--out", help="Where the result goes.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Everything random follows from it.")]
Device = Annotated[
    str, typer.Option("--device", help="auto (a GPU if there is one), cpu, cuda or cuda:N.")
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, max=1024, help="CPU threads; all by default.")
]
VoxelSize = Annotated[
    tuple[float, float, float] | None,
    typer.Option("--voxel-size", metavar="Z Y X", help="In µm; needed if the file does not say."),
]
Channel = Annotated[
    int | None, typer.Option("--channel", min=0, help="Channel of a stack with several; from 0.")
]
PlanesAre = Annotated[
    Literal["C", "T"] | None,
    typer.Option("--planes-are", help="Where planes are recorded as channels or as time points."),
]
ModelFolder = Annotated[Path, typer.Option("--model", help="Folder of a trained model.")]
Rois = Annotated[
    Path | None,
    typer.Option("--rois", help="Table of beads: roi, image, z, y, x, fold (CSV)."),
]
Fold = Annotated[int | None, typer.Option("--fold", min=0, help="Fold of that table.")]
Data = Annotated[Path, typer.Option(help="Folder of stacks, or of folders of stacks.")]
Normalisation = Annotated[
    Literal["none", "minmax", "percentile"] | None,
    typer.Option(help="What intensities become 0 and 1; as the model was trained by default."),
]
Align = Annotated[
    bool | None,
    typer.Option("--align/--no-align", help="Align planes first; by default if the model can."),
]
EXPERIMENTS = Path("config/experiments")
#: What a signal leaves, and the commands that go on where they were.
RESUMED = "the same command goes on after the last whole epoch"
AGAIN = "what was not finished is removed: run the command again"
TRAININGS = (["pretrain"], ["align"], ["finetune"], ["baseline", "train"])


def main() -> None:
    """Run a command; a user's mistake ends in one line and status 2."""
    atexit.register(gc.freeze)  # all ends with the process: garbage need not be looked for
    end_on_signals(RESUMED if sys.argv[1:2] in TRAININGS or sys.argv[1:3] in TRAININGS else AGAIN)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold what it cannot encode
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            _check_working_folder()
            app()
        finally:
            hold_if_ending()
    except TenetError as error:
        print(f"tenet: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        # Files say so by themselves: this is what a command prints, into a file.
        print(f"tenet: no room on the disk ({one_line(error)}); free some", file=sys.stderr)
        raise SystemExit(2) from None
    except MemoryError as error:
        print(f"tenet: no memory for it ({one_line(error)}); take less at once", file=sys.stderr)
        raise SystemExit(2) from None


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except OSError:
        raise TenetError("the folder you are in was removed; change into another one") from None


# Settings -----------------------------------------------------------------------------------------


def _experiment(
    name: str, overlays: list[str] | None, settings: list[str] | None, folder: Path
) -> "Experiment":
    from tenet.settings.load import load_experiment

    return load_experiment(name, overlays=overlays or (), settings=_nested(settings), folder=folder)


def _nested(settings: list[str] | None) -> dict[str, Any]:
    """The values of `--set` options, KEY.KEY=VALUE."""
    from tenet.settings.load import nested_settings

    return nested_settings(settings or ())


def _device(name: str, threads: int | None) -> "torch.device":
    import torch

    if threads:
        torch.set_num_threads(threads)
    _keep_freed_memory()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise TenetError(f"--device {name}: give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TenetError("--device cuda: this machine has no CUDA device; use --device cpu")
    if (device.index or 0) >= max(1, torch.cuda.device_count()):
        raise TenetError(f"--device {name}: there is no such device, they are counted from 0")
    return device


def _keep_freed_memory() -> None:
    """Let glibc reuse the memory that tensors leave, where it would return it to the system.

    Each step allocates the same tensors again; fresh pages cost as much as the FFTs in them. One
    arena for all threads, as the backward pass could not reuse what the forward pass left.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt:
            mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, its largest value
            mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
            mallopt(-8, 1)  # M_ARENA_MAX


@config_app.command("list")
def config_list(experiments: ExperimentsFolder = EXPERIMENTS) -> None:
    """List the experiments, with what each is for."""
    from tenet.settings.load import explanations

    for name, explanation in explanations(experiments):
        print(f"{name:20} {explanation}")


@config_app.command("show")
def config_show(
    experiment: ExperimentName,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Print an experiment with all that it extends, checked and complete."""
    print(_experiment(experiment, overlay, settings, experiments).model_dump_json(indent=2))


@samples_app.command("experiment")
def samples_experiment(
    file: Annotated[Path, typer.Option(help="The stack.")],
    out: Out,
    base: Annotated[str, typer.Option(help="Experiment to start from.")] = "sample",
    na: Annotated[float | None, typer.Option(help="Numerical aperture.")] = None,
    wavelength: Annotated[float | None, typer.Option(help="Excitation wavelength in µm.")] = None,
    ni: Annotated[float | None, typer.Option(help="Index of the immersion medium.")] = None,
    photons: Annotated[int | None, typer.Option(help="2 for two-photon excitation.")] = None,
    voxel_size: VoxelSize = None,
    channel: Channel = None,
    planes_are: PlanesAre = None,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Write the settings for a stack of your own from its voxel size and optics."""
    from tenet.io.atomic import save_json
    from tenet.io.folders import voxel_size_of
    from tenet.io.open import open_stack
    from tenet.io.outputs import check_outputs
    from tenet.settings.own_stack import sample_experiment, uneven_voxels

    check_outputs([file], [out])
    stack = open_stack(file, channel=channel, planes_are=planes_are)
    experiment = sample_experiment(
        _experiment(base, overlay, settings, experiments),
        voxel_size_of(stack, voxel_size),
        where=str(file),
        zyx_shape=stack.zyx_shape,
        na=na,
        wavelength_um=wavelength,
        immersion_index=ni,
        photons=photons,
    )
    save_json(out, experiment.model_dump(mode="json"))
    params = experiment.params
    print(f"scale {params.scale}, fine voxels {params.fine_voxel_size_um} µm -> {out}")
    uneven = uneven_voxels(params)
    if uneven:
        print(f"note: {file}: {uneven}", file=sys.stderr)


# Simulated data -----------------------------------------------------------------------------------

Count = Annotated[int | None, typer.Option(min=1, help="Number of volumes.")]
Size = Annotated[tuple[int, int, int], typer.Option(metavar="Z Y X", help="Voxels per volume.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]


@phantoms_app.command("training")
def phantoms_training(
    experiment: ExperimentName,
    out: Out,
    count: Count = None,
    workers: Workers = 1,
    seed: Seed = 0,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Bent lines, balls, octahedra and cubes: to pre-train, tune and test on."""
    from tenet.data.phantoms.sets import generate_set
    from tenet.data.simulate import training_phantoms

    section = _experiment(experiment, overlay, settings, experiments).simulation_data_generation
    number = count or section.train_num + section.valid_num
    chosen = training_phantoms(section)
    generate_set(chosen, out, count=number, seed=seed, workers=workers, progress=_report)


@phantoms_app.command("angle")
def phantoms_angle(
    out: Out,
    angle: Annotated[str, typer.Option(help="Degrees to the optical axis, or random.")],
    size: Size = (500, 500, 500),
    lines: Annotated[int, typer.Option(min=1, help="Lines per volume.")] = 250,
    draw: Annotated[
        list[int] | None,
        typer.Option("--draw", min=0, help="Number of a volume to draw. Repeatable; 0 if none."),
    ] = None,
    workers: Workers = 1,
    seed: Seed = 0,
) -> None:
    """Straight lines at one angle to the optical axis."""
    from tenet.data.phantoms.kinds import AnglePhantomSettings
    from tenet.data.phantoms.sets import generate_set

    try:
        angle_deg: float | Literal["random"] = "random" if angle == "random" else float(angle)
    except ValueError:
        raise TenetError(f"--angle {angle}: give degrees, or random") from None
    chosen = AnglePhantomSettings(zyx_shape=size, n_lines=lines, angle_deg=angle_deg)
    draws = draw or [0]
    generate_set(
        chosen, out, count=len(draws), seed=seed, draws=draws, workers=workers, progress=_report
    )


@phantoms_app.command("beads")
def phantoms_beads(
    experiment: ExperimentName,
    out: Out,
    size: Size = (310, 512, 512),
    beads: Annotated[int, typer.Option(min=1, help="Beads per volume.")] = 8,
    count: Count = 1,
    workers: Workers = 1,
    seed: Seed = 0,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Solid beads of 2 µm on the fine grid of an experiment."""
    from tenet.data.phantoms.kinds import BeadsPhantomSettings
    from tenet.data.phantoms.sets import generate_set

    params = _experiment(experiment, overlay, settings, experiments).params
    chosen = BeadsPhantomSettings(
        zyx_shape=size, voxel_size_um=params.fine_voxel_size_um, n_beads=beads
    )
    generate_set(chosen, out, count=count or 1, seed=seed, workers=workers, progress=_report)


@phantoms_app.command("tissue")
def phantoms_tissue(
    kind: Annotated[Literal["neurons", "microglia", "tumour"], typer.Argument(help="Which cells.")],
    experiment: ExperimentName,
    out: Out,
    size: Size = (120, 256, 256),
    cells: Annotated[int, typer.Option(min=1, help="Cells per volume.")] = 4,
    count: Count = 1,
    workers: Workers = 1,
    seed: Seed = 0,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Cells with branching processes, or a tumour, on the fine grid of an experiment."""
    from tenet.data.phantoms.sets import generate_set
    from tenet.paper.tissue import TissuePhantomSettings

    params = _experiment(experiment, overlay, settings, experiments).params
    chosen = TissuePhantomSettings(kind, size, params.fine_voxel_size_um, cells)
    generate_set(chosen, out, count=count or 1, seed=seed, workers=workers, progress=_report)


@phantoms_app.command("import")
def phantoms_import(
    folder: Annotated[Path, typer.Argument(help="Folder of *.npz with arrays shape, brightness.")],
    out: Out,
) -> None:
    """Convert your own phantoms: one *.npz a volume, arrays shape (0 and 1) and brightness."""
    from tenet.data.phantoms.store import import_phantoms

    print(f"{len(import_phantoms(folder, out))} phantoms -> {out}")


@app.command()
def simulate(
    experiment: ExperimentName,
    phantoms: Annotated[Path, typer.Option(help="Folder of phantoms.")],
    out: Out,
    motion: Annotated[float, typer.Option(min=0, help="Shift of planes, SD in pixels.")] = 0.0,
    no_noise_part: Annotated[
        bool, typer.Option("--no-noise-part", help="Write the stacks without noise too.")
    ] = False,
    folds: Annotated[int | None, typer.Option(min=1, help="Folds of rois.csv.")] = None,
    seed: Seed = 0,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Take simulated stacks of phantoms; --set params.NA=... makes another microscope of it."""
    from tenet.data.simulate import simulate_acquisitions

    chosen = _experiment(experiment, overlay, settings, experiments)
    written = simulate_acquisitions(
        chosen,
        phantoms,
        out,
        motion_px=motion,
        no_noise_part=no_noise_part,
        folds=folds,
        seed=seed,
    )
    print(f"{len(written)} stacks -> {out}")


@app.command()
def register(
    data: Annotated[Path, typer.Argument(help="Folder of raw stacks, or of folders of stacks.")],
    out: Out,
    motion: Annotated[
        Literal["rigid", "translation"],
        typer.Option(help="Shift and rotation in the plane, or shift alone."),
    ] = "rigid",
    voxel_size: VoxelSize = None,
    channel: Channel = None,
) -> None:
    """Lay each plane of raw stacks on the mean of those around it, where the sample moved."""
    from tenet.paper.registration import register_folder

    number = register_folder(
        data, out, motion=motion, voxel_size_um=voxel_size, channel=channel, progress=_report
    )
    print(f"{number} stacks -> {out}")


# Training -----------------------------------------------------------------------------------------

Phantoms = Annotated[Path | None, typer.Option(help="Folder of phantoms.")]
Tuning = Annotated[
    Path | None, typer.Option(help="Held-out phantoms on which the threshold is chosen.")
]


@app.command()
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

    chosen = _experiment(experiment, overlay, settings, experiments)
    where = _device(device, threads)
    tasks.pretrain(chosen, phantoms, out, tuning=tuning, device=where, seed=seed)


@app.command()
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

    chosen = _experiment(experiment, overlay, settings, experiments)
    where = _device(device, threads)
    tasks.train_alignment(chosen, pretrained, phantoms, out, tuning=tuning, device=where, seed=seed)


@app.command()
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

    chosen = _experiment(experiment, overlay, settings, experiments)
    where = _device(device, threads)
    stacks = None
    if simulation == bool(data):
        raise TenetError("give either --data with raw stacks, or --simulation")
    if data:
        files = [file for path in data for file in stack_files(path)]
        stacks = [open_stack(file, channel=channel, planes_are=planes_are) for file in files]
        stacks = outside_fold(stacks, fold, rois, chosen.test_dataset.test_images)
        for stack in stacks:
            _warn_of_voxels(stack, voxel_size, chosen)
        _note_missing_calibration(pretrained)
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


# Inference ----------------------------------------------------------------------------------------


@app.command()
def enhance(
    stacks: Annotated[list[Path], typer.Argument(metavar="STACK...", help="Raw stacks.")],
    model: ModelFolder,
    out: Out,
    name: Annotated[str | None, typer.Option(help="Name of the result of a single stack.")] = None,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Also draw a PNG sheet, before and after.")
    ] = False,
    tile: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="Z Y X", help="Most voxels of a tile; by default by free memory."),
    ] = None,
    as_zarr: Annotated[
        bool, typer.Option("--zarr", help="Write OME-Zarr: chunks, compressed, levels for viewers.")
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option("--uncertainty", help="Also how likely each voxel is segmented wrongly."),
    ] = False,
    flips: Annotated[
        int, typer.Option(help="Mean over 4 or 8 mirror images: a little better, as much slower.")
    ] = 1,
    align: Align = None,
    voxel_size: VoxelSize = None,
    channel: Channel = None,
    planes_are: PlanesAre = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Deblur, super-resolve and segment stacks: OME-TIFF with channels shape and brightness."""
    from tenet.enhance.enhance import enhance_stack, read_threshold, segmented_share
    from tenet.io.folders import stack_name, voxel_size_of
    from tenet.io.intensities import warnings_of
    from tenet.io.open import open_stack
    from tenet.io.outputs import check_outputs, plain_name
    from tenet.model.certainty import Certainty
    from tenet.model.intensity import model_range
    from tenet.paper.legacy.inference import enhanced_sheet

    if name is not None and len(stacks) > 1:
        raise TenetError("--name goes with a single stack")
    stems = [stack_name(path) for path in stacks] if name is None else [plain_name(name)]
    suffix = "ome.zarr" if as_zarr else "ome.tif"
    results = [out / f"{stem}.{suffix}" for stem in stems]
    pictures = [out / f"{stem}.png" for stem in stems] if sheet else []
    check_outputs(stacks, [*results, *pictures])
    opened = [open_stack(path, channel=channel, planes_are=planes_are) for path in stacks]
    sizes = [voxel_size_of(stack, voxel_size) for stack in opened]
    network, experiment = _model(model, device, threads, align)
    certainty = Certainty.read(model) if uncertainty else None
    chosen = read_threshold(model)
    threshold = experiment.params.threshold if chosen is None else chosen
    for number, (stack, size, path) in enumerate(zip(opened, sizes, results, strict=True)):
        _warn_of_voxels(stack, size, experiment)
        range_ = model_range(stack, experiment, model, device=network.initial_psf.device)
        print(f"{stack.path}: {range_.describe()}", file=sys.stderr)
        enhance_stack(
            network,
            stack,
            range_,
            path,
            voxel_size_um=size,
            tile_zyx_shape=tile,
            flips=flips,
            certainty=certainty,
            device=_device(device, threads),
            progress=_report,
        )
        for warning in warnings_of(range_, segmented_share(path, threshold)):
            print(f"warning: {stack.path}: {warning}", file=sys.stderr)
        print(path)
        if sheet:
            enhanced_sheet(network, stack, path, pictures[number], voxel_size_um=size)
            print(pictures[number])


@app.command()
def predict(
    model: ModelFolder,
    data: Data,
    out: Out,
    rois: Rois = None,
    fold: Fold = None,
    normalisation: Normalisation = None,
    align: Align = None,
    channel: Channel = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Enhance all stacks of a folder for the evaluation; with --fold, only those of a fold."""
    from tenet.data.folds import every_stack
    from tenet.enhance.enhance import enhance_stack, read_threshold
    from tenet.io.atomic import save_json
    from tenet.model.intensity import model_range

    pairs = _pairs(every_stack(data, out, rois, fold, channel=channel), out)
    network, experiment = _model(model, device, threads, align)
    threshold = read_threshold(model)
    where = network.initial_psf.device
    for stack, path in pairs:
        range_ = model_range(stack, experiment, model, normalisation, device=where)
        size = stack.voxel_size_um or experiment.params.coarse_voxel_size_um
        enhance_stack(network, stack, range_, path, voxel_size_um=size)
    chosen = experiment.params.threshold if threshold is None else threshold
    save_json(out / "settings.json", {"threshold": chosen, "model": str(model)})


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
        progress=_report,
        device=_device(device, threads),
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
        _pairs(every_stack(data, out, rois, channel=channel), out),
        out,
        paper=paper,
        normalisation=normalisation,
        device=_device(device, threads),
    )


LearnedMethod = Annotated[
    Literal["care", "neuroclear"], typer.Argument(help="Which method: care or neuroclear.")
]


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
        settings=_nested(settings),
        normalisation=normalisation,
        provenance={
            "model": str(model),
            "fold": fold,
            "images": [stack.path.name for stack in stacks],
        },
        device=_device(device, threads),
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

    pairs = _pairs(every_stack(data, out, rois, fold, channel=channel), out)
    run_baseline(method, model, pretrained, pairs, out, device=_device(device, threads))


# Evaluation ---------------------------------------------------------------------------------------

Predictions = Annotated[Path, typer.Option(help="Folder with a sub-folder per method.")]
Methods = Annotated[list[str] | None, typer.Option("--method", help="Repeatable; all if none.")]
Sweep = Annotated[Path, typer.Option(help="Table of threshold sweeps (CSV).")]


@evaluate_app.command("segmentation")
def evaluate_segmentation(
    experiment: ExperimentName,
    predictions: Predictions,
    phantoms: Annotated[Path, typer.Option(help="The truth.")],
    out: Out,
    sweep: Sweep,
    method: Methods = None,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """IoU, Dice and average precision of every prediction."""
    from tenet.paper.evaluate import segmentation

    chosen = _experiment(experiment, overlay, settings, experiments)
    tables = segmentation.evaluate_segmentation(chosen.name, predictions, phantoms, methods=method)
    _write_tables(tables, (out, sweep))


@evaluate_app.command("beads")
def evaluate_beads(
    experiment: ExperimentName,
    predictions: Predictions,
    rois: Annotated[Path, typer.Option(help="Table of beads: roi, image, z, y, x, fold.")],
    out: Out,
    sweep: Sweep,
    phantoms: Annotated[
        Path | None, typer.Option(help="Simulated beads: their exact centres.")
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
    from tenet.io.outputs import check_outputs
    from tenet.paper.evaluate import beads

    check_outputs([rois], [out, sweep])
    chosen = _experiment(experiment, overlay, settings, experiments)
    tables = beads.evaluate_beads(
        chosen.name,
        predictions,
        rois,
        chosen.params.scale,
        methods=method,
        folds=fold,
        phantoms=phantoms,
    )
    _write_tables(tables, (out, sweep))


@evaluate_app.command("profiles")
def evaluate_profiles(
    experiment: ExperimentName,
    predictions: Predictions,
    data: Data,
    out: Out,
    phantoms: Annotated[Path | None, typer.Option(help="The truth of simulated stacks.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="Repeatable.")] = None,
) -> None:
    """Widths of thin structures along z and across, in the raw stacks and in every result."""
    from tenet.paper.evaluate.structures import evaluate_profiles as evaluate
    from tenet.paper.evaluate.tables import methods_in

    methods = methods_in(predictions, method)
    table = evaluate(experiment, predictions, data, methods, phantoms=phantoms)
    _write_tables([table], (out,))


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
        Path | None, typer.Option(help="Predictions of the tumour's channel, likewise.")
    ] = None,
    phantoms: Annotated[Path | None, typer.Option(help="The truth of simulated stacks.")] = None,
    tumour_phantoms: Annotated[Path | None, typer.Option(help="That of the tumour.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="Repeatable.")] = None,
) -> None:
    """Cells of every segmentation: number, shape, distance to the tumour."""
    import numpy as np

    from tenet.io.atomic import replacing
    from tenet.paper.evaluate.structures import evaluate_cells as evaluate
    from tenet.paper.evaluate.tables import methods_in

    methods = methods_in(predictions, method)
    summary, every, projected = evaluate(
        experiment,
        predictions,
        tumour,
        methods,
        phantoms=phantoms,
        tumour_phantoms=tumour_phantoms,
    )
    with replacing(projections) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **projected)
    _write_tables([summary, every], (out, cells))


@app.command()
def table(
    figure: Annotated[
        Literal["fig2", "fig3", "fig4", "fig5", "supp", "supp_motion", "quality"],
        typer.Argument(help="Which figure."),
    ],
    metrics: Annotated[list[Path], typer.Option(help="Tables of `evaluate`. Repeatable.")],
    published: Annotated[Path, typer.Option(help="The paper's numbers (CSV).")],
    out: Out,
    psf: Annotated[
        list[Path] | None, typer.Option("--psf", help="psf.csv of each fold. Repeatable.")
    ] = None,
    acquisition: Annotated[
        Path | None, typer.Option(help="acquisition.json, if the images are simulated.")
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", metavar="METHOD=WORDS", help="How it was trained. Repeatable."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Means, intervals and the paper's numbers side by side."""
    import numpy as np

    from tenet.io.outputs import check_outputs
    from tenet.paper.evaluate.summary import summary_table
    from tenet.paper.evaluate.tables import read_metrics

    check_outputs(
        [*metrics, published, *(psf or ()), *([acquisition] if acquisition else [])], [out]
    )
    tables = [read_metrics(path) for path in metrics]
    rng = np.random.default_rng(seed)
    budgets = {}
    for words in budget or ():
        method, is_one, told = words.partition("=")
        if not is_one:
            raise TenetError(f"--budget {words}: expected METHOD=WORDS")
        budgets[method] = told
    summary = summary_table(figure, tables, published, rng, psf or (), acquisition, budgets)
    _write_tables([summary], (out,))


@app.command("published")
def published_table(
    metrics: Annotated[list[Path], typer.Option(help="EXPERIMENT.csv of `evaluate`. Repeatable.")],
    published: Annotated[Path, typer.Option(help="The paper's numbers (CSV).")],
    out: Out,
    sweep: Annotated[
        list[Path] | None, typer.Option("--sweep", help="EXPERIMENT_sweep.csv. Repeatable.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Every number of the paper beside this run's, by the paper's definition and by a fair one."""
    import numpy as np

    from tenet.io.outputs import check_outputs
    from tenet.paper.published import published_vs_run

    check_outputs([published, *metrics, *(sweep or ())], [out])
    found = published_vs_run(published, metrics, sweep or (), np.random.default_rng(seed))
    _write_tables([found], (out,))


@app.command()
def bench(
    out: Out = Path("results/bench/bench.csv"),
    row: Annotated[list[str] | None, typer.Option("--row", help="Only these rows.")] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto (the CPU and a GPU if there is one), cpu or cuda.")
    ] = "auto",
) -> None:
    """Measure what the main steps cost on this machine."""
    from tenet.paper.bench import run_bench

    run_bench(out, rows=row, device=device)


# Shared -------------------------------------------------------------------------------------------


def _report(done: int, total: int) -> None:
    """Progress in one line on a terminal, in tenths of the way in a log."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done} of {total}", end=end, file=sys.stderr, flush=True)
    elif done == total or done * 10 // total > (done - 1) * 10 // total:
        print(f"{done} of {total}", file=sys.stderr, flush=True)


def _warn_of_voxels(
    stack: "Stack", given: tuple[float, float, float] | None, experiment: "Experiment"
) -> None:
    """Warn when a stack's voxels are not those that the model is trained for."""
    from tenet.settings.own_stack import voxel_size_mismatch

    size = given or stack.voxel_size_um
    warning = voxel_size_mismatch(experiment.params, size) if size else None
    if warning:
        print(f"warning: {stack.path}: {warning}", file=sys.stderr)


def _pairs(pairs: "list[tuple[Stack, Path]]", out: Path) -> "list[tuple[Stack, Path]]":
    """Stacks and the files for their results, none of which replaces a stack."""
    from tenet.io.outputs import check_outputs

    targets = [target for _, target in pairs]
    check_outputs([stack.path for stack, _ in pairs], [*targets, out / "settings.json"])
    return pairs


def _model(
    folder: Path, device: str, threads: int | None, align: bool | None
) -> "tuple[TENET, Experiment]":
    """A model to enhance with, and its settings; a note if it was never calibrated."""
    from tenet.enhance.enhance import choose_alignment
    from tenet.model.store import load_model

    network, experiment = load_model(folder, device=_device(device, threads))
    network.half_precision = experiment.train_loop.precision == "bfloat16"
    choose_alignment(network, align, folder)
    _note_missing_calibration(folder)
    return network, experiment


def _note_missing_calibration(model: Path) -> None:
    from tenet.enhance.enhance import missing_calibration

    note = missing_calibration(model)
    if note:
        print(f"note: {note}", file=sys.stderr)


def _write_tables(tables: Any, paths: tuple[Path, ...]) -> None:
    from tenet.io.atomic import replacing

    for table, path in zip(tables, paths, strict=True):
        with replacing(path) as temporary:
            table.to_csv(temporary, index=False)
        print(f"{len(table)} rows -> {path}")
