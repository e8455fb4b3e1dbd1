"""Notes and warnings about stacks and models, on standard error."""

import sys
from typing import Any

from tenet.io.stack import Stack
from tenet.settings.own_stack import voxel_size_mismatch
from tenet.settings.schema import Experiment
from tenet.types import VoxelSize


def warn_of_voxels(stack: Stack, given_um: VoxelSize | None, experiment: Experiment) -> None:
    """Warn if a stack has other voxels than those that the model is trained for."""
    size = given_um or stack.voxel_size_um
    warning = voxel_size_mismatch(experiment.params, size) if size else None
    if warning:
        warn(stack, warning)


def warn(stack: Stack, warning: str) -> None:
    """Print a warning about a stack."""
    print(f"warning: {stack.label}: {warning}", file=sys.stderr)


def note(text: str | None) -> None:
    """Print a note, if there is one."""
    if text:
        print(f"note: {text}", file=sys.stderr)


def note_of_optics(stack: Stack, found: dict[str, Any]) -> None:
    """Say where the optics of a stack come from; `found` is that of `serve`."""
    note(f"{stack.label}: {found['note']}")
    if found["sources"]["na"] == "guess":
        na = found["told"]["NA"]
        note(f"{stack.label}: NA {na:.2f} is guessed from the pixels: give --na")
