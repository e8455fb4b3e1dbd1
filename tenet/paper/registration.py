"""In-plane registration: each plane of a stack is registered to the mean of its neighbours.

Animals move while a stack is taken. TurboReg (Thévenaz et al., IEEE Trans. Image Process. 7, 27,
1998; the package pystackreg) finds the best rotation and shift of each plane. Each plane is fitted
to the planes on both sides, because a fit to the plane before alone pulls tilted structures
upright. Near the ends of a stack, with planes on one side only, tilted structures are still pulled
a little. A slow drift stays, because a drift looks like a tilted structure.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pystackreg import StackReg
from scipy.ndimage import gaussian_filter1d

from tenet.data.folds import every_stack
from tenet.errors import TenetError
from tenet.io.atomic import copy_file
from tenet.io.folders import voxel_size_of
from tenet.io.outputs import check_outputs
from tenet.io.writing import write_ome_tiff

Motion = Literal["rigid", "translation"]
_KINDS = {"rigid": StackReg.RIGID_BODY, "translation": StackReg.TRANSLATION}


def register_planes(
    image_zyx: NDArray[np.float32],
    motion: Motion = "rigid",
    *,
    sigma_planes: float = 3.0,
    rounds: int = 4,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Register every plane to the mean of those around it, in rounds.

    Parameters
    ----------
    image_zyx : ndarray
        Shape (Z, Y, X).
    motion : {"rigid", "translation"}
        Rotation and shift, or shift alone.
    sigma_planes : float
        Standard deviation of the Gaussian that weighs the planes around.
    rounds : int
        Number of rounds. Each round takes the mean of the last round's planes.

    Returns
    -------
    registered : ndarray of float32, shape (Z, Y, X)
        The registered stack. Voxels from outside of a plane have the plane's lowest value.
    matrices : ndarray, shape (Z, 3, 3)
        For each plane, the map of a place (x, y, 1) in the result to its place in the plane.

    Raises
    ------
    TenetError
        If the stack has a single plane, or planes of fewer than 16 pixels a side.
    """
    image = np.asarray(image_zyx, dtype=np.float64)
    if image.ndim != 3 or image.shape[0] < 2 or min(image.shape[1:]) < 16:
        raise TenetError(
            f"a stack of shape {image_zyx.shape} cannot be registered: it needs at least two "
            "planes, of at least 16 pixels a side"
        )
    register = StackReg(_KINDS[motion])
    registered, matrices = image, np.tile(np.eye(3), (len(image), 1, 1))
    for _ in range(rounds):
        around = gaussian_filter1d(registered, sigma_planes, axis=0, mode="mirror")
        matrices = np.stack(
            [register.register(mean, plane) for mean, plane in zip(around, image, strict=True)]
        )
        registered = np.stack(
            [_moved(register, plane, matrix) for plane, matrix in zip(image, matrices, strict=True)]
        )
    return registered.astype(np.float32), matrices


def _moved(
    register: StackReg, plane: NDArray[np.float64], matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = register.transform(plane, matrix)
    rows, columns = plane.shape
    y, x = np.mgrid[:rows, :columns]
    at = np.einsum("ij,jrc->irc", matrix, np.stack([x, y, np.ones_like(x)]))
    inside = (at[0] >= 0) & (at[0] <= columns - 1) & (at[1] >= 0) & (at[1] <= rows - 1)
    # TurboReg's splines overshoot a little.
    return np.where(inside, moved.clip(plane.min(), plane.max()), plane.min())


def register_folder(
    data: Path,
    out: Path,
    *,
    motion: Motion = "rigid",
    voxel_size_um: tuple[float, float, float] | None = None,
    channel: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Register all stacks of a folder, or of its sub-folders; tables beside them are copied.

    Parameters
    ----------
    data : Path
        Folder of stacks, or of folders of stacks.
    out : Path
        Folder for OME-TIFFs of 32-bit floats with the same names and voxel sizes.
    motion : {"rigid", "translation"}
    voxel_size_um : tuple of float, optional
        Voxel size along z, y and x in µm of stacks whose files do not give it.
    channel : int, optional
        Channel of stacks with several.
    progress : callable, optional
        Called as ``progress(done, stacks)`` after every stack.

    Returns
    -------
    int
        Number of stacks.

    Raises
    ------
    TenetError
        If there is no stack, a voxel size is not known, or a stack cannot be registered.
    """
    pairs = every_stack(data, out, channel=channel)
    tables = [*data.glob("*.csv"), *data.glob("*.json")]
    check_outputs(
        [*(stack.path for stack, _ in pairs), *tables],
        [*(path for _, path in pairs), *(out / table.name for table in tables)],
    )
    for done, (stack, path) in enumerate(pairs, start=1):
        size_um = voxel_size_of(stack, stack.voxel_size_um or voxel_size_um)
        registered, _ = register_planes(stack.read(), motion)
        write_ome_tiff(path, registered, size_um)
        if progress is not None:
            progress(done, len(pairs))
    for table in tables:
        copy_file(table, out / table.name)
    return len(pairs)
