"""`tenet samples`: settings for your own stacks."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tenet.cli.options import (
    EXPERIMENTS,
    Channel,
    ExperimentsFolder,
    Out,
    Overlays,
    PlanesAre,
    Settings,
    VoxelSize,
    read_experiment,
)

samples_app = typer.Typer(help="Settings for your own stacks.", no_args_is_help=True)


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
        read_experiment(base, overlay, settings, experiments),
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
