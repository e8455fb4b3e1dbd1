"""Phantoms in figures: one slab of the first phantom of a set, before and after."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenet.data.phantoms.store import SUFFIX, open_phantom
from tenet.enhance.views import levels
from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.paper.evaluate.tables import PREDICTION
from tenet.paper.figures.page import View
from tenet.paper.figures.tables import existing


@dataclass(frozen=True)
class ShownPhantom:
    """The first phantom of a set, and the slab along x with the most structure."""

    name: str
    truth: NDArray[np.uint8]
    x: slice

    @classmethod
    def first(cls, folder: Path) -> "ShownPhantom":
        """Open the first phantom of a folder."""
        path = next(iter(sorted(folder.glob(f"*{SUFFIX}"))), None)
        if path is None:
            raise TenetError(f"{folder}: there is no phantom to draw")
        truth, _ = open_phantom(path).read(slice(None), slice(None), slice(None))
        return cls(path.name.removesuffix(SUFFIX), truth, fullest_slab(truth))

    def stack(self, folder: Path, *, channel: int | None = None) -> Stack:
        """Open the stack of the phantom in a folder of stacks."""
        return open_stack(existing(folder / f"{self.name}{PREDICTION}"), channel=channel)

    def truth_view(self, pixel_um: tuple[float, float]) -> View:
        """Project the slab of the phantom itself."""
        flat = self.truth[:, :, self.x].max(axis=2).astype(np.float32)
        return View("Truth", flat, pixel_um, (0, 1))

    def view(self, title: str, stack: Stack) -> View:
        """Project the slab of a stack; black is the lowest value, white the 99.9th percentile."""
        if stack.voxel_size_um is None:
            raise TenetError(f"{stack.path}: it records no voxel size; make it anew")
        starts = range(0, stack.zyx_shape[0], 64)
        slabs = [stack.read(slice(z, z + 64), slice(None), self.x).max(axis=2) for z in starts]
        image = np.concatenate(slabs)
        return View(title, image, stack.voxel_size_um[:2], levels(image))


def fullest_slab(truth: NDArray[np.uint8], width: int = 40) -> slice:
    """The slab along x with the most structure, `width` pixels thick."""
    width = min(width, truth.shape[2])
    filled = np.convolve(truth.sum(axis=(0, 1), dtype=np.int64), np.ones(width), "valid")
    first = int(filled.argmax())
    return slice(first, first + width)
