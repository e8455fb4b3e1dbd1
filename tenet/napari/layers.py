"""Layers of napari: what TENET takes from them, and what it makes of a result."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tenet.errors import TenetError
from tenet.io.results import CHANNELS, THRESHOLD, UNCERTAINTY
from tenet.io.stack import Stack, micrometres
from tenet.types import VoxelSize

#: Data, arguments of the layer, and its kind, as napari takes them from readers.
LayerData = tuple[Any, dict[str, Any], str]
#: Units of the axes of all layers.
MICROMETRES = ("µm", "µm", "µm")
#: Key of what TENET knows of a layer, in the layer's metadata.
KEY = "tenet"
#: Stacks of more bytes are read plane by plane, when they are looked at.
MOST_BYTES = 2**28
#: Planes that are read at once.
PLANES = 16


# What there is ------------------------------------------------------------------------------------


def check_layer(layer: Any) -> None:
    """Refuse a layer that is no raw stack.

    Raises
    ------
    TenetError
        If there is no layer, or the layer is no image, is in colour, or has other axes than
        Z, Y, X, and perhaps time before them.
    """
    if layer is None:
        raise TenetError("there is no image layer: open a stack, or a sample of TENET")
    kind = type(layer).__name__
    if kind != "Image":
        raise TenetError(f"{layer.name} is a layer of the kind {kind}: choose the raw image")
    if layer.rgb:
        raise TenetError(f"{layer.name} is a colour picture: choose one channel of a stack")
    if layer.ndim < 3:
        raise TenetError(f"{layer.name} is one plane: TENET enhances stacks of at least 8 planes")
    if layer.ndim > 4:
        raise TenetError(
            f"{layer.name} has {layer.ndim} axes: right-click the layer and split the stack, and "
            "choose one channel (Z, Y, X, or time and Z, Y, X)"
        )


def voxel_size_of_layer(layer: Any) -> VoxelSize | None:
    """Voxel size of a layer along z, y and x in µm; None if the layer has no scale or no z.

    A scale in pixels counts as µm, because many readers give no unit; a scale of 1 counts as none.
    """
    if layer.ndim < 3:
        return None
    scale = [abs(float(size)) for size in layer.scale[-3:]]
    units = [str(unit) for unit in layer.units[-3:]]
    if all(unit == "pixel" for unit in units):
        return None if scale == [1, 1, 1] else (scale[0], scale[1], scale[2])
    sizes = [micrometres(size, unit) for size, unit in zip(scale, units, strict=True)]
    z, y, x = sizes
    return None if z is None or y is None or x is None else (z, y, x)


def data_of(layer: Any) -> Any:
    """The finest level of an image layer."""
    return layer.data[0] if layer.multiscale else layer.data


def array_of(stack: Stack) -> Any:
    """Intensities of a stack: in memory, or as a Dask array if there are too many.

    The axes are Z, Y, X; where the file has several time points T, Z, Y, X.
    """
    times = [stack.at(stack.channel, time, "") for time in range(stack.times)]
    if 4 * math.prod(stack.zyx_shape) * len(times) <= MOST_BYTES:
        read = [each.read() for each in times]
        return np.stack(read) if len(read) > 1 else read[0]
    from dask import array  # napari brings Dask

    return array.stack([_lazy(each) for each in times]) if len(times) > 1 else _lazy(stack)


def _lazy(stack: Stack) -> Any:
    from dask import array, delayed

    planes, rows, columns = stack.zyx_shape
    blocks = []
    for first in range(0, planes, PLANES):
        last = min(first + PLANES, planes)
        block = delayed(stack.read)(slice(first, last))
        blocks.append(array.from_delayed(block, (last - first, rows, columns), np.float32))
    return array.concatenate(blocks)


# What becomes of it -------------------------------------------------------------------------------


def placed(
    voxel_size_um: VoxelSize, step_um: float | None = None, *, series: bool = False
) -> dict[str, Any]:
    """Arguments of a layer that say where it is.

    Parameters
    ----------
    voxel_size_um : tuple of float
        Along z, y and x.
    step_um : float, optional
        Of a result: how far the planes of its raw stack are apart, which lies at the origin.
    series : bool
        Whether there is an axis of time, whose points are 1 apart.
    """
    fine_um = voxel_size_um[0]
    time = (1.0,) if series else ()
    place = {"scale": (*time, *voxel_size_um), "units": ("pixel",) * len(time) + MICROMETRES}
    if step_um is None:
        return place
    return place | {"translate": (*(0.0 for _ in time), (fine_um - step_um) / 2, 0.0, 0.0)}


def placed_on(layer: Any, start: Sequence[int], scale: int) -> dict[str, Any]:
    """Where the result of a part of a layer is, so that it lies on the layer.

    Parameters
    ----------
    layer : napari.layers.Image
        The raw stack, whose scale is its voxel size in µm.
    start : sequence of int
        First plane, row and column of the part; of a series the first time point before them.
    scale : int
        s, fine planes per plane. Plane i is centred on fine plane i·s + (s − 1)/2.
    """
    corner = np.array(start, float)
    corner[-3] -= (scale - 1) / (2 * scale)
    fine_um = np.array(layer.scale, float)
    fine_um[-3] /= scale
    return {
        "scale": fine_um,
        "translate": layer.affine.inverse(np.array(layer.data_to_world(corner))),
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine.affine_matrix,
        "units": layer.units,
    }


def result_layers(
    name: str,
    channels: Mapping[str, Any],
    threshold: float | None,
    place: Mapping[str, Any],
    record: Mapping[str, Any],
) -> list[LayerData]:
    """Layers of an enhanced stack.

    Parameters
    ----------
    name : str
        Of the stack.
    channels : mapping
        Arrays of float32 (Z, Y, X, or T, Z, Y, X) by "shape", "brightness" and perhaps
        "uncertainty".
    threshold : float or None
        Probability from which on a voxel is segmented; None: that of a result without a record.
    place : mapping
        Scale, units and so on of each layer.
    record : mapping
        What is known of the result, for the metadata of each layer.

    Returns
    -------
    list of tuple
        Shape × brightness, the probability of the shape, the uncertainty if there is one, and the
        segmentation as labels, from below to above.
    """
    shape, brightness = (channels[channel] for channel in CHANNELS)
    light = shape * brightness
    level = THRESHOLD if threshold is None else threshold
    segmented = (shape >= level).astype(np.uint8)

    def layer(data: Any, what: str, kind: str = "image", **looks: Any) -> LayerData:
        return (
            data,
            {"name": f"{name} {what}", "metadata": {KEY: {"result": name, **record}}, **place}
            | looks,
            kind,
        )

    layers = [
        layer(light, "brightness", colormap="magma", contrast_limits=_limits(light)),
        layer(shape, "shape", colormap="viridis", contrast_limits=(0, 1), visible=False),
    ]
    if UNCERTAINTY in channels:
        looks: dict[str, Any] = {"colormap": "red", "blending": "additive", "opacity": 0.6}
        data = channels[UNCERTAINTY]
        layers.append(layer(data, UNCERTAINTY, contrast_limits=(0, 0.5), visible=False, **looks))
    said = f"segmented (p ≥ {level:.2g}{', assumed' if threshold is None else ''})"
    return [*layers, layer(segmented, said, "labels", opacity=0.4)]


def _limits(light: Any) -> tuple[float, float]:
    """Black and white of an image that is mostly dark; some planes tell."""
    sample = np.asarray(light[:: max(1, len(light) // PLANES)])
    bright = sample[sample > 0.01]
    return 0.0, float(np.percentile(bright, 99)) if bright.size else 1.0
