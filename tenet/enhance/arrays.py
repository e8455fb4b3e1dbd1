"""Enhancing from Python: a stack in a file or in memory becomes two arrays."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tenet.enhance.enhance import choose_alignment, enhance_array
from tenet.errors import TenetError
from tenet.io.folders import voxel_size_of
from tenet.io.intensities import normalise
from tenet.io.open import open_stack
from tenet.io.stack import Stack, check_dtype
from tenet.model.intensity import model_range
from tenet.model.store import load_model
from tenet.settings.own_stack import voxel_size_mismatch
from tenet.types import Progress, VoxelSize


class EnhancedStack(NamedTuple):
    """What `enhance` makes of a stack.

    Attributes
    ----------
    shape : ndarray of float32, shape (Z·s, Y, X)
        Probability from 0 to 1 that a voxel lies in a structure.
    brightness : ndarray of float32, shape (Z·s, Y, X)
        From 0 to 1.
    """

    shape: NDArray[np.float32]
    brightness: NDArray[np.float32]


def enhance(
    stack: ArrayLike | str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    voxel_size_um: VoxelSize | None = None,
    channel: int | None = None,
    planes_are: Literal["C", "T"] | None = None,
    align: bool | None = None,
    flips: int = 1,
    device: torch.device | str = "auto",
    progress: Progress | None = None,
) -> EnhancedStack:
    """Deblur, super-resolve and segment a stack.

    The stack and the result are held in memory; `tenet enhance` and `enhance_stack` work on stacks
    of any size.

    Parameters
    ----------
    stack : array or path
        Raw intensities, shape (Z, Y, X), or a file that `tenet.open_stack` reads.
    model : path
        Folder of a trained model.
    voxel_size_um : tuple of float, optional
        Voxel size of the stack along z, y and x in µm; needed if the file does not say.
    channel : int, optional
        Channel of a file with several, from 0.
    planes_are : {"C", "T"}, optional
        Where planes of a file are recorded as channels or as time points.
    align : bool, optional
        Whether planes are aligned first; by default where the model can.
    flips : {1, 4, 8}
        Mirror images whose mean is taken.
    device : torch.device or str
        Where to compute; "auto" takes a GPU where there is one.
    progress : callable, optional
        Called as ``progress(done, tiles)`` after every tile.

    Returns
    -------
    EnhancedStack
        Shape and brightness, each (Z·s, Y, X) with the scale s of the model; its voxel size along z
        is that of the stack over s.

    Raises
    ------
    TenetError
        If the stack or the model cannot be read, or the voxel size is not known.

    Warns
    -----
    UserWarning
        If the voxel size is not the one that the model was trained for.

    Examples
    --------
    >>> shape, brightness = tenet.enhance("stack.tif", "models/mine")  # doctest: +SKIP
    >>> shape, brightness = tenet.enhance(
    ...     array, "models/mine", voxel_size_um=(1.0, 0.12, 0.12)
    ... )  # doctest: +SKIP
    """
    if isinstance(stack, str | os.PathLike):
        opened = open_stack(stack, channel=channel, planes_are=planes_are)
    elif channel is None and planes_are is None:
        opened = stack_in_memory(stack)
    else:
        raise TenetError("channel and planes_are are for files: give one channel as Z, Y, X")
    if voxel_size_um is None and opened.voxel_size_um is None:
        raise TenetError(f"{opened.path} {opened.voxel_size_note}: give voxel_size_um, z, y and x")
    size_um = voxel_size_of(opened, voxel_size_um)
    if str(device) == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    network, experiment = load_model(Path(model), device=device)
    network.half_precision = experiment.train_loop.precision == "bfloat16"
    choose_alignment(network, align, Path(model))
    mismatch = voxel_size_mismatch(experiment.params, size_um)
    if mismatch:
        warnings.warn(f"{opened.path}: {mismatch}", stacklevel=2)
    range_ = model_range(opened, experiment, Path(model), device=device)
    image = normalise(opened.read(), range_)
    return EnhancedStack(*enhance_array(network, image, flips=flips, progress=progress))


@dataclass(frozen=True)
class _Array:
    """Reads crops of an array."""

    array: NDArray[Any]

    def read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        return self.array[z, y, x]


def stack_in_memory(array: ArrayLike) -> Stack:
    """A stack of intensities (Z, Y, X) that are in memory.

    Raises
    ------
    TenetError
        If there are no three axes, or intensities are not finite real numbers.
    """
    intensities, name = np.asarray(array), Path("array")
    if intensities.ndim != 3 or 0 in intensities.shape:
        raise TenetError(f"an array of shape {intensities.shape} is no stack; give Z, Y, X")
    check_dtype(name, intensities.dtype)
    if not np.isfinite(intensities).all():
        raise TenetError("an array with NaN or infinite intensities: give the raw data")
    planes, rows, columns = intensities.shape
    return Stack(
        name,
        (planes, rows, columns),
        intensities.dtype,
        None,
        _Array(intensities),
        "does not say its voxel size",
    )
