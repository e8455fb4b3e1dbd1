"""Reader of enhanced stacks; every other file is left to other readers."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tenet.io.folders import stack_name
from tenet.io.open import open_stack
from tenet.io.results import result_channels, result_record, step_in, threshold_in
from tenet.napari.layers import LayerData, array_of, placed, result_layers


def get_reader(path: str | Sequence[str]) -> Callable[[str], list[LayerData]] | None:
    """Return `read_result` for a file or an OME-Zarr that TENET wrote, and None for all others.

    Parameters
    ----------
    path : str or sequence of str
        Several files are no result.
    """
    return read_result if isinstance(path, str) and result_channels(Path(path)) else None


def read_result(path: str) -> list[LayerData]:
    """Read an enhanced stack, with the threshold that stands in the record beside it.

    Parameters
    ----------
    path : str
        OME-TIFF or OME-Zarr that `tenet enhance` wrote.

    Returns
    -------
    list of tuple
        Layers as `tenet.napari.layers.result_layers` makes them. The voxel size is in µm, and they
        lie on the raw stack if the record has its voxel size.

    Raises
    ------
    TenetError
        If the file or its record is damaged.
    """
    file = Path(path)
    first = open_stack(file, channel=0)
    names = result_channels(file)
    channels = {name: array_of(first.at(n, 0, "")) for n, name in enumerate(names)}
    record = result_record(file)
    place = placed(first.voxel_size_um or (1.0, 1.0, 1.0), step_in(record))
    return result_layers(stack_name(file), channels, threshold_in(record), place, record)
