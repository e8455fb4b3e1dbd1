"""`tenet enhance`, `predict` and `register`: what is done to raw stacks."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tenet.cli.device import choose_device
from tenet.cli.options import (
    Align,
    Channel,
    Data,
    Device,
    Fold,
    ModelFolder,
    Normalisation,
    Out,
    PlanesAre,
    Rois,
    Threads,
    VoxelSize,
)
from tenet.cli.printing import report, warn_of_voxels
from tenet.cli.stacks import model_of, pairs_of
from tenet.errors import TenetError


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
    network, experiment = model_of(model, device, threads, align)
    certainty = Certainty.read(model) if uncertainty else None
    chosen = read_threshold(model)
    threshold = experiment.params.threshold if chosen is None else chosen
    for number, (stack, size, path) in enumerate(zip(opened, sizes, results, strict=True)):
        warn_of_voxels(stack, size, experiment)
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
            device=choose_device(device, threads),
            progress=report,
        )
        for warning in warnings_of(range_, segmented_share(path, threshold)):
            print(f"warning: {stack.path}: {warning}", file=sys.stderr)
        print(path)
        if sheet:
            enhanced_sheet(network, stack, path, pictures[number], voxel_size_um=size)
            print(pictures[number])


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

    pairs = pairs_of(every_stack(data, out, rois, fold, channel=channel), out)
    network, experiment = model_of(model, device, threads, align)
    threshold = read_threshold(model)
    where = network.initial_psf.device
    for stack, path in pairs:
        range_ = model_range(stack, experiment, model, normalisation, device=where)
        size = stack.voxel_size_um or experiment.params.coarse_voxel_size_um
        enhance_stack(network, stack, range_, path, voxel_size_um=size)
    chosen = experiment.params.threshold if threshold is None else threshold
    save_json(out / "settings.json", {"threshold": chosen, "model": str(model)})


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
        data, out, motion=motion, voxel_size_um=voxel_size, channel=channel, progress=report
    )
    print(f"{number} stacks -> {out}")
