"""Names of types that stand all over the code, each declared once."""

from collections.abc import Callable

#: Numbers of voxels, or their indices, along z, y and x.
Triple = tuple[int, int, int]
#: Edges of a voxel along z, y and x in µm.
VoxelSize = tuple[float, float, float]
#: Least and most.
Range = tuple[float, float]
#: Told how much is done, and of how much.
Progress = Callable[[int, int], None]
