"""The table of the user's own stacks, as spreadsheets and editors save it.

What is clear is read: tabs, semicolons or commas between fields, UTF-8, UTF-16 or cp1252, decimal
commas, quoted fields, and any end of line. What is not ends in one line that names table, line and
column.
"""

import codecs
import csv
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tenet.errors import TenetError, one_line
from tenet.io.inside import holder
from tenet.io.picks import Picks
from tenet.io.records import regular_file
from workflow.lib.validation import check_known, check_schema, read_schema

Sample = dict[str, Any]

VOXEL_SIZE = ("voxel_z_um", "voxel_y_um", "voxel_x_um")
OPTICS = ("NA", "wavelength", "ni", "photons")
#: Columns that name channels or time points, as `Picks` reads them.
PICKED = ("channel", "time")

#: Bytes of a table: tens of thousands of stacks.
MOST_BYTES = 2**23
SEPARATORS = "\t;,"
#: How files begin that spreadsheets save unless told otherwise (zip, and the older OLE).
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def read_samples(path: Path, schema: Path) -> dict[str, Sample]:
    """Read the table of the user's own stacks.

    Parameters
    ----------
    path : Path
        Table with a header; lines that start with # and empty fields are left out.
    schema : Path
        JSON schema of one row, as YAML.

    Returns
    -------
    dict of dict
        Rows by name, numbers as numbers; "where" is the table's line, for errors.

    Raises
    ------
    ValueError
        If the table cannot be read, a column is unknown or a row is not as described.
    """
    row_schema = read_schema(schema)
    columns = row_schema["properties"]
    rows = _rows(path, _text(path))
    _, first = next(rows, (0, []))
    if not any(first):
        raise ValueError(f"{path} has no header line: its columns are {', '.join(columns)}")
    header = _header(path, first, columns)
    samples: dict[str, Sample] = {}
    for number, fields in rows:
        where = f"{path}, line {number}"
        row = _row(where, header, fields, columns)
        check_schema(row, row_schema, where)
        where = f"{where} ({row['name']})"
        _check_sample(row, where)
        # Its files would be the other's where file names do not tell A from a.
        if row["name"].casefold() in map(str.casefold, samples):
            raise ValueError(f"{where}: the name {row['name']} is taken already")
        paths = {key: checked_path(row[key], where, key) for key in ("file", "model") if key in row}
        picks = {key: _picks(row[key], f"{where}: {key}") for key in PICKED if key in row}
        offset = _offset(row["scan_offset"], where) if "scan_offset" in row else {}
        samples[row["name"]] = row | paths | picks | offset | {"where": where}
    return samples


def _offset(field: str, where: str) -> Sample:
    from tenet.io.scan_offset import parse_scan_offset  # imports SciPy

    try:
        parse_scan_offset(number := field.replace(",", "."))
    except TenetError as error:
        raise ValueError(f"{where}: scan_offset: {error}") from None
    return {"scan_offset": number}


def _text(path: Path) -> str:
    """Decode a table by its mark, or else as UTF-8, or else as Windows does in western Europe."""
    try:
        regular_file(path, most_bytes=MOST_BYTES)
        content = path.read_bytes()
    except TenetError as error:
        raise ValueError(f"sample table {error}; docs/pipeline.md tells what it holds") from None
    except OSError as error:
        raise ValueError(f"sample table {path}: cannot be read ({one_line(error)})") from None
    if content.startswith(WORKBOOKS):
        raise ValueError(f"{path} is a workbook of a spreadsheet: save it as text with tabs")
    for name in _encodings(content):
        try:
            text = content.decode(name)
        except UnicodeDecodeError:
            continue
        if not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text):
            return text
    raise ValueError(f"{path} is no text: save the table as text with tabs, in UTF-8")


def _encodings(content: bytes) -> list[str]:
    """Encodings that may be meant: the one that a mark names, or that zeros show, or two to try."""
    marked = [name for mark, name in MARKS.items() if content.startswith(mark)]
    if not marked and b"\0" in content[:2]:
        return ["utf-16-be" if content.startswith(b"\0") else "utf-16-le"]
    return marked or ["utf-8", "cp1252"]


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line that says something."""
    separator = ""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        said = line.lstrip('"').startswith("#") or re.fullmatch(r"sep=.", line, re.IGNORECASE)
        if said or not line.strip(' \t\xa0;,"'):
            continue
        separator = separator or next((s for s in SEPARATORS if s in line), "\t")
        try:
            (fields,) = csv.reader([line], delimiter=separator, strict=True)
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {number}: a quote that opens a field is not closed at its end "
                f"({one_line(error)}): remove it, or double quotes inside of the field"
            ) from None
        yield number, [field.strip() for field in fields]


def _header(path: Path, fields: list[str], columns: Mapping[str, Any]) -> list[str]:
    """Names of the columns as the schema spells them; nothing for empty ones at the end."""
    spelt = {name.lower(): name for name in columns}
    while fields and not fields[-1]:
        fields = fields[:-1]
    header = [spelt.get(field.lower(), field) for field in fields]
    for number, name in enumerate(header, start=1):
        if not name:
            raise ValueError(f"{path}: column {number} has no name; give it one, or delete it")
        if len(header) == 1 and " " in name:
            raise ValueError(
                f"{path}: its header is one field, {name[:60]!r}: separate fields by tabs, "
                "semicolons or commas"
            )
        check_known(name, columns, f"{path}: column", what="column")
        if header.count(name) > 1:
            raise ValueError(f"{path}: there are {header.count(name)} columns {name}; keep one")
    return header


def _row(where: str, header: list[str], fields: list[str], columns: Mapping[str, Any]) -> Sample:
    if any(fields[len(header) :]):
        raise ValueError(
            f"{where}: {len(fields)} fields under {len(header)} columns; fields are separated as "
            "in the header: is one too many, or a comma in one of them?"
        )
    return {
        name: _value(field, columns[name], f"{where}: {name}")
        for name, field in zip(header, fields, strict=False)
        if field
    }


def _value(field: str, schema: Mapping[str, Any], where: str) -> Any:
    """Make a field a number where its column wants one."""
    if schema["type"] not in ("number", "integer"):
        return field
    number = float(field.replace(",", ".")) if NUMBER.fullmatch(field) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: {field[:40]!r} is not a number; give the number alone")
    whole = schema["type"] == "integer" or field.isdecimal()
    return int(number) if whole and number.is_integer() else number


def _check_sample(row: Sample, where: str) -> None:
    """Check what a schema cannot say in plain words."""
    given = [name for name in VOXEL_SIZE if name in row]
    if given and len(given) < len(VOXEL_SIZE):
        missing = ", ".join(name for name in VOXEL_SIZE if name not in row)
        raise ValueError(f"{where}: {missing} missing: give all three voxel sizes, or none")
    if given and row["voxel_z_um"] < row["voxel_x_um"]:
        raise ValueError(
            f"{where}: voxel_z_um {row['voxel_z_um']} is finer than voxel_x_um "
            f"{row['voxel_x_um']}: check their order and units"
        )
    optics = [name for name in OPTICS if name in row]
    # Beside a model there may be optics: where it is one of every microscope.
    if "experiment" in row and ("model" in row or optics):
        first, *others = [name for name in ("model", "experiment", *optics) if name in row]
        raise ValueError(
            f"{where}: {first} and {', '.join(others)} exclude each other: the {first} has its own "
            "optics"
        )
    if "experiment" not in row and "model" not in row:
        lacking = [name for name in ("NA", "wavelength", "ni") if name not in row]
        if lacking:
            raise ValueError(
                f"{where}: {', '.join(lacking)} missing: give an experiment, a model, "
                "or NA, wavelength (µm) and ni"
            )
    if "NA" in row and row["NA"] > row.get("ni", math.inf):
        raise ValueError(
            f"{where}: NA {row['NA']} is above the immersion index ni {row['ni']}: "
            "no objective can do that"
        )


def _picks(field: str, where: str) -> str:
    """Channels or time points as a command takes them."""
    if NUMBER.fullmatch(field) and float(field.replace(",", ".")).is_integer():
        field = str(int(float(field.replace(",", "."))))  # spreadsheets save 1 as 1.0
    try:
        Picks.parse(field)
    except TenetError as error:
        raise ValueError(f"{where}: {error}") from None
    return field


def checked_path(name: str, where: str, column: str = "file") -> str:
    """Path of a stack, a folder or a model as Snakemake and a command take it.

    A stack may be an image of a file that holds several, as ``cells.lif/Left``.

    Raises
    ------
    ValueError
        If there is no such file, or Snakemake would take the name for something else.
    """
    if re.search(r"[{}<>]|://", name):
        raise ValueError(
            f"{where}: {column}: {name} holds one of {{ }} < > or ://, which Snakemake takes for a "
            "pattern or an address: rename it, or name a link to it"
        )
    path = Path(name)
    try:
        if not (holder(path)[0] if column == "file" else path).exists():
            what = "file or folder" if column == "file" else "model"
            raise ValueError(f"{where}: there is no {what} {name}")
    except OSError as error:
        said = f"{column}: {name[:80]} cannot be opened: {error.strerror}"
        raise ValueError(f"{where}: {said}") from None
    return str(path.absolute() if name.startswith("-") else path)
