"""Libraries of the extra ``formats``, imported when a file needs them."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tenet.errors import TenetError, one_line


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


@contextmanager
def opened_with(
    path: Path, kind: str, opener: Callable[[], AbstractContextManager[Any]]
) -> Iterator[Any]:
    """Open a file with its library, and turn any error of a damaged one into one line.

    Raises
    ------
    TenetError
        If anything fails for as long as the file is open.
    """
    try:
        with opener() as file:
            yield file
    except TenetError:
        raise
    # On a damaged file the libraries raise many kinds of errors.
    except Exception as error:
        raise TenetError(
            f"{path}: the {kind} file is damaged, truncated or not {kind} ({one_line(error)}); "
            "copy or export it again"
        ) from error


def refuse_planes_are(path: Path, planes_are: str | None) -> None:
    """Refuse ``planes_are`` where each channel and time point is a volume of its own."""
    if planes_are is not None:
        raise TenetError(
            f"{path}: its channels and time points are volumes of their own: leave --planes-are "
            "out, or export it as OME-TIFF"
        )
