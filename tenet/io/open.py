"""Open stacks. Every mistake that a header shows is reported when the file is opened."""

import os
from pathlib import Path
from typing import Literal

from tenet.errors import TenetError, one_line
from tenet.io.formats import TO_EXPORT, format_of_file, format_of_folder
from tenet.io.inside import holder
from tenet.io.records import regular_file
from tenet.io.stack import Stack
from tenet.io.tiff_series import refuse_folder_of_tiffs


def open_stack(
    path: str | os.PathLike[str],
    *,
    channel: int | None = None,
    time: int | None = None,
    planes_are: Literal["C", "T"] | None = None,
) -> Stack:
    """Open a stack without reading its voxels.

    The formats are those of `tenet.io.formats.FORMATS`: TIFF (plain, ImageJ, OME, ScanImage, LSM;
    classic and Big), NPY, PT (a tensor), ND2, OME-Zarr (a folder, or `.zarr.zip`), and what
    microscopes and other programs write. A folder that is one stack is recognised by its content.
    Where axes have no names, the pages of a TIFF, and the first axis of an array or a tensor, are
    planes. Axes of length one are left out. Where ScanImage has kept several frames of a slice, the
    mean of the frames is read.

    Parameters
    ----------
    path : path-like
        The file, or the folder of a stack. Of a LIF or a CZI, `cells.lif/Left` and `cells.czi/0`
        are one of several images by name or number.
    channel : int, optional
        Channel to read, from 0; needed if the file has several channels.
    time : int, optional
        Time point to read, from 0; needed if the file has several time points.
    planes_are : {"C", "T"}, optional
        Needed if the planes are recorded as channels (C) or as time points (T).

    Returns
    -------
    Stack

    Raises
    ------
    TenetError
        If the file is missing, damaged or truncated, or holds no real-valued Z, Y, X stack.

    Examples
    --------
    >>> import tenet
    >>> stack = tenet.open_stack("stack.tif")
    >>> stack.zyx_shape, stack.dtype, stack.voxel_size_um
    ((6, 24, 20), dtype('uint16'), (1.0, 0.31, 0.31))
    """
    path = Path(path)
    if os.path.isdir(path):
        known = format_of_folder(path)
        if known is None:
            refuse_folder_of_tiffs(path)
            raise TenetError(_folder(path))
        return known.opener(path, channel, planes_are, time)
    held, inside = holder(path)
    if regular_file(held) == 0:
        raise TenetError(f"{path}: the file is empty; copy or export it again")
    _check_readable(held)
    known = format_of_file(held)
    if known is None:
        raise TenetError(f"{path}: {_unknown(held.suffix)}")
    if inside and not known.several:
        raise TenetError(f"{path}: {held.name} is a file of one stack; give the file")
    return known.opener(path, channel, planes_are, time)


def _unknown(suffix: str) -> str:
    """Say what to do with a file of no format that can be read."""
    if suffix.lower() == ".npz":
        return "an NPZ archive may hold many arrays; save the stack alone as .npy"
    if suffix.lower() in TO_EXPORT:
        return (
            f"{suffix} files are not read here; open it in Fiji (Bio-Formats) or the "
            "microscope's program and export it as OME-TIFF"
        )
    if suffix.lower() == ".xml":
        return "this XML describes no recording that can be read; give the stack itself"
    return (
        f"{suffix or 'no suffix'} is not a format that can be read; "
        "give a .tif, .tiff, .npy, .pt or .nd2 file or an OME-Zarr (.zarr) folder"
    )


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise TenetError(f"{path}: the file cannot be read ({one_line(error)})") from None


def _folder(path: Path) -> str:
    """Say what a folder holds that is not a stack."""
    try:
        number = sum(1 for _ in path.iterdir())
    except OSError as error:
        return f"{path}: the folder cannot be read ({one_line(error)})"
    if not number:
        return f"{path}: the folder is empty; check the path"
    return (
        f"{path}: this is a folder of {number} files, not a stack; give one of the "
        "stacks in it (if each file is a single plane, join them: in Fiji, File > Import > Image "
        "Sequence, and save as TIFF)"
    )
