"""Enhancing from Python: a stack in a file or in memory becomes two arrays."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tenet.enhance.enhance import enhance_array
from tenet.enhance.restore import mask_block
from tenet.errors import TenetError
from tenet.io.array import stack_in_memory
from tenet.io.folders import voxel_size_of
from tenet.io.gaps import without_gaps
from tenet.io.intensities import normalise
from tenet.io.open import open_stack
from tenet.io.optics import Optics
from tenet.learn.serve import serve
from tenet.model.shipped import shipped_model
from tenet.model.trained import TrainedModel
from tenet.settings.own_stack import voxel_size_mismatch
from tenet.types import Progress, VoxelSize


@dataclass(frozen=True, eq=False)
class EnhancedStack:
    """Result of `enhance`; as a pair, it is shape and brightness.

    Attributes
    ----------
    shape : ndarray of float32, shape (Z·s, Y, X)
        Probability from 0 to 1 that a voxel lies in a structure.
    brightness : ndarray of float32, shape (Z·s, Y, X)
        Brightness of the structures, from 0 to 1.
    threshold : float
        Probability from which on a voxel belongs to the shape.
    voxel_size_um : tuple of float
        Voxel size of both along z, y and x in µm.
    found : dict
        What was found about the stack and its microscope, as in the file that `tenet enhance`
        writes beside a result. Empty for a model of one microscope.

    Examples
    --------
    >>> import tenet
    >>> enhanced = tenet.enhance("stack.tif", "models/mine")
    >>> enhanced.shape.shape, enhanced.brightness.dtype
    ((18, 24, 20), dtype('float32'))
    """

    shape: NDArray[np.float32]
    brightness: NDArray[np.float32]
    threshold: float
    voxel_size_um: VoxelSize
    found: dict[str, Any]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return iter((self.shape, self.brightness))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        return (self.shape, self.brightness)[index]


def enhance(
    stack: ArrayLike | str | os.PathLike[str],
    model: str | os.PathLike[str] | TrainedModel | None = None,
    *,
    voxel_size_um: VoxelSize | None = None,
    na: float | None = None,
    wavelength_um: float | None = None,
    immersion_index: float | None = None,
    photons: int | None = None,
    structure_um: float | None = None,
    find_psf: bool = True,
    channel: int | None = None,
    time: int | None = None,
    planes_are: Literal["C", "T"] | None = None,
    align: bool | None = None,
    device: torch.device | str = "auto",
    progress: Progress | None = None,
) -> EnhancedStack:
    """Deblur, super-resolve and segment a stack.

    The stack and the result are held in memory. The command `tenet enhance` and the function
    `enhance_stack` work on stacks of any size.

    Parameters
    ----------
    stack : array or path
        Raw intensities, shape (Z, Y, X), or a file that `tenet.open_stack` reads.
    model : path or TrainedModel, optional
        Folder of a trained model, or a model that is loaded already. For many stacks, load the
        model once. By default the model of every microscope, which is fitted to the stack.
    voxel_size_um : tuple of float, optional
        Voxel size of the stack along z, y and x in µm; needed if the file does not give it.
    na, wavelength_um, immersion_index, photons : optional
        The microscope, for a model of every microscope; a missing NA is guessed from the pixels.
    structure_um : float, optional
        Mean thickness of the structures in µm, for such a model, where it is known.
    find_psf : bool
        Whether such a model looks for the PSF in the stack; else the PSF is as told.
    channel, time : int, optional
        Channel and time point of a file with several, from 0.
    planes_are : {"C", "T"}, optional
        Needed if planes of a file are recorded as channels (C) or as time points (T).
    align : bool, optional
        Whether planes are aligned first; by default if the model has an alignment network. A
        `TrainedModel` was loaded with or without alignment, and so `align` goes with a folder
        alone.
    device : torch.device or str
        Device to compute on; "auto" takes a GPU if there is one. A `TrainedModel` stays on its
        device.
    progress : callable, optional
        Called as ``progress(done, tiles)`` after every tile.

    Returns
    -------
    EnhancedStack
        Shape and brightness, each (Z·s, Y, X) with the scale s of the model. The voxel size along z
        is the stack's voxel size along z, divided by s. A model of every microscope takes s that
        makes voxels as near to cubes as whole numbers can.

    Raises
    ------
    TenetError
        If the stack or the model cannot be read, the voxel size is not known, or optics are given
        with a model of one microscope.

    Warns
    -----
    UserWarning
        If the voxel size is not the one that the model was trained for.

    Examples
    --------
    >>> import tenet
    >>> shape, brightness = tenet.enhance("stack.tif", "models/mine")
    >>> shape.shape  # of 6 planes, with a model of scale 3
    (18, 24, 20)

    Many stacks in memory, with a model that is loaded once:

    >>> model = tenet.TrainedModel.load("models/mine")
    >>> array = tenet.open_stack("stack.tif").read()
    >>> shape, brightness = tenet.enhance(array, model, voxel_size_um=(1.0, 0.31, 0.31))
    >>> segmented = shape >= model.threshold
    """
    if isinstance(stack, str | os.PathLike):
        opened = open_stack(stack, channel=channel, time=time, planes_are=planes_are)
    elif channel is None and time is None and planes_are is None:
        opened = stack_in_memory(stack)
    else:
        raise TenetError("channel, time and planes_are are for files: give Z, Y, X")
    if voxel_size_um is None and opened.voxel_size_um is None:
        raise TenetError(f"{opened.path} {opened.voxel_size_note}: give voxel_size_um, z, y and x")
    opened = without_gaps(opened)
    size_um = voxel_size_of(opened, voxel_size_um)
    if not isinstance(model, TrainedModel):
        if str(device) == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        folder = shipped_model() if model is None else Path(model)
        model = TrainedModel.load(folder, device=device, align=align)
    elif align is not None:
        raise TenetError("align is for the folder of a model: give align to TrainedModel.load")
    optics = Optics(na, wavelength_um, immersion_index, photons)
    found: dict[str, Any] = {}
    if model.serves_all:
        model, range_, found = serve(
            model, opened, size_um, optics, structure_um=structure_um, find_psf=find_psf
        )
    elif optics or structure_um is not None or not find_psf:
        raise TenetError(
            f"{model.folder} was trained for one microscope: leave na, wavelength_um, "
            "immersion_index, photons, structure_um and find_psf out"
        )
    else:
        range_ = model.intensity_range(opened)
    if mismatch := voxel_size_mismatch(model.params, size_um):
        warnings.warn(f"{opened.path}: {mismatch}", stacklevel=2)
    image = normalise(opened.read(), range_)
    both = np.stack(enhance_array(model.network, image, progress=progress))
    mask_block(both, opened, (0, 0, 0), model.params.scale)
    shape, brightness = both
    fine_um = (size_um[0] / model.params.scale, size_um[1], size_um[2])
    return EnhancedStack(shape, brightness, model.threshold, fine_um, found)
