"""Weights on disk, read without running code in them, and compared with a network."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenet.errors import TenetError, one_line
from tenet.io.pt import check_promise
from tenet.io.records import is_zip, regular_file

#: Most bytes of a file of weights.
MOST_BYTES = 16 * 2**30


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read a file of tensors without running code in it.

    Raises
    ------
    TenetError
        If the file is missing, damaged, or holds other things than plain data and tensors.
    """
    path = Path(path)
    try:
        regular_file(path, most_bytes=MOST_BYTES)
    except TenetError as error:
        if isinstance(error.__context__, FileNotFoundError):
            raise TenetError(f"no weights at {path}") from None
        raise
    try:
        _check_archive(path)
        with warnings.catch_warnings(action="ignore"):  # their cause is refused below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch fails in many ways at a file of a stranger
        if isinstance(error, pickle.UnpicklingError) or not is_zip(path):
            raise TenetError(
                f"{path} is not a plain weights file: it is damaged, or holds code, which is never "
                "run"
            ) from None
        raise TenetError(f"{path} cannot be read as weights: {one_line(error)}") from None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        kind = "dictionary without names" if isinstance(state, dict) else type(state).__name__
        raise TenetError(f"{path} holds a {kind}, not a dictionary of weights")
    return state


def _check_archive(path: Path) -> None:
    """Compare the contents of a file with its checksums, which PyTorch writes but never reads."""
    if not is_zip(path):
        return
    check_promise(path)
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} in it is damaged")


def check_weights(own: Mapping[str, Tensor], state: Mapping[str, Any], *, where: str) -> None:
    """Check that weights from a file fit an architecture, and are dense and finite.

    Parameters
    ----------
    own : mapping
        Weights of that architecture.
    state : mapping
        The weights from the file.
    where : str
        Names the file in errors.

    Raises
    ------
    TenetError
        If a name is missing or unknown, or a weight is not a tensor, has another shape or kind of
        number, is not dense, or is not finite.
    """
    missing = [f"{name} is missing" for name in sorted(own.keys() - state.keys())]
    surplus = [f"{name} is unknown" for name in sorted(state.keys() - own.keys())]
    wrong = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in own.items()
        if _is_dense(state.get(name)) and state[name].shape != value.shape
    ]
    if first := next(iter(wrong + missing + surplus), None):
        raise TenetError(
            f"{where} holds weights of another architecture ({first}): "
            "use the configuration and the version that it was trained with"
        )
    for name, value in own.items():
        if (fault := _fault(state[name], value)) is not None:
            raise TenetError(
                f"{where}: {name} {fault}; weights are dense tensors of finite numbers: take "
                "another copy of the file, or train again"
            )


def _fault(value: Any, own: Tensor) -> str | None:
    """The reason why a value cannot replace the weight `own`, of the same shape; None if it can."""
    if not isinstance(value, Tensor):
        return f"is no tensor but {'nothing' if value is None else f'a {type(value).__name__}'}"
    if not _is_dense(value):
        return f"is {'without values' if value.is_meta else 'sparse, nested or quantised'}"
    if _kind_of_number(value.dtype) != _kind_of_number(own.dtype):
        return f"holds numbers of the type {value.dtype}, not {own.dtype}".replace("torch.", "")
    # In the type of the model, because a large float64 is infinite in float32.
    return None if bool(value.to(own.dtype).isfinite().all()) else "is not finite"


def _is_dense(value: Any) -> bool:
    """Whether a value is a tensor that holds all of its numbers in memory."""
    odd = ("is_meta", "is_nested", "is_quantized")
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not any(getattr(value, kind) for kind in odd)
    )


def _kind_of_number(dtype: torch.dtype) -> str:
    if dtype.is_complex or dtype == torch.bool:
        return str(dtype)
    return "float" if dtype.is_floating_point else "integer"
