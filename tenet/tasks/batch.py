"""`tenet enhance` of a folder: each stack for itself, with a table of all at the end."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from tenet.errors import TenetError, one_line
from tenet.io.atomic import save_table
from tenet.io.records import read_json
from tenet.tasks.enhance import Enhancing, Wanted
from tenet.tasks.notes import note
from tenet.tasks.reading import Reading, Result

#: The table beside the results of a folder.
TABLE = "enhanced.csv"


@dataclass(frozen=True)
class Row:
    """What became of a stack.

    Attributes
    ----------
    stack : str
        Its file, and which part of the file.
    status : {"done", "done before", "failed"}
    result : str
        File of the result; empty if it failed.
    psf_axial_um, psf_lateral_um : float or None
        Widths (FWHM) of the PSF that a model of every microscope used; None if the PSF is longer
        than its grid, or the model is of one microscope.
    warnings : tuple of str
    error : str
        What is wrong, if it failed.
    """

    stack: str
    status: Literal["done", "done before", "failed"]
    result: str = ""
    psf_axial_um: float | None = None
    psf_lateral_um: float | None = None
    warnings: tuple[str, ...] = ()
    error: str = ""


def enhance_each(
    reading: Reading,
    model: Path,
    out: Path,
    wanted: Wanted | None = None,
    *,
    again: bool = False,
    device: torch.device,
) -> Iterator[Row]:
    """Enhance stacks, whatever becomes of the others, and yield a row for each.

    Parameters
    ----------
    reading, model, out, wanted, device
        As for `tenet.tasks.enhance.enhance`. ``enhanced.csv`` in `out` holds the rows so far.
    again : bool
        Whether to enhance stacks whose results are there, whole and made in the same way.

    Raises
    ------
    TenetError
        If no stack can be enhanced: there is none, the options do not go with the model, or a
        result would replace a stack or another result.
    """
    wanted = wanted or Wanted()
    opened = [
        (file, _opened(reading, file, target, wanted))
        for file, target in reading.files(out)
    ]  # fmt: skip
    work = Enhancing(reading, model, wanted, device)
    results = [r for _, found in opened if not isinstance(found, TenetError) for r in found]
    work.check_outputs(results, [out / TABLE])
    if not work.model.serves_all:
        note(work.model.calibration_note)
    rows: list[Row] = []
    for file, found in opened:
        for row in _rows(work, file, found, again):
            rows.append(row)
            save_table(out / TABLE, [_plain(row, out) for row in rows])
            yield row


def _opened(
    reading: Reading, file: Path, target: Path, wanted: Wanted
) -> Sequence[Result] | TenetError:
    try:
        return reading.open_file(file, target, wanted.suffix)
    except TenetError as error:
        return error


def _rows(
    work: Enhancing, file: Path, found: Sequence[Result] | TenetError, again: bool
) -> Iterator[Row]:
    if isinstance(found, TenetError):
        yield _failed(str(file), found)
    else:
        yield from (_done(work, result, again) for result in found)


def _done(work: Enhancing, result: Result, again: bool) -> Row:
    try:
        work.check(result)
        before = not again and work.is_done(result)
        if before:
            work.remove_parts(result)  # of a run that was killed while it did so
        else:
            for _ in work.run(result, again=again):
                pass
        record = work.record_of(result.path)
        return _row(result.label, "done before" if before else "done", result.path, record)
    except (TenetError, MemoryError) as error:
        return _failed(result.label, error)


def _row(
    stack: str, status: Literal["done", "done before"], result: Path, record: Path | None
) -> Row:
    found: dict[str, Any] = read_json(record) if record is not None else {}
    psf_um = found.get("psf_um", {})
    return Row(
        stack, status, str(result), psf_um.get("axial"), psf_um.get("lateral"),
        tuple(found.get("warnings", ())),
    )  # fmt: skip


def _failed(stack: str, error: BaseException) -> Row:
    short = isinstance(error, MemoryError)
    words = f"not enough memory ({one_line(error)})" if short else str(error)
    return Row(stack, "failed", error=words)


def _plain(row: Row, out: Path) -> dict[str, Any]:
    """A row as in the table, which names results from its own folder on, wherever that goes."""
    widths = {
        name: "" if value is None or not math.isfinite(value) else f"{value:.4g}"
        for name, value in asdict(row).items()
        if name.endswith("_um")
    }
    result = row.result and Path(os.path.relpath(row.result, out)).as_posix()
    return asdict(row) | widths | {"result": result, "warnings": "; ".join(row.warnings)}
