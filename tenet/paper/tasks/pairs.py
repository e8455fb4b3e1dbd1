"""The stacks that a method of comparison restores, each with the file for its result."""

from dataclasses import dataclass
from pathlib import Path

from tenet.data.folds import every_stack
from tenet.io.outputs import check_outputs
from tenet.io.stack import Stack


@dataclass(frozen=True)
class FolderOfStacks:
    """A folder of stacks, or of folders of stacks, and the choice of stacks in it.

    Attributes
    ----------
    data : Path
    rois : Path, optional
        Table of regions: only images that it names.
    fold : int, optional
        Only images with a region in this fold of the table.
    channel : int, optional
        Channel of stacks with several.
    """

    data: Path
    rois: Path | None = None
    fold: int | None = None
    channel: int | None = None

    def pairs(self, out: Path) -> list[tuple[Stack, Path]]:
        """Open the stacks, each with the file for its result in `out`.

        Raises
        ------
        TenetError
            If there is no stack, a stack cannot be read, or a result would replace a stack.
        """
        pairs = every_stack(self.data, out, self.rois, self.fold, channel=self.channel)
        results = [path for _, path in pairs]
        check_outputs([stack.path for stack, _ in pairs], [*results, out / "settings.json"])
        return pairs
