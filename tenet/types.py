"""Types that many modules use, each declared once."""

from collections.abc import Callable

#: Numbers of voxels, or their indices, along z, y and x.
Triple = tuple[int, int, int]
#: Edges of a voxel along z, y and x in µm.
VoxelSize = tuple[float, float, float]
#: Least and most.
Range = tuple[float, float]
#: Called as ``progress(done, total)``.
Progress = Callable[[int, int], None]
#: Called as ``stage(work, done, total)`` before each part of some long work, which ends with the
#: exception that `stage` raises.
Stage = Callable[[str, int, int], None]
