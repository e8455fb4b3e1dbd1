"""OME-Zarr: a folder, or one in a zip archive."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import zarr
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, WrapValidator

from tenet.errors import TenetError, one_line
from tenet.io.axes import Layout, axes_with_planes, find_layout, plain_axes
from tenet.io.calibration import Calibration, calibration
from tenet.io.records import is_zip
from tenet.io.stack import Stack, check_dtype
from tenet.io.zarr_files import METADATA, MOST_CHUNK_BYTES, MOST_CHUNKS, ZarrFiles, is_zarr

__all__ = ["is_zarr", "open_ome_zarr"]


# The metadata that are used. If the voxel size in the metadata is wrong, the user gives another.


def _or_none(value: Any, handler: Callable[[Any], Any]) -> Any:
    try:
        return handler(value)
    except ValidationError:
        return None


IfRight = WrapValidator(_or_none)


class _Axis(BaseModel):
    name: str = Field(min_length=1)
    unit: Annotated[str | None, IfRight] = None


class _Transformation(BaseModel):
    type: str
    scale: Annotated[list[Annotated[float, Field(strict=True)]] | None, IfRight] = None


Transformations = Annotated[list[_Transformation] | None, IfRight]
#: Version 0.3 has names of axes alone.
Axis = Annotated[_Axis, BeforeValidator(lambda a: {"name": a} if isinstance(a, str) else a)]


class _Dataset(BaseModel):
    path: str
    coordinateTransformations: Transformations = None


class _Image(BaseModel):
    #: Version 0.3 names axes, 0.4 adds units. In earlier versions the axes are t, c, z, y, x.
    axes: Annotated[list[Axis] | None, IfRight] = Field([_Axis(name=name) for name in "tczyx"])
    datasets: Annotated[list[_Dataset], Field(min_length=1)]
    coordinateTransformations: Transformations = None


class _Attributes(BaseModel):
    multiscales: list[_Image] | None = None
    layout: Annotated[Any, Field(alias="bioformats2raw.layout")] = None


@dataclass(frozen=True)
class _ZarrReader:
    files: ZarrFiles
    dataset: str
    layout: Layout

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        with self.files.array(self.dataset) as array:
            return self.layout.crop(array, z, y, x)

    def at(self, channel: int, time: int) -> "_ZarrReader":
        return replace(self, layout=self.layout.at(channel, time))


def open_ome_zarr(
    path: Path, channel: int | None, planes_are: str | None = None, time: int | None = None
) -> Stack:
    """Open an OME-Zarr image, or a bare Zarr array; see `tenet.io.open.open_stack`."""
    files = ZarrFiles(path)
    if files.zipped and not is_zip(path):
        raise TenetError(f"{path}: it is not a zip archive, or was cut; copy or write it again")
    dataset, image = _find_image(files, _root(files))
    shape, dtype, chunks, own_names = _array(files, dataset)
    if image is None:
        names, sizes = own_names or plain_axes(shape), Calibration()
    else:
        names, sizes = _multiscale_axes(image, shape)
    names = axes_with_planes(path, names, shape, planes_are)
    found = find_layout(path, names, shape, channel, time)
    check_dtype(path, dtype)
    _check_chunks(path, shape, chunks, dtype.itemsize)
    reader = _ZarrReader(files, dataset, found.layout)
    return Stack(
        path, found.zyx_shape, dtype, sizes.voxel_size_um, reader, sizes.note,
        found.channels, found.times,
    )  # fmt: skip


def _root(files: ZarrFiles) -> str:
    """Return the folder of a Zarr in an archive; "" where the archive holds the content alone."""
    inside = files.inside() if files.zipped else []
    described = len(inside) != 1 or any(files.json(name) is not None for name in METADATA)
    return "" if described else inside[0]


def _find_image(files: ZarrFiles, group: str) -> tuple[str, _Image | None]:
    """Return the finest array of the one image, and its metadata; None for a bare array."""
    attributes = _attributes(files, group)
    if attributes is None:
        return group, None
    if not attributes.multiscales and attributes.layout is not None:
        group = _only_series(files, group)
        attributes = _attributes(files, group)
    if attributes is None or not attributes.multiscales:
        inside = ", ".join(files.inside(group)[:5])
        raise TenetError(
            f"{files.path}: no OME-Zarr image is described here; give the folder that holds the "
            f"image's 'multiscales' metadata{f' (inside: {inside})' if inside else ''}"
        )
    image = attributes.multiscales[0]
    name = PurePosixPath(image.datasets[0].path)
    if not name.parts or name.is_absolute() or ".." in name.parts or "\0" in str(name):
        raise TenetError(
            f"{files.path}: the path of its data, {str(name)[:80]!r}, leads out of it; "
            "write the image again"
        )
    return str(PurePosixPath(group) / name), image


def _attributes(files: ZarrFiles, group: str) -> _Attributes | None:
    """Return the metadata of a group's images; None for an array."""
    at = PurePosixPath(group)
    description = files.json(str(at / "zarr.json"))
    if description is None:
        if files.json(str(at / ".zarray")) is not None:
            return None
        described = files.json(str(at / ".zattrs"))
        if described is None and files.json(str(at / ".zgroup")) is None:
            raise TenetError(
                f"{files.path / group}: there is no Zarr metadata in it (zarr.json or .zgroup); "
                "copy or write the image again"
            )
    else:
        if isinstance(description, Mapping) and description.get("node_type") == "array":
            return None
        described = description.get("attributes") if isinstance(description, Mapping) else 0
    described = {} if described is None else described
    # Version 0.5 keeps its metadata under "ome".
    if isinstance(described, Mapping) and "ome" in described:
        described = described["ome"]
    try:
        return _Attributes.model_validate(described)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "they"
        raise TenetError(
            f"{files.path}: its OME metadata are damaged ({key}: {first['msg']}); "
            "write the image again"
        ) from None


def _only_series(files: ZarrFiles, group: str) -> str:
    """Return the one image that bioformats2raw has put into a Zarr."""
    series = sorted((name for name in files.inside(group) if name.isdecimal()), key=int)
    if len(series) != 1:
        how = "unzip it and give one of them" if files.zipped else "give one of them, as"
        raise TenetError(
            f"{files.path}: it holds {len(series)} images of bioformats2raw; "
            f"{how} {files.path / (series or ['0'])[0]}"
        )
    return str(PurePosixPath(group) / series[0])


def _array(
    files: ZarrFiles, name: str
) -> tuple[tuple[int, ...], np.dtype[Any], tuple[int, ...], str | None]:
    """Return the shape, the type and the chunks of an array in which something is stored.

    The names of the axes follow, if the array has names.
    """
    for metadata in ("zarr.json", ".zarray"):
        files.json(str(PurePosixPath(name) / metadata))  # within our limits before zarr reads it
    # On strange metadata zarr, its codecs and the archive's decoder raise many kinds of errors.
    try:
        with files.array(name) as array:
            shape, dtype, chunks = tuple(array.shape), np.dtype(array.dtype), tuple(array.chunks)
            names = _named_axes(array)
    except TenetError:
        raise
    except Exception as error:
        raise TenetError(
            f"{files.path}: the OME-Zarr image cannot be opened ({one_line(error)}); write it again"
        ) from error
    if not files.inside(name):
        raise TenetError(f"{files.path}: no voxel is stored in it; copy or write the image again")
    return shape, dtype, chunks, names


def _check_chunks(
    path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], itemsize: int
) -> None:
    """Refuse chunks that are too large for the memory, or too many for a plane."""
    voxels = max(math.prod(chunks), 1)
    said = f"{path}: chunks of {'×'.join(map(str, chunks))} voxels"
    if voxels * itemsize > MOST_CHUNK_BYTES:
        raise TenetError(
            f"{said} ({voxels * itemsize / 2**30:.3g} GiB) are too large to be read; "
            "write the image in smaller chunks"
        )
    # A stack is read plane by plane, or by groups of planes with some four million voxels.
    at_once = min(math.prod(shape), max(math.prod(shape[-2:]), 2**22))
    if at_once / voxels > MOST_CHUNKS:
        raise TenetError(
            f"{said} are too small for an array of {'×'.join(map(str, shape))}; "
            "write the image in larger chunks"
        )


def _named_axes(array: zarr.Array[Any]) -> str | None:
    """Names of the axes of an array by Zarr 3, or by xarray; None where the names are unknown."""
    found = getattr(array.metadata, "dimension_names", None)
    found = found or array.attrs.get("_ARRAY_DIMENSIONS")
    if not isinstance(found, list | tuple) or len(found) != array.ndim:
        return None
    names = "".join(name[:1].upper() for name in found if isinstance(name, str))
    known = len(names) == array.ndim and set("YX") <= set(names) <= set("TCZYX")
    return names if known else None


def _multiscale_axes(image: _Image, shape: tuple[int, ...]) -> tuple[str, Calibration]:
    """Return the axis names and the voxel size of the finest level of an OME-Zarr image."""
    ndim = len(shape)
    if image.axes is None:
        return plain_axes(shape), Calibration()
    names = "".join(axis.name[0].upper() for axis in image.axes)
    if len(names) != ndim:
        return "Q" * ndim, Calibration()
    scale: list[float] | None = None
    for holder in (image.datasets[0], image):
        for found in holder.coordinateTransformations or []:
            if found.type == "scale" and found.scale is not None and len(found.scale) == ndim:
                factors = scale or [1.0] * ndim
                scale = [a * b for a, b in zip(factors, found.scale, strict=True)]
    if scale is None or not set("ZYX") <= set(names):
        return names, Calibration()
    units = [axis.unit for axis in image.axes]
    z, y, x = ((scale[names.index(axis)], units[names.index(axis)]) for axis in "ZYX")
    if z[1] is y[1] is x[1] is None:
        said = " × ".join(f"{size:g}" for size, _ in (z, y, x))
        return names, Calibration(trouble=f"gives a scale of {said} without a unit")
    return names, calibration(z, y, x)
