"""`tenet register`: raw stacks of a sample that moved."""

from pathlib import Path

from tenet.paper.registration import Motion, register_folder
from tenet.progress import shown
from tenet.types import VoxelSize


def register(
    data: Path,
    out: Path,
    *,
    motion: Motion,
    voxel_size_um: VoxelSize | None,
    channel: int | None,
) -> int:
    """Register all stacks of a folder, and return their number; see `register_folder`."""
    with shown("registering stacks") as meter:
        return register_folder(
            data,
            out,
            motion=motion,
            voxel_size_um=voxel_size_um,
            channel=channel,
            progress=meter,
        )
