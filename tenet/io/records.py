"""Small files from outside: read within limits, and parsed in one place.

Configurations, records beside a model, metadata and tables come from strangers. Every reader of
such files uses this module. A path that is not a file, a file that is too large, and text that is
too deeply nested or not JSON end in one line.
"""

import contextlib
import io
import json
import math
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tenet.errors import TenetError, one_line

if TYPE_CHECKING:
    import pandas as pd

#: Bytes of a record, levels of its nesting, and digits of an integer in it, at most.
MOST_BYTES, MOST_LEVELS, MOST_DIGITS = 16 * 2**20, 64, 18
#: Bytes and columns of a table, at most.
MOST_TABLE_BYTES, MOST_COLUMNS = 256 * 2**20, 1000
#: Whole numbers below it are exact in float64.
MOST_WHOLE = 2**53


def regular_file(path: Path, *, most_bytes: int | None = None) -> int:
    """Check that a path leads to a plain file, and return its size in bytes.

    Devices and pipes, which may never end, are refused before anything is read.

    Raises
    ------
    TenetError
        If the path leads to no file, or to a file of more than `most_bytes`.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise TenetError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # a loop of links, a name that is too long or has a NUL
        raise TenetError(f"{str(path)!r}: cannot be opened ({one_line(error)})") from None
    if stat.S_ISDIR(found.st_mode):
        raise TenetError(f"{path}: this is a folder, and a file is needed; check the path")
    if not stat.S_ISREG(found.st_mode):
        raise TenetError(f"{path}: this is a device or a pipe, not a file; copy it to a file")
    if most_bytes is not None and found.st_size > most_bytes:
        raise TenetError(
            f"{path}: the file has {found.st_size / 2**20:.6g} MiB, and such a file has at most "
            f"{most_bytes / 2**20:g} MiB; check the path"
        )
    return found.st_size


def is_zip(path: Path) -> bool:
    """Say whether a file is a zip archive; one of several parts, which Python refuses, is none."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def read_text(path: Path, *, most_bytes: int = MOST_BYTES) -> str:
    """Read a small text file in UTF-8 (a byte-order mark is left out).

    Raises
    ------
    TenetError
        As `regular_file` raises, or if the file cannot be read or is not UTF-8.
    """
    regular_file(path, most_bytes=most_bytes)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TenetError(f"{path}: this is no text in UTF-8 ({one_line(error)})") from None
    except OSError as error:
        raise TenetError(f"{path}: cannot be read ({one_line(error)})") from None


def read_json(path: Path, *, most_bytes: int = MOST_BYTES) -> Any:
    """Read a JSON file; see `parse_json`."""
    return parse_json(read_text(path, most_bytes=most_bytes), where=str(path))


def read_json_object(path: Path, *, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Read a JSON file that holds an object; see `parse_json`."""
    found = read_json(path, most_bytes=most_bytes)
    if not isinstance(found, dict):
        raise TenetError(f"{path}: a JSON object is needed, and it holds {_kind(found)}")
    return found


def read_table(
    path: Path,
    columns: Sequence[str] = (),
    *,
    numbers: Sequence[str] = (),
    gaps: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> "pd.DataFrame":
    """Read a CSV table with a header.

    Parameters
    ----------
    path : Path
    columns, numbers : sequence of str
        Columns that the table must have, and those that must hold finite numbers in each row.
    gaps : sequence of str
        Columns of numbers that may be missing in a row.
    whole : sequence of str
        Columns that must hold whole numbers in each row.

    Raises
    ------
    TenetError
        As `read_text` raises, or if the file is no table, has no rows, or lacks a column or a
        number.
    """
    import pandas as pd  # pandas takes a while to import, and most readers of JSON do without

    text = read_text(path, most_bytes=MOST_TABLE_BYTES)
    if text.partition("\n")[0].count(",") >= MOST_COLUMNS:
        raise TenetError(f"{path}: more than {MOST_COLUMNS} columns; no table of TENET has them")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Without this option pandas takes the first fields of rows that are too long as row
            # names.
            table = pd.read_csv(io.StringIO(text), index_col=False)
    except pd.errors.ParserWarning:
        raise TenetError(
            f"{path}: its rows have more fields than its header; numbers need a decimal point, "
            "not a comma"
        ) from None
    except ValueError as error:  # the errors of pandas are kinds of ValueError
        raise TenetError(f"{path}: this is no CSV table ({one_line(error)})") from None
    missing = [name for name in (*columns, *numbers, *gaps, *whole) if name not in table.columns]
    if missing or table.empty:
        what = f"lacks the columns {', '.join(missing)}" if missing else "has no rows"
        raise TenetError(f"{path}: the table {what}; its columns are {_listed(table.columns)}")
    for name in (*numbers, *gaps, *whole):
        values = _as_numbers(table[name])
        right = np.isfinite(values)
        if name in whole:
            right &= (np.abs(values) < MOST_WHOLE) & (values == np.rint(values))
        if name in gaps:
            right |= table[name].isna().to_numpy()
        if not right.all():
            row = int(np.argmin(right))
            raise TenetError(
                f"{path}: row {row + 1} has {str(table[name][row])[:40]!r} under {name}, where a "
                f"{'whole ' if name in whole else ''}number must stand"
            )
    return table


def _as_numbers(column: "pd.Series[Any]") -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return a column as floats, with NaN where the column holds no number."""
    import pandas as pd

    try:
        return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
    except OverflowError:  # an integer beyond the range of float64
        return pd.to_numeric(column.astype(str), errors="coerce").to_numpy(dtype=float)


def _listed(names: Iterable[object]) -> str:
    return one_line(ValueError(", ".join(map(str, names))))


def parse_json(text: str, *, where: str, foreign: bool = False) -> Any:
    """Parse JSON of finite numbers and bounded depth.

    Parameters
    ----------
    text : str
    where : str
        Names the text in errors.
    foreign : bool
        Whether another program wrote the text. Numbers that TENET never reads may then be NaN or
        very large, and become None.

    Raises
    ------
    TenetError
        If the text is not JSON, is nested deeper than `MOST_LEVELS`, or holds NaN, infinity, a
        number beyond the range of float64 or an integer of more than `MOST_DIGITS` digits.
    """
    hooks: dict[str, Any] = {
        "parse_int": _integer,
        "parse_float": _finite,
        "parse_constant": _no_constant,
    }
    if foreign:
        hooks = {name: _or_none(hook) for name, hook in hooks.items()}
    try:
        found = json.loads(text, **hooks)
    except RecursionError:
        raise TenetError(_too_deep(where)) from None
    except json.JSONDecodeError as error:
        raise TenetError(f"{where} is not JSON: {one_line(error)}") from None
    except ValueError as error:
        raise TenetError(f"{where}: {one_line(error)}") from None
    level = [found]
    for _ in range(MOST_LEVELS + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return found
    raise TenetError(_too_deep(where))


def _or_none(read: Callable[[str], float]) -> Callable[[str], float | None]:
    def number(text: str) -> float | None:
        with contextlib.suppress(ValueError):
            return read(text)
        return None

    return number


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _too_deep(where: str) -> str:
    return f"{where}: nested more than {MOST_LEVELS} levels deep; no file of TENET is"


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"the number {digits[:12]}… has more than {MOST_DIGITS} digits")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:24]} is beyond the range of float64")
    return number


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
