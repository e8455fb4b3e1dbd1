"""Results of several channels and time points, joined into one image (T, C, Z, Y, X)."""

from collections.abc import Mapping
from pathlib import Path

from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.results import of_channel, result_channels
from tenet.io.writing import OmeZarrWriter, writer_for


def join_results(parts: Mapping[tuple[int, int], Path], out: Path) -> Path:
    """Join enhanced stacks into an OME-TIFF or OME-Zarr, in the memory of some planes.

    Parameters
    ----------
    parts : mapping
        Result (C, Z, Y, X) by raw channel and time point, of all pairs of both.
    out : Path
        File for the image; an OME-Zarr if the name ends in ``.zarr``. Its channels are those of the
        results, one raw channel after another; "shape c1" is that of raw channel 1.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    TenetError
        If a result cannot be read, the results differ in shape, or the disk is full.

    Examples
    --------
    >>> import numpy as np
    >>> from tenet.io.results import CHANNELS
    >>> from tenet.io.writing import write_ome_tiff
    >>> for time in (0, 1):
    ...     both = np.full((2, 4, 8, 8), time, np.float32)
    ...     write_ome_tiff(f"{time}.ome.tif", both, (0.2, 0.2, 0.2), CHANNELS)
    >>> out = join_results({(0, t): Path(f"{t}.ome.tif") for t in (0, 1)}, Path("both.ome.tif"))
    >>> open_stack(out, channel=0, time=1).read().max()
    np.float32(1.0)
    """
    channels, times = (sorted({key[axis] for key in parts}) for axis in (0, 1))
    first = parts[channels[0], times[0]]
    names, stack = result_channels(first), open_stack(first, channel=0)
    zyx_shape, size_um = stack.zyx_shape, stack.voxel_size_um
    assert size_um is not None  # as results are written
    all_names = [name for c in channels for name in of_channel(names, c, len(channels))]
    # As many planes as chunks of an OME-Zarr have, so that each chunk is compressed once.
    most_bytes = 4 * OmeZarrWriter.CHUNK_ZYX[0] * zyx_shape[1] * zyx_shape[2]
    with writer_for(out, (len(all_names), *zyx_shape), size_um, all_names, len(times)) as writer:
        for (channel, time), path in parts.items():
            for number in range(len(names)):
                part = open_stack(path, channel=number)
                if part.zyx_shape != zyx_shape:
                    raise TenetError(
                        f"{path} has the shape {part.zyx_shape}, and {first} {zyx_shape}: keep the "
                        "results apart (--apart)"
                    )
                place = channels.index(channel) * len(names) + number
                for start, slab in part.slabs(most_bytes):
                    writer.add((start, 0, 0), slab[None], channel=place, time=times.index(time))
    return out
