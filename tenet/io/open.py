"""Open stacks. Every mistake that a header shows is reported when the file is opened."""

import os
from pathlib import Path
from typing import Literal

from tenet.errors import TenetError, one_line
from tenet.io.nd2 import open_nd2
from tenet.io.npy import open_npy
from tenet.io.ome_zarr import is_zarr, open_ome_zarr
from tenet.io.pt import open_pt
from tenet.io.records import regular_file
from tenet.io.stack import Stack
from tenet.io.tiff import open_tiff
from tenet.io.tiff_series import refuse_folder_of_tiffs

#: Formats of microscopes that Bio-Formats reads.
_TO_EXPORT = (
    ".czi", ".lif", ".lof", ".lsm", ".oib", ".oif", ".oir", ".poir", ".ims", ".vsi", ".stk", ".dv",
    ".h5", ".hdf5",
)  # fmt: skip


def open_stack(
    path: str | os.PathLike[str],
    *,
    channel: int | None = None,
    time: int | None = None,
    planes_are: Literal["C", "T"] | None = None,
) -> Stack:
    """Open a stack without reading its voxels.

    The formats are TIFF (plain, ImageJ, OME, ScanImage; classic and Big), NPY, PT (a tensor), ND2
    and OME-Zarr (a folder, or `.zarr.zip`). A Zarr is recognised by its content. Where axes have no
    names, the pages of a TIFF, and the first axis of an array or a tensor, are planes. Axes of
    length one are left out. Where ScanImage has kept several frames of a slice, the mean of the
    frames is read.

    Parameters
    ----------
    path : path-like
        The file, or the folder of an OME-Zarr image.
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
    name = path.name.lower()
    if os.path.isdir(path):
        if not is_zarr(path):
            refuse_folder_of_tiffs(path)
            raise TenetError(_folder(path))
        return open_ome_zarr(path, channel, planes_are, time)
    if regular_file(path) == 0:
        raise TenetError(f"{path}: the file is empty; copy or export it again")
    _check_readable(path)
    if name.endswith((".zarr.zip", ".ozx")):
        return open_ome_zarr(path, channel, planes_are, time)
    if name.endswith((".tif", ".tiff", ".btf")):
        return open_tiff(path, channel, planes_are, time)
    if name.endswith((".npy", ".pt")):
        if planes_are is not None:
            kind = path.suffix[1:].upper()
            raise TenetError(
                f"{path}: {kind} names no axes, the first is z: leave --planes-are out"
            )
        return (open_npy if name.endswith(".npy") else open_pt)(path, channel, time)
    if name.endswith(".nd2"):
        return open_nd2(path, channel, planes_are, time)
    if name.endswith(".npz"):
        raise TenetError(
            f"{path}: an NPZ archive may hold many arrays; save the stack alone as .npy"
        )
    if name.endswith(_TO_EXPORT):
        raise TenetError(
            f"{path}: {path.suffix} files are not read here; open it in Fiji (Bio-Formats) or the "
            "microscope's program and export it as OME-TIFF"
        )
    raise TenetError(
        f"{path}: {path.suffix or 'no suffix'} is not a format that can be read; "
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
        f"{path}: this is a folder of {number} files, not an OME-Zarr image; give one of the "
        "stacks in it (if each file is a single plane, join them: in Fiji, File > Import > Image "
        "Sequence, and save as TIFF)"
    )
