"""Raw stacks on disk: which there are, how large their voxels are, and which a fold leaves out."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tenet.config import ModelParams
from tenet.errors import TenetError, one_line
from tenet.io.ome_zarr import is_zarr
from tenet.io.open import open_stack
from tenet.io.records import read_table
from tenet.io.stack import Stack, VoxelSize, check_voxel_size

_FILE_SUFFIXES = (".tif", ".tiff", ".btf", ".npy", ".nd2", ".zarr.zip", ".ozx")
_SUFFIX = re.compile(
    r"(\.ome)?(\.tiff?|\.btf|\.npy|\.nd2|\.zarr|\.zarr\.zip|\.ozx)$", re.IGNORECASE
)


def stack_name(path: Path) -> str:
    """Name of a stack without the suffixes of an image file: ``03.ome.tif`` is 03.

    An image inside an OME-Zarr is named after both: ``03.zarr/1`` is 03_1.
    """
    return "_".join([_SUFFIX.sub("", name) for name in _names(path)])


def _names(path: Path) -> list[str]:
    """Names of the stack's file or folder, and of the groups inside it that lead to the image."""
    parts = Path(os.path.abspath(path)).parts  # "." and "x/.." have a name too
    inside = [k for k, part in enumerate(parts) if part.lower().endswith(".zarr")]
    return list(parts[inside[-1] :] if inside and not _SUFFIX.search(parts[-1]) else parts[-1:])


def stack_files(path: Path) -> list[Path]:
    """List the stacks of a folder by name; of a file or a Zarr, itself.

    Raises
    ------
    TenetError
        If there is nothing to read, or two files have one name but for the suffix.
    """
    if not os.path.exists(path):
        raise TenetError(f"{path}: no such folder or file; check the path")
    if not path.is_dir() or is_zarr(path):
        return [path]
    inside = _inside(path)
    files = [f for f in inside if f.name.lower().endswith(_FILE_SUFFIXES) or is_zarr(f)]
    if not files:
        held = f"holds {len(inside)} other files or folders" if inside else "is empty"
        raise TenetError(
            f"{path}: there is no stack in this folder, which {held}; give one with a stack "
            f"(OME-Zarr, or a file that ends in {', '.join(_FILE_SUFFIXES)})"
        )
    names = [stack_name(f) for f in files]
    for name in names:
        if names.count(name) > 1:
            raise TenetError(
                f"{path}: several stacks are called {name}; rename or move all but one"
            )
    return files


def _inside(folder: Path) -> list[Path]:
    """List what a folder holds by name, but for hidden files."""
    try:
        return sorted(f for f in folder.iterdir() if not f.name.startswith("."))
    except OSError as error:
        raise TenetError(f"{folder}: the folder cannot be read ({one_line(error)})") from None


def every_stack(
    data: Path,
    out: Path,
    rois: Path | None = None,
    fold: int | None = None,
    *,
    channel: int | None = None,
    planes_are: Literal["C", "T"] | None = None,
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
    planes_are : {"C", "T"}, optional
        As in `open_stack`.

    Raises
    ------
    TenetError
        If there is no such stack, or no table says which images are in the fold.
    """
    if fold is not None and rois is None:
        raise TenetError("--fold needs --rois, the table that says which image is in which fold")
    if not os.path.isdir(data):
        raise TenetError(f"{data} is not a folder")
    folders = [] if is_zarr(data) else [f for f in _inside(data) if f.is_dir() and not is_zarr(f)]
    wanted = images_of(rois, fold) if rois is not None else None
    pairs = []
    for folder in folders or [data]:
        for file in stack_files(folder):
            if wanted is None or image_number(file) in wanted:
                target = out / folder.relative_to(data) / f"{stack_name(file)}.ome.tif"
                stack = open_stack(file, channel=channel, planes_are=planes_are)
                pairs.append((stack, target))
    if not pairs:
        raise TenetError(f"{data} holds none of the images that {rois} names")
    return pairs


# Voxels -------------------------------------------------------------------------------------------


def voxel_size_of(stack: Stack, given: VoxelSize | None = None) -> VoxelSize:
    """Voxel size along z, y and x in µm: the given one, or what the stack's file says.

    Raises
    ------
    TenetError
        If neither is known, or it is none of a microscope (`check_voxel_size`).
    """
    size = given or stack.voxel_size_um
    if size is None:
        raise TenetError(
            f"{stack.path} {stack.voxel_size_note}: give --voxel-size Z Y X in µm "
            "(voxel_z_um, voxel_y_um, voxel_x_um in the sample table)"
        )
    check_voxel_size(size, str(stack.path))
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
    """Number of an image: the digits that the name of its file or folder ends with."""
    digits = re.search(r"(\d+)$", _SUFFIX.sub("", _names(path)[0]))
    if digits is None:
        raise TenetError(f"{path}: its name does not end with the number of the image")
    return int(digits.group())


def images_of(rois: Path, fold: int | None) -> set[int]:
    """Numbers of the images with a region in a fold of a table, or in any."""
    table = read_table(rois, numbers=("image", "fold"))
    image, folds = table["image"].astype(int), table["fold"].astype(int)
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
