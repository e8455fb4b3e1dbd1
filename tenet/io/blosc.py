"""Blosc in Zarr, where a damaged chunk must not end the process.

Blosc believes the length that a chunk gives of itself, and reads beyond the end of one that was
cut. Zarr and numcodecs take the codec that is registered last, or that their settings name.
"""

from typing import Any

import numcodecs
import zarr
import zarr.codecs
import zarr.registry


def check_length(chunk: memoryview) -> None:
    """Refuse a chunk of another length than its header says.

    Raises
    ------
    ValueError
    """
    if len(chunk) < 16 or int.from_bytes(chunk[12:16], "little") != len(chunk):
        raise ValueError("a chunk of Blosc has another length than it says")


class CheckedBlosc(numcodecs.Blosc):
    """Blosc of Zarr 2."""

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Unpack a chunk of the length that it says."""
        check_length(memoryview(buf).cast("B"))
        return super().decode(buf, out)


class CheckedBloscCodec(zarr.codecs.BloscCodec):
    """Blosc of Zarr 3."""

    def _decode_sync(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        check_length(memoryview(chunk_bytes.as_numpy_array()).cast("B"))
        return super()._decode_sync(chunk_bytes, chunk_spec)


numcodecs.register_codec(CheckedBlosc)
zarr.registry.register_codec("blosc", CheckedBloscCodec)
zarr.config.set({"codecs.blosc": f"{__name__}.{CheckedBloscCodec.__name__}"})
