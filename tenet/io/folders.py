"""Stacks in a folder, and their names."""

import os
from pathlib import Path

from tenet.errors import TenetError, one_line
from tenet.io.formats import LISTED, STACK_SUFFIX, format_of_folder
from tenet.io.inside import holder
from tenet.io.stack import Stack, check_voxel_size
from tenet.types import VoxelSize


def stack_name(path: Path) -> str:
    """Name of a stack without the suffixes of an image file: ``03.ome.tif`` is 03.

    An image inside an OME-Zarr or a LIF is named after both: ``03.zarr/1`` is 03_1.
    """
    return "_".join([STACK_SUFFIX.sub("", name) for name in path_names(path)])


def path_names(path: Path) -> list[str]:
    """Names of the stack's file or folder, and of what inside it leads to the image."""
    parts = Path(os.path.abspath(path)).parts  # "." and "x/.." have a name too
    if holder(path)[1]:
        return list(parts[-2:])
    inside = [k for k, part in enumerate(parts) if part.lower().endswith(".zarr")]
    return list(
        parts[inside[-1] :] if inside and not STACK_SUFFIX.search(parts[-1]) else parts[-1:]
    )


def is_stack(path: Path) -> bool:
    """Whether the name of a file, or the content of a folder, is that of a stack."""
    return path.name.lower().endswith(LISTED) or is_one_stack(path)


def is_one_stack(path: Path) -> bool:
    """Whether a folder is one stack: an OME-Zarr, or a set of files of one recording."""
    return format_of_folder(path) is not None


def stack_files(path: Path) -> list[Path]:
    """List the stacks of a folder by name. Of one stack, the list holds the path alone.

    Raises
    ------
    TenetError
        If there is no stack, or the names of two files differ in their suffix alone.
    """
    if not os.path.exists(holder(path)[0]):
        raise TenetError(f"{path}: no such folder or file; check the path")
    if not path.is_dir() or is_one_stack(path):
        return [path]
    inside = listed(path)
    files = [f for f in inside if is_stack(f)]
    if not files:
        held = f"holds {len(inside)} other files or folders" if inside else "is empty"
        raise TenetError(
            f"{path}: there is no stack in this folder, which {held}; give one with a stack "
            f"(OME-Zarr, or a file that ends in {', '.join(LISTED)})"
        )
    names = [stack_name(f) for f in files]
    for name in names:
        if names.count(name) > 1:
            raise TenetError(
                f"{path}: several stacks are called {name}; rename or move all but one"
            )
    return files


def listed(folder: Path) -> list[Path]:
    """List the files and folders in a folder by name, without hidden files.

    The folder of planes of an OIF file belongs to the file.
    """
    try:
        inside = sorted(f for f in folder.iterdir() if not f.name.startswith("."))
    except OSError as error:
        raise TenetError(f"{folder}: the folder cannot be read ({one_line(error)})") from None
    names = {file.name for file in inside}
    return [f for f in inside if not (f.suffix == ".files" and f.stem in names)]


# Voxels -------------------------------------------------------------------------------------------


def voxel_size_of(stack: Stack, given: VoxelSize | None = None) -> VoxelSize:
    """Voxel size along z, y and x in µm: the given one, or what the stack's file says.

    Raises
    ------
    TenetError
        If neither is known, or no microscope has such voxels (`check_voxel_size`).
    """
    size = given or stack.voxel_size_um
    if size is None:
        raise TenetError(
            f"{stack.path} {stack.voxel_size_note}: give --voxel-size Z Y X in µm "
            "(voxel_z_um, voxel_y_um, voxel_x_um in the sample table)"
        )
    check_voxel_size(size, str(stack.path))
    return size
