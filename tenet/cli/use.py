"""`tenet enhance`, `register` and `export-model`: commands for raw stacks, and for elsewhere."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

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
    ScanOffset,
    StructureUm,
    Threads,
    Times,
    VoxelSizeUm,
    Wavelength,
    picked,
    scan_offset,
)

if TYPE_CHECKING:
    import torch

    from tenet.tasks.enhance import Wanted
    from tenet.tasks.reading import Reading


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
    thickness: StructureUm = None,
    find_psf: Annotated[
        bool,
        typer.Option(
            "--find-psf/--psf-as-told",
            help="Look for the PSF in the stack.",
            rich_help_panel=MICROSCOPE,
        ),
    ] = True,
    sheet: Annotated[
        bool, typer.Option("--sheet/--no-sheet", help="Draw a PNG sheet, and an HTML page.")
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
    offset: ScanOffset = None,
    fit: Annotated[
        Literal["once", "each"],
        typer.Option(help="PSF and intensities: once for a channel, or of each time point."),
    ] = "once",
    apart: Annotated[
        bool, typer.Option("--apart", help="A result for each channel and time point.")
    ] = False,
    again: Annotated[
        bool,
        typer.Option("--again", help="Of a folder or a series: also enhance what is done already."),
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Deblur, super-resolve and segment stacks: OME-TIFF with channels shape and brightness.

    Without --model nothing is trained: the model of every microscope is fitted to each stack.
    NAME.json says what was found, and has the threshold. Several channels and time points of a file
    become one image (T, C, Z, Y, X), with the PSF and the intensities of the first time point.

    Of a folder, or of several files, a stack that fails does not stop the others, and a result
    that is there already is kept. A table of all comes at the end, and in enhanced.csv.
    """
    from tenet.io.optics import Optics
    from tenet.model.shipped import shipped_model
    from tenet.tasks.enhance import Wanted
    from tenet.tasks.enhance import enhance as enhanced
    from tenet.tasks.reading import Reading

    reading = Reading(
        stacks,
        rois,
        fold,
        picked("--channel", channel),
        planes_are,
        voxel_size,
        time=picked("--time", time),
        scan_offset=scan_offset(offset),
        apart=apart,
    )
    wanted = Wanted(
        optics=Optics(na, wavelength, immersion, photons),
        structure_um=thickness,
        find_psf=find_psf,
        normalisation=normalisation,
        align=align,
        tile_zyx_shape=tile,
        as_zarr=as_zarr,
        uncertainty=uncertainty,
        sheet=sheet,
        fit=fit,
    )
    chosen, where = model or shipped_model(), choose_device(device, threads)
    if name is None and reading.several:
        _enhance_each(reading, chosen, out, wanted, again=again, device=where)
        return
    for path in enhanced(reading, chosen, out, wanted, name=name, again=again, device=where):
        print(path)


def _enhance_each(
    reading: "Reading",
    model: Path,
    out: Path,
    wanted: "Wanted",
    *,
    again: bool,
    device: "torch.device",
) -> None:
    """Print each result as it comes, and a table at the end; the status is 1 if one failed."""
    from rich.console import Console
    from rich.table import Table

    from tenet.errors import printable
    from tenet.tasks.batch import enhance_each

    table = Table("stack", "", "PSF (µm)", "to look at", show_edge=False, pad_edge=False)
    failed = count = 0
    for row in enhance_each(reading, model, out, wanted, again=again, device=device):
        count += 1
        failed += row.status == "failed"
        if row.status == "failed":
            print(f"failed: {printable(row.error)}", file=sys.stderr)
        else:
            print(row.result)
        widths = [row.psf_axial_um, row.psf_lateral_um]
        psf = " × ".join("?" if um is None else f"{um:.2f}" for um in widths) if any(widths) else ""
        # The name alone, because the lines above have the whole path.
        said = row.error.removeprefix(row.stack).lstrip(": ") or "; ".join(row.warnings)
        words = (Path(row.stack).name, row.status, psf, said)
        table.add_row(*(Text(printable(part)) for part in words))
    Console(stderr=True).print(table)
    if failed:
        print(f"tenet: {failed} of {count} stacks failed, for the reasons above", file=sys.stderr)
        raise typer.Exit(1)


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
    from tenet.tasks.enhance import Wanted, enhance
    from tenet.tasks.reading import Reading

    reading = Reading([data], rois, fold, channel, for_evaluation=True)
    wanted = Wanted(normalisation=normalisation, align=align, levels=levels)
    for path in enhance(reading, model, out, wanted, device=choose_device(device, threads)):
        print(path)


def export_model(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Folder of a model of one microscope.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The package: a file NAME.zip, or a new folder.")
    ],
) -> None:
    """Write a package for the BioImage Model Zoo, which programs without TENET run.

    The package has the deconvolution by the PSF of the model and the network, as TorchScript. The
    extra zoo of TENET installs what is needed, and `bioimageio test NAME.zip` tests the package.
    """
    from tenet.tasks.export_model import export_model as exported

    print(exported(model, out))


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
