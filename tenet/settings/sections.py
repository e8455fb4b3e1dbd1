"""Sections of settings in general: typed, frozen mappings from JSON, checked in one place."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from tenet.errors import TenetError, one_line
from tenet.io.records import parse_json, read_json_object


class Section(BaseModel):
    """A frozen part of a configuration. Unknown keys are errors, and comments are dropped."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


SectionT = TypeVar("SectionT", bound=Section)


def validated(kind: type[SectionT], data: Mapping[str, Any], where: str) -> SectionT:
    """Check a mapping and make it a section.

    Parameters
    ----------
    kind : type
        The section.
    data : mapping
        Values of the section, as JSON has them. Keys with a ``$`` are comments.
    where : str
        Names the mapping in errors.

    Raises
    ------
    TenetError
        If JSON cannot hold the mapping within the limits of `tenet.io.records`, a key is unknown,
        or a value is impossible. The message names the first fault in one line.
    """
    data = without_comments(as_json(data, where))
    _check_keys(kind, data, where)
    try:
        # JSON is read in between, because there a list may stand for a tuple, but "3" is not 3.
        return kind.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise TenetError(f"{where}: {_first(error)}") from None


def read_record(kind: type[SectionT], path: Path) -> SectionT:
    """Read a JSON file that TENET wrote, and check its known keys.

    Other keys are for people, or come from other versions, and are left out.

    Raises
    ------
    TenetError
        As `read_json_object` raises, or if a value is impossible.
    """
    known = {k: v for k, v in read_json_object(path).items() if k in kind.model_fields}
    return validated(kind, known, str(path))


def as_json(data: Any, where: str) -> dict[str, Any]:
    """Values as a JSON file has them: keys are texts, numbers are finite, the depth is bounded."""
    if not isinstance(data, Mapping):
        raise TenetError(f"{where}: a mapping of settings is needed, not {short(repr(data))}")
    try:
        text = json.dumps(dict(data), ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:  # no type of JSON, a circle, half of a
        # pair of UTF-16 units, or an integer too long to be written
        raise TenetError(f"{where}: settings that JSON cannot hold ({one_line(error)})") from None
    parsed: dict[str, Any] = parse_json(text, where=where)
    return parsed


def _first(error: ValidationError) -> str:
    """The first fault of a section: the key, the reason, and the value."""
    first = error.errors(include_url=False)[0]
    key = short(".".join(str(part) for part in first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    given = (
        "" if isinstance(first["input"], dict) else f" (got {short(json.dumps(first['input']))})"
    )
    return f"{key + ': ' if key else ''}{message}{given}"


def _check_keys(kind: type[Section], data: Mapping[str, Any], where: str) -> None:
    """Refuse unknown keys, at any depth, with the nearest right one."""
    for key, value in data.items():
        field = kind.model_fields.get(key)
        if field is None:
            nearest = difflib.get_close_matches(key, kind.model_fields, 1, cutoff=0.5)
            known = ", ".join(kind.model_fields)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {known}"
            raise TenetError(f"{where}: unknown key '{short(key)}'; {hint}")
        section = section_of(field.annotation)
        if section and isinstance(value, Mapping):
            _check_keys(section, value, f"{where}: {key}")


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a field holds, alone or as one of two types."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` over `base`. Mappings are merged key by key; other values are replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def without_comments(value: Any) -> Any:
    """Drop every key with a ``$``, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_comments(item) for key, item in value.items() if "$" not in key}
    return value


def short(text: str, most: int = 80) -> str:
    """Shorten a stranger's text for an error, and escape characters that cannot be printed."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)
