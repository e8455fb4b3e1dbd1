"""Raw stacks on disk: which there are, how large their voxels are, and which a fold leaves out."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tenet.config import ModelParams
from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.stack import Stack

VoxelSize = tuple[float, float, float]

_STACK_SUFFIXES = (".tif", ".tiff", ".btf", ".npy", ".nd2", ".zarr", ".zarr.zip", ".ozx")


def stack_name(path: Path) -> str:
    """File name without the suffixes of an image file: ``03.ome.tif`` is 03."""
    return re.sub(r"(\.ome)?(\.tiff?|\.btf|\.npy|\.nd2|\.zarr|\.zarr\.zip|\.ozx)$", "", path.name)


def stack_files(path: Path) -> list[Path]:
    """List the stacks of a folder by name; of a file, itself.

    Raises
    ------
    TenetError
        If there is nothing to read, or two files have one name but for the suffix.
    """
    if not path.exists():
        raise TenetError(f"{path}: no such folder or file; check the path")
    if path.is_file() or path.name.endswith(".zarr"):
        return [path]
    files = sorted(
        f
        for f in path.iterdir()
        if f.name.lower().endswith(_STACK_SUFFIXES) and not f.name.startswith(".")
    )
    if not files:
        raise TenetError(f"{path}: there is no stack in it (one of {', '.join(_STACK_SUFFIXES)})")
    names = [stack_name(f) for f in files]
    for name in names:
        if names.count(name) > 1:
            raise TenetError(
                f"{path}: several stacks are called {name}; rename or move all but one"
            )
    return files


def every_stack(
    data: Path,
    out: Path,
    rois: Path | None = None,
    fold: int | None = None,
    *,
    channel: int | None = None,
) -> list[tuple[Stack, Path]]:
    """Open the stacks of a folder, or of its sub-folders, each with the file for its result.

    Parameters
    ----------
    data : Path
        Folder of stacks, or of folders of stacks.
    out : Path
        Folder of the results, laid out as `data` is.
    rois : Path, optional
        Table of regions: only images that it names.
    fold : int, optional
        Only images with a region in this fold of the table.
    channel : int, optional
        Channel of stacks with several.

    Raises
    ------
    TenetError
        If there is no such stack, or no table says which images are in the fold.
    """
    if fold is not None and rois is None:
        raise TenetError("--fold needs --rois, the table that says which image is in which fold")
    if not data.is_dir():
        raise TenetError(f"{data} is not a folder")
    folders = [path for path in sorted(data.iterdir()) if path.is_dir() and path.suffix != ".zarr"]
    wanted = images_of(rois, fold) if rois is not None else None
    pairs = []
    for folder in folders or [data]:
        for file in stack_files(folder):
            if wanted is None or image_number(file) in wanted:
                target = out / folder.relative_to(data) / f"{stack_name(file)}.ome.tif"
                pairs.append((open_stack(file, channel=channel), target))
    if not pairs:
        raise TenetError(f"{data} holds none of the images that {rois} names")
    return pairs


# Voxels -------------------------------------------------------------------------------------------


def voxel_size_of(stack: Stack, given: VoxelSize | None = None) -> VoxelSize:
    """Voxel size along z, y and x in µm: the given one, or what the stack's file says.

    Raises
    ------
    TenetError
        If neither is known, or axial super-resolution has nothing to do.
    """
    size = given or stack.voxel_size_um
    if size is None:
        raise TenetError(
            f"{stack.path} {stack.voxel_size_note}: give --voxel-size Z Y X in µm "
            "(voxel_z_um, voxel_y_um, voxel_x_um in the sample table)"
        )
    if min(size) <= 0:
        raise TenetError(f"{stack.path}: voxel size {size} µm; every side must be above 0")
    if size[0] < size[2]:
        raise TenetError(
            f"{stack.path}: its planes are {size[0]:g} µm apart, finer than its pixels of "
            f"{size[2]:g} µm: axial super-resolution has nothing to do; check the order Z Y X"
        )
    return size


def voxel_size_mismatch(
    params: ModelParams, voxel_size_um: VoxelSize, tolerance: float = 0.05
) -> str | None:
    """Say in one line how a stack's voxel size differs from the model's, or None if it fits.

    The network has learned the blur at one voxel size; at another its results mean little.
    """
    expected = params.coarse_voxel_size_um
    if all(
        abs(have / want - 1) <= tolerance
        for have, want in zip(voxel_size_um, expected, strict=True)
    ):
        return None
    have, want = (" × ".join(f"{n:g}" for n in size) for size in (voxel_size_um, expected))
    return (
        f"the stack's voxels are {have} µm (z, y, x), but the model was trained for {want} µm: "
        "train one with the right res_axial and res_lateral"
    )


# Folds --------------------------------------------------------------------------------------------


def image_number(path: Path) -> int:
    """Number of an image: the digits that its name ends with."""
    digits = re.search(r"(\d+)$", stack_name(path))
    if digits is None:
        raise TenetError(f"{path}: its name does not end with the number of the image")
    return int(digits.group())


def images_of(rois: Path, fold: int | None) -> set[int]:
    """Numbers of the images with a region in a fold of a table, or in any."""
    try:
        table = pd.read_csv(rois)
        image, folds = table["image"].astype(int), table["fold"].astype(int)
    except (OSError, KeyError, ValueError) as error:
        raise TenetError(f"{rois} is no table of regions (roi,image,z,y,x,fold): {error}") from None
    if fold is None:
        return set(image)
    if fold not in set(folds):
        raise TenetError(f"{rois} has no fold {fold}; it has {sorted(set(folds))}")
    return set(image[folds == fold])


def outside_fold(
    stacks: Sequence[Stack], fold: int | None, rois: Path | None, test_images: Sequence[str] = ()
) -> list[Stack]:
    """Keep the stacks that the model of a fold may see; without a fold, all.

    Parameters
    ----------
    stacks : sequence of Stack
    fold : int or None
    rois : Path or None
        Table of regions: images with a region in the fold are left out.
    test_images : sequence of str
        Numbers of the images to leave out where there is no table.

    Raises
    ------
    TenetError
        If nothing says which images to leave out, or none is left.
    """
    if fold is None:
        return list(stacks)
    if rois is None:
        if not test_images:
            raise TenetError(
                "--fold needs --rois, the table that says which image is in which fold"
            )
        left_out = {int(name) for name in test_images}
    else:
        left_out = images_of(rois, fold)
    kept = [stack for stack in stacks if image_number(stack.path) not in left_out]
    if not kept:
        raise TenetError(f"fold {fold} leaves no stack to train on")
    return kept
