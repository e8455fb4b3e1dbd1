"""The raw stacks that `tenet enhance` reads, and the results that they become."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tenet.data.folds import every_file
from tenet.errors import TenetError
from tenet.io.folders import is_one_stack, stack_name, voxel_size_of
from tenet.io.outputs import plain_name
from tenet.io.picks import Parts, Picks
from tenet.io.scan_offset import ScanOffset
from tenet.io.stack import Stack
from tenet.types import VoxelSize


@dataclass(frozen=True)
class Part:
    """A channel and time point of a file, and its result.

    Attributes
    ----------
    stack : Stack
    path : Path
        Of the result.
    first : Stack
        First time point of the same channel that is read.
    """

    stack: Stack
    path: Path
    first: Stack


@dataclass(frozen=True)
class Result:
    """A result, and the stacks that it is made of.

    Attributes
    ----------
    path : Path
    parts : sequence of Part
        Of one file, channel by channel and time point by time point.
    folder : Path, optional
        Of the results of the parts, until they are joined; None if there is one part, which is the
        result.
    """

    path: Path
    parts: Sequence[Part]
    folder: Path | None = None

    @property
    def stacks(self) -> list[Stack]:
        """The stacks of the parts."""
        return [part.stack for part in self.parts]

    @property
    def label(self) -> str:
        """What is enhanced, for messages."""
        return str(self.stacks[0].path) if self.folder else self.stacks[0].label


@dataclass(frozen=True)
class Reading:
    """The stacks that are read, and how they are read.

    Attributes
    ----------
    paths : sequence of Path
        Stacks, and folders of stacks, or of folders of stacks.
    rois : Path, optional
        Table of regions. Only the images in the table are read from a folder.
    fold : int, optional
        Fold of the table. Only the images with a region in this fold are read from a folder.
    channel, planes_are, time, scan_offset
        As in `Parts`: each channel and time point is a stack of its own.
    apart : bool
        Whether several channels and time points of a file have a result each, and not one for all.
    voxel_size_um : tuple of float, optional
        Voxel size along z, y and x of all stacks in µm; by default that of each file.
    for_evaluation : bool
        Whether the results are evaluated: a stack may have the voxel size of the model, where a
        user's stack without one is refused, and one file has the threshold of all results.
    """

    paths: Sequence[Path]
    rois: Path | None = None
    fold: int | None = None
    channel: Picks | int | None = None
    planes_are: Literal["C", "T"] | None = None
    voxel_size_um: VoxelSize | None = None
    for_evaluation: bool = False
    time: Picks | int | None = None
    scan_offset: ScanOffset | None = None
    apart: bool = False

    @property
    def several(self) -> bool:
        """Whether these are several files, or a folder."""
        return len(self.paths) > 1 or bool(self._folders)

    @property
    def _folders(self) -> list[Path]:
        return [path for path in self.paths if path.is_dir() and not is_one_stack(path)]

    def files(self, out: Path, name: str | None = None) -> list[tuple[Path, Path]]:
        """List the files, each with its result, without part and suffix.

        Results of a folder have the layout of the folder.

        Raises
        ------
        TenetError
            If a folder holds no stack, a name is given for several files, or regions are given
            without a folder.
        """
        folders = self._folders
        if not folders and (self.rois is not None or self.fold is not None):
            raise TenetError("--rois and --fold choose stacks of a folder: give one")
        if name is not None:
            if self.several:
                raise TenetError("--name goes with a single file")
            name = plain_name(name)
        found = []
        for path in self.paths:
            if path in folders:
                found += every_file(path, out, self.rois, self.fold)
            else:
                found.append((path, out / (name or stack_name(path))))
        return found

    def open(self, out: Path, name: str | None, suffix: str) -> list[Result]:
        """Open the stacks of all files, and name their results.

        Raises
        ------
        TenetError
            As `files` and `open_file` raise.
        """
        return [
            result
            for file, target in self.files(out, name)
            for result in self.open_file(file, target, suffix)
        ]

    def open_file(self, file: Path, target: Path, suffix: str) -> list[Result]:
        """Open the stacks of a file, and name their results.

        Raises
        ------
        TenetError
            If the file cannot be read.
        """
        picks = Parts(self.channel, self.time, self.planes_are, self.scan_offset)
        stacks = picks.open(file)
        apart = self.apart or self.for_evaluation
        folder = None if apart or len(stacks) == 1 else target.with_name(f"{target.name}.parts")
        firsts: dict[int, Stack] = {}
        parts = []
        for stack in stacks:
            of_part = "" if len(stacks) == 1 and not apart else stack.part
            path = (folder or target.parent) / f"{target.name}{of_part}.{suffix}"
            parts.append(Part(stack, path, firsts.setdefault(stack.channel, stack)))
        if folder is None:
            return [Result(part.path, [part]) for part in parts]
        return [Result(target.with_name(f"{target.name}.{suffix}"), parts, folder)]

    def voxel_size(self, stack: Stack) -> VoxelSize | None:
        """Voxel size of a stack along z, y and x in µm; None stands for that of the model.

        Raises
        ------
        TenetError
            If the voxel size is not known, or no microscope has such voxels.
        """
        if self.for_evaluation:
            return stack.voxel_size_um
        return voxel_size_of(stack, self.voxel_size_um)
