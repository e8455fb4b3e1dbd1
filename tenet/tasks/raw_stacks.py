"""The raw stacks that a training reads, without the stacks of a fold.

This module is apart from `tenet.tasks.training`, so that a change of folds does not change the code
hash of a pre-training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tenet.data.folds import outside_fold
from tenet.io.picks import Parts, Picks, every_part
from tenet.io.scan_offset import ScanOffset
from tenet.io.stack import Stack
from tenet.types import VoxelSize


@dataclass(frozen=True)
class RawStacks:
    """The raw stacks of a training: their paths, and the fold that is left out.

    Attributes
    ----------
    paths : sequence of path
        Stacks, and folders of stacks.
    rois : Path, optional
        Table of regions, which says which image is in which fold.
    fold : int, optional
        Images with a region in this fold are left out.
    channel, planes_are, time, scan_offset
        As in `Parts`: each channel and time point is a stack of its own.
    voxel_size_um : tuple of float, optional
        Voxel size along z, y and x of all stacks in µm; by default that of each file.

    Examples
    --------
    >>> raw = RawStacks(["stack.tif"])
    >>> [stack.zyx_shape for stack in raw.open()]
    [(6, 24, 20)]
    """

    paths: Sequence[str | Path]
    rois: Path | None = None
    fold: int | None = None
    channel: Picks | int | None = None
    planes_are: Literal["C", "T"] | None = None
    voxel_size_um: VoxelSize | None = None
    time: Picks | int | None = None
    scan_offset: ScanOffset | None = None

    def open(self, test_images: Sequence[str] = ()) -> list[Stack]:
        """Open the stacks that the training may read; see `outside_fold`.

        Parameters
        ----------
        test_images : sequence of str
            Images that no training reads, with a fold or without; see `named_stacks`.

        Raises
        ------
        TenetError
            If there is no stack, a stack cannot be read, a test image is none of the stacks, or
            the images of the fold are not known.

        Examples
        --------
        >>> RawStacks(["stacks"], fold=0).open(test_images=["1"])[0].path
        PosixPath('stacks/image2.tif')
        """
        parts = Parts(self.channel, self.time, self.planes_are, self.scan_offset)
        stacks = every_part([Path(path) for path in self.paths], parts)
        return outside_fold(stacks, self.fold, self.rois, test_images)
