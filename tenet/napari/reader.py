"""Reader of enhanced stacks; every other file is left to other readers."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tenet.io.folders import stack_name
from tenet.io.open import open_stack
from tenet.io.results import (
    CHANNELS,
    UNCERTAINTY,
    by_raw_channel,
    record_of_channel,
    result_channels,
    result_record,
    step_in,
    threshold_in,
)
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
        Layers as `tenet.napari.layers.result_layers` makes them, of each raw channel. The voxel
        size is in µm, and they lie on the raw stack if the record has its voxel size.

    Raises
    ------
    TenetError
        If the file or its record is damaged.
    """
    file = Path(path)
    first = open_stack(file, channel=0, time=0)
    record, names = result_record(file), result_channels(file)
    size_um = first.voxel_size_um or (1.0, 1.0, 1.0)
    place = placed(size_um, step_in(record), series=first.times > 1)
    layers = []
    for raw, of_raw in by_raw_channel(names).items():
        arrays = [array_of(first.at(names.index(name), 0, "")) for name in of_raw]
        channels = dict(zip((*CHANNELS, UNCERTAINTY), arrays, strict=False))
        own = record if raw is None else record_of_channel(record, raw)
        name = stack_name(file) + ("" if raw is None else f" c{raw}")
        layers += result_layers(name, channels, threshold_in(own), place, own)
    return layers
