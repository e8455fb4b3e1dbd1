"""OME-Zarr: a folder, or one in a zip archive."""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
import zarr.storage

from tenet.errors import TenetError, one_line
from tenet.io.stack import (
    Layout,
    Stack,
    VoxelSize,
    check_dtype,
    find_layout,
    micrometres,
    voxel_size_of_axes,
)


@dataclass(frozen=True)
class _ZarrReader:
    path: Path
    dataset: str
    layout: Layout

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        with _zarr_group(self.path) as group:
            return self.layout.crop(group[self.dataset], z, y, x)


@contextlib.contextmanager
def _zarr_group(path: Path) -> Iterator[zarr.Group]:
    if path.is_dir():
        yield zarr.open_group(path, mode="r")
        return
    if not zipfile.is_zipfile(path):
        raise zipfile.BadZipFile("it is not a zip archive")
    store = zarr.storage.ZipStore(path, mode="r")
    try:
        yield zarr.open_group(store, mode="r")
    finally:
        store.close()


def open_ome_zarr(path: Path, channel: int | None) -> Stack:
    """Open an OME-Zarr image; see `tenet.io.open.open_stack`."""
    try:
        with _zarr_group(path) as group:
            attributes: dict[str, Any] = group.attrs.asdict()
            # Version 0.5 keeps its metadata under "ome".
            images = attributes.get("ome", attributes).get("multiscales")
            if not images:
                raise TenetError(
                    f"{path}: no OME-Zarr image is described here; "
                    "give the folder that holds the image's 'multiscales' metadata"
                )
            dataset = str(images[0]["datasets"][0]["path"])
            array = group[dataset]
            if not isinstance(array, zarr.Array):
                raise TenetError(f"{path}: {dataset} is not an array; write the image again")
            shape, dtype = tuple(array.shape), np.dtype(array.dtype)
    except (OSError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile) as error:
        raise TenetError(
            f"{path}: the OME-Zarr image cannot be opened ({one_line(error)}); write it again"
        ) from error
    names, voxel_size_um = _multiscale_axes(images[0], len(shape))
    layout, zyx_shape = find_layout(path, names, shape, channel)
    check_dtype(path, dtype)
    return Stack(path, zyx_shape, dtype, voxel_size_um, _ZarrReader(path, dataset, layout))


def _multiscale_axes(image: Mapping[str, Any], ndim: int) -> tuple[str, VoxelSize | None]:
    """Return the axis names and the voxel size of the finest level of an OME-Zarr image."""
    # Axes came with version 0.3 (names) and 0.4 (names and units); before, all was t, c, z, y, x.
    axes = [
        {"name": axis} if isinstance(axis, str) else dict(axis)
        for axis in image.get("axes", list("tczyx"))
    ]
    names = "".join(str(axis["name"])[:1].upper() for axis in axes)
    if len(names) != ndim:
        return "Q" * ndim, None
    scale: npt.NDArray[np.float64] | None = None
    for holder in (image["datasets"][0], image):
        for transformation in holder.get("coordinateTransformations", []):
            if transformation.get("type") == "scale" and len(transformation["scale"]) == ndim:
                factor = np.asarray(transformation["scale"], dtype=np.float64)
                scale = factor if scale is None else scale * factor
    if scale is None or not set("ZYX") <= set(names):
        return names, None
    z, y, x = (
        micrometres(scale[names.index(axis)], axes[names.index(axis)].get("unit")) for axis in "ZYX"
    )
    return names, voxel_size_of_axes(z, y, x)
