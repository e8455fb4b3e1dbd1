"""What all trainings share: the folder that one process holds, and the raw stacks that are read.

A folder is held by one process, and is none that the training reads. The training goes on from its
checkpoint, its model is written, then what is found out about the model, and the checkpoint is
deleted last. So the same command goes on wherever it was stopped, and has nothing to do in the end.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tenet.data.folds import outside_fold
from tenet.errors import TenetError
from tenet.io.atomic import exclusive
from tenet.io.folders import stack_files
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.learn.align import ALIGNMENT
from tenet.learn.loop import forget
from tenet.model.store import read_provenance
from tenet.types import VoxelSize


@dataclass(frozen=True)
class RawStacks:
    """The raw stacks of a training: where they lie, and which of them a fold leaves out.

    Attributes
    ----------
    paths : sequence of Path
        Stacks, and folders of stacks.
    rois : Path, optional
        Table of regions, which says which image is in which fold.
    fold : int, optional
        Images with a region in this fold are left out.
    channel, planes_are
        As in `open_stack`.
    voxel_size_um : tuple of float, optional
        Voxel size along z, y and x of all stacks, where it is not what their files say.
    """

    paths: Sequence[Path]
    rois: Path | None = None
    fold: int | None = None
    channel: int | None = None
    planes_are: Literal["C", "T"] | None = None
    voxel_size_um: VoxelSize | None = None

    def open(self, test_images: Sequence[str] = ()) -> list[Stack]:
        """Open the stacks that the training may see; see `outside_fold`.

        Parameters
        ----------
        test_images : sequence of str
            Numbers of the images that every fold leaves out where there is no table.

        Raises
        ------
        TenetError
            If there is no stack, one cannot be read, or nothing says which to leave out.
        """
        files = [file for path in self.paths for file in stack_files(path)]
        stacks = [
            open_stack(file, channel=self.channel, planes_are=self.planes_are) for file in files
        ]
        return outside_fold(stacks, self.fold, self.rois, test_images)


@contextmanager
def training(out: Path, *sources: Path) -> Iterator[None]:
    """Hold the folder of a training, which is none of its sources; its checkpoint goes last.

    Raises
    ------
    TenetError
        If `out` is the folder of a source, or another process holds it.
    """
    for source in sources:
        check_apart(out, source)
    with exclusive(out):
        yield
        made = read_provenance(out).identity
        for folder in (out, out / ALIGNMENT):
            forget(folder, made)


def check_apart(out: Path, source: Path) -> None:
    """Refuse to train into the folder of the model that the training reads."""
    for folder in (out, out / ALIGNMENT):
        if folder.exists() and source.exists() and folder.samefile(source):
            raise TenetError(
                f"{out}: the training would write over {source}, which it goes on from: choose "
                "another folder for --out"
            )
