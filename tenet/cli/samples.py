"""`tenet samples`: settings for your own stacks."""

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
    VoxelSizeUm,
    read_experiment,
)

samples_app = typer.Typer(help="Settings for your own stacks.", no_args_is_help=True)


@samples_app.command("experiment")
def samples_experiment(
    out: Out,
    file: Annotated[
        Path | None, typer.Option(help="The stack; or give --voxel-size alone.")
    ] = None,
    base: Annotated[str, typer.Option(help="Experiment to start from.")] = "sample",
    na: Annotated[float | None, typer.Option(help="Numerical aperture.")] = None,
    wavelength: Annotated[float | None, typer.Option(help="Excitation wavelength in µm.")] = None,
    ni: Annotated[float | None, typer.Option(help="Index of the immersion medium.")] = None,
    photons: Annotated[int | None, typer.Option(help="2 for two-photon excitation.")] = None,
    voxel_size: VoxelSizeUm = None,
    channel: Channel = None,
    time: Annotated[
        int | None, typer.Option(min=0, help="Number of the time point to read, from 0.")
    ] = None,
    planes_are: PlanesAre = None,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Write the settings for your own stacks from their voxel size and optics."""
    from tenet.tasks.samples import write_settings

    params = write_settings(
        file,
        out,
        read_experiment(base, overlay, settings, experiments),
        voxel_size_um=voxel_size,
        channel=channel,
        time=time,
        planes_are=planes_are,
        na=na,
        wavelength_um=wavelength,
        immersion_index=ni,
        photons=photons,
    )
    print(f"scale {params.scale}, fine voxels {params.fine_voxel_size_um} µm -> {out}")
