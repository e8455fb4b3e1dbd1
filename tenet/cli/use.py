"""`tenet enhance` and `register`: commands for raw stacks."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tenet.cli.device import choose_device
from tenet.cli.options import (
    MICROSCOPE,
    NA,
    Align,
    AnyModel,
    Channel,
    Channels,
    Data,
    Device,
    Fold,
    Immersion,
    Levels,
    ModelFolder,
    Normalisation,
    Out,
    Photons,
    PlanesAre,
    Rois,
    Threads,
    Times,
    VoxelSizeUm,
    Wavelength,
    picked,
)


def enhance(
    stacks: Annotated[
        list[Path], typer.Argument(metavar="STACK...", help="Raw stacks, or folders of them.")
    ],
    model: AnyModel = None,
    out: Out = Path("enhanced"),
    name: Annotated[str | None, typer.Option(help="Name of the result of a single file.")] = None,
    na: NA = None,
    wavelength: Wavelength = None,
    immersion: Immersion = None,
    photons: Photons = None,
    find_psf: Annotated[
        bool,
        typer.Option(
            "--find-psf/--psf-as-told",
            help="Look for the PSF in the stack.",
            rich_help_panel=MICROSCOPE,
        ),
    ] = True,
    sheet: Annotated[
        bool, typer.Option("--sheet/--no-sheet", help="Draw a PNG sheet, before and after.")
    ] = True,
    tile: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="Z Y X", help="Most voxels of a tile; by default by free memory."),
    ] = None,
    as_zarr: Annotated[
        bool,
        typer.Option("--zarr", help="Write OME-Zarr, with a pyramid for viewers."),
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option("--uncertainty", help="Also write the probability of an error."),
    ] = False,
    rois: Rois = None,
    fold: Fold = None,
    normalisation: Normalisation = None,
    align: Align = None,
    voxel_size: VoxelSizeUm = None,
    channel: Channels = None,
    time: Times = None,
    planes_are: PlanesAre = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Deblur, super-resolve and segment stacks: OME-TIFF with channels shape and brightness.

    Without --model nothing is trained: the model of every microscope is fitted to each stack, and
    what was found is in NAME.json.

    Results of a folder are laid out as the folder is, with the threshold in settings.json. Each
    channel and time point is a result of its own, as cells_c0_t003.ome.tif.
    """
    from tenet.io.optics import Optics
    from tenet.model.shipped import shipped_model
    from tenet.tasks.enhance import Reading
    from tenet.tasks.enhance import enhance as enhanced

    for path in enhanced(
        Reading(
            stacks,
            rois,
            fold,
            picked("--channel", channel),
            planes_are,
            voxel_size,
            time=picked("--time", time),
        ),
        model or shipped_model(),
        out,
        name=name,
        optics=Optics(na, wavelength, immersion, photons),
        find_psf=find_psf,
        normalisation=normalisation,
        align=align,
        tile_zyx_shape=tile,
        as_zarr=as_zarr,
        uncertainty=uncertainty,
        sheet=sheet,
        device=choose_device(device, threads),
    ):
        print(path)


def predict(
    model: ModelFolder,
    data: Data,
    out: Out,
    rois: Rois = None,
    fold: Fold = None,
    normalisation: Normalisation = None,
    align: Align = None,
    channel: Channel = None,
    levels: Levels = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """`enhance` of a folder for the evaluation, where a stack may have the model's voxel size."""
    from tenet.tasks.enhance import Reading, enhance

    for path in enhance(
        Reading([data], rois, fold, channel, voxel_size_of_model=True),
        model,
        out,
        normalisation=normalisation,
        align=align,
        levels=levels,
        device=choose_device(device, threads),
    ):
        print(path)


def register(
    data: Annotated[Path, typer.Argument(help="Folder of raw stacks, or of folders of stacks.")],
    out: Out,
    motion: Annotated[
        Literal["rigid", "translation"],
        typer.Option(help="Shift and rotation in the plane, or shift alone."),
    ] = "rigid",
    voxel_size: VoxelSizeUm = None,
    channel: Channel = None,
) -> None:
    """Register each plane of raw stacks to the mean of its neighbours, if the sample moved."""
    from tenet.paper.tasks.register import register as registered

    number = registered(data, out, motion=motion, voxel_size_um=voxel_size, channel=channel)
    print(f"{number} stacks -> {out}")
