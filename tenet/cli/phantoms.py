"""`tenet phantoms` and `tenet simulate`: structures with known truth, and stacks of these."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tenet.cli.options import (
    EXPERIMENTS,
    ExperimentName,
    ExperimentsFolder,
    Out,
    Overlays,
    Seed,
    Settings,
    Workers,
    read_experiment,
)
from tenet.errors import TenetError

phantoms_app = typer.Typer(help="Make simulated structures with known truth.", no_args_is_help=True)

Count = Annotated[int | None, typer.Option(min=1, help="Number of volumes.")]
Size = Annotated[tuple[int, int, int], typer.Option(metavar="Z Y X", help="Voxels per volume.")]


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
    from tenet.tasks.phantoms import training_set

    chosen = read_experiment(experiment, overlay, settings, experiments)
    training_set(chosen, out, count=count, workers=workers, seed=seed)


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
    from tenet.tasks.phantoms import angle_set

    try:
        angle_deg: float | Literal["random"] = "random" if angle == "random" else float(angle)
    except ValueError:
        raise TenetError(f"--angle {angle}: give degrees, or random") from None
    angle_set(
        out,
        angle_deg=angle_deg,
        zyx_shape=size,
        n_lines=lines,
        draws=draw or [0],
        workers=workers,
        seed=seed,
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
    from tenet.tasks.phantoms import bead_set

    bead_set(
        read_experiment(experiment, overlay, settings, experiments),
        out,
        zyx_shape=size,
        n_beads=beads,
        count=count or 1,
        workers=workers,
        seed=seed,
    )


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
    from tenet.paper.tasks.tissue import tissue_set

    tissue_set(
        kind,
        read_experiment(experiment, overlay, settings, experiments),
        out,
        zyx_shape=size,
        n_cells=cells,
        count=count or 1,
        workers=workers,
        seed=seed,
    )


@phantoms_app.command("import")
def phantoms_import(
    folder: Annotated[Path, typer.Argument(help="Folder of *.npz with arrays shape, brightness.")],
    out: Out,
) -> None:
    """Convert your own phantoms: one *.npz a volume, arrays shape (0 and 1) and brightness."""
    from tenet.data.phantoms.store import import_phantoms

    print(f"{len(import_phantoms(folder, out))} phantoms -> {out}")


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
    """Simulate raw stacks of phantoms. --set params.NA=... changes the microscope."""
    from tenet.tasks.simulate import simulate as simulated

    written = simulated(
        read_experiment(experiment, overlay, settings, experiments),
        phantoms,
        out,
        motion_px=motion,
        no_noise_part=no_noise_part,
        folds=folds,
        seed=seed,
    )
    print(f"{len(written)} stacks -> {out}")
