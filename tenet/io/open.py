"""Files -> stacks: every mistake that a header shows is reported when the file is opened."""

import os
from pathlib import Path
from typing import Literal

from tenet.errors import TenetError
from tenet.io.nd2 import open_nd2
from tenet.io.npy import open_npy
from tenet.io.ome_zarr import open_ome_zarr
from tenet.io.stack import Stack
from tenet.io.tiff import open_tiff
from tenet.io.tiff_series import refuse_folder_of_tiffs


def open_stack(
    path: str | os.PathLike[str],
    *,
    channel: int | None = None,
    planes_are: Literal["C", "T"] | None = None,
) -> Stack:
    """Open a stack without reading its voxels.

    TIFF (plain, ImageJ, OME, ScanImage; classic and Big), NPY, ND2 and OME-Zarr (a folder, or
    `.zarr.zip`) are understood. Pages of a TIFF without axis names, and the first axis of an NPY,
    are planes. Where ScanImage has kept several frames of a slice, their mean is read.

    Parameters
    ----------
    path : path-like
        The file, or the folder of an OME-Zarr image.
    channel : int, optional
        Channel to read, from 0; needed where there is more than one.
    planes_are : {"C", "T"}, optional
        For a TIFF whose planes are recorded as channels (C) or as time points (T).

    Returns
    -------
    Stack

    Raises
    ------
    TenetError
        If the file is missing, damaged, truncated or not a real-valued Z, Y, X stack.
    """
    path = Path(path)
    if not path.exists():
        raise TenetError(f"{path}: no such file; check the path")
    name = path.name.lower()
    if planes_are is not None and not name.endswith((".tif", ".tiff", ".btf")):
        raise TenetError(f"{path}: --planes-are is for TIFF files; export the stack as a TIFF")
    if path.is_dir():
        refuse_folder_of_tiffs(path)
    if path.is_dir() or name.endswith((".zarr.zip", ".ozx")):
        return open_ome_zarr(path, channel)
    if path.stat().st_size == 0:
        raise TenetError(f"{path}: the file is empty; copy or export it again")
    if name.endswith((".tif", ".tiff", ".btf")):
        return open_tiff(path, channel, planes_are)
    if name.endswith(".npy"):
        return open_npy(path, channel)
    if name.endswith(".nd2"):
        return open_nd2(path, channel)
    raise TenetError(
        f"{path}: {path.suffix or 'no suffix'} is not a format that can be read; "
        "give a .tif, .tiff, .npy or .nd2 file or an OME-Zarr (.zarr) folder"
    )
