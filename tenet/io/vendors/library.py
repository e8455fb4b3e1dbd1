"""Libraries of the extra ``formats``, imported when a file needs them."""

import importlib
from pathlib import Path
from typing import Any

from tenet.errors import TenetError


def library(path: Path, name: str) -> Any:
    """Import the library that reads a file.

    Raises
    ------
    TenetError
        If the library is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise TenetError(
            f"{path}: {path.suffix} files need the package {name.partition('.')[0]}: "
            "pip install 'tenet[formats]'"
        ) from None


def refuse_planes_are(path: Path, planes_are: str | None) -> None:
    """Refuse ``planes_are`` where each channel and time point is a volume of its own."""
    if planes_are is not None:
        raise TenetError(
            f"{path}: its channels and time points are volumes of their own: leave --planes-are "
            "out, or export it as OME-TIFF"
        )
