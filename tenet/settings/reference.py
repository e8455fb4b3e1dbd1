"""The reference of all settings, in Markdown, from their schema."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic.fields import FieldInfo

from tenet.settings.published import PublishedExperiment
from tenet.settings.schema import Experiment
from tenet.settings.sections import Section, section_of

HEADER = """\
# Configuration

An experiment is a JSON file. `tenet config list` lists the experiments, `tenet config show NAME`
prints one with all that it extends, and `tenet config show NAME --origin` says where each value
comes from. A command takes the name of an experiment, or the path of a JSON file.

- `"extends": "default"` starts from another file, or from a list of files of which the last one
  wins. A name is looked up in the folder of the file, and then among the experiments that are
  installed with TENET.
- `--overlay demo` lays a file over the experiment. An overlay may hold `by_scale` and
  `by_experiment`: settings for experiments of one scale, or for one experiment. Of the files that
  its `leave_out` names an experiment has only what they extend: `--overlay as_published`.
- `--set params.NA=0.8` sets one value. The key is the section, a dot, and the key in the section.
- A key with a `$` is a comment.
- A key that is unknown, or a value that is impossible, ends the command with one line.

A key that a file omits has the default below, which is what the published code did. The
experiment `default` holds the settings that are recommended on top of that.

`tenet config reference` prints this page from the schema.
"""


FOOTER = """\
## Keys of published files

These keys of published files have no effect here. They are read; a command that meets one with a
value that asks for something else names it in a note, and nothing that is computed depends on it.

| section | keys |
|---|---|
"""


def reference() -> str:
    """Every setting with its type, range, default, meaning and unit."""
    return "\n".join([HEADER, *_section([""], Experiment), FOOTER + _idle()])


def _section(paths: Sequence[str], kind: type[Section]) -> Iterator[str]:
    """A section, which may stand at several places, and then its own sections."""
    schema = kind.model_json_schema()
    title = ", ".join(f"`{path}`" if path else "An experiment" for path in paths)
    yield f"## {title}\n\n{_summary(kind)}\n"
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    inner: dict[type[Section], list[str]] = {}
    for key, field in kind.model_fields.items():
        part = section_of(field.annotation)
        if part:
            inner.setdefault(part, []).append(f"{paths[0]}.{key}".removeprefix("."))
        values = "section" if part else _values(schema["properties"][key])
        rows.append(f"| `{key}` | {values} | {_default(field)} | {field.description} |")
    yield "\n".join(rows) + "\n"
    for part, places in inner.items():
        yield from _section(places, part)


def _idle() -> str:
    return "".join(
        f"| `{section}` | {', '.join(f'`{key}`' for key in part.model_fields)} |\n"
        for section, field in PublishedExperiment.model_fields.items()
        if (part := section_of(field.annotation))
    )


def _summary(kind: type[Section]) -> str:
    """The docstring of a section, without its own name."""
    text = " ".join((kind.__doc__ or "").split())
    name, colon, rest = text.partition(": ")
    return rest[:1].upper() + rest[1:] if colon and name.startswith("`") else text


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return str((field.examples or ["**needed**"])[0])
    if isinstance(field.default, Section):
        needed = any(own.is_required() for own in type(field.default).model_fields.values())
        own = field.default.model_dump(mode="json", exclude_defaults=not needed)
        return f"`{json.dumps(own)}`" if own else ""
    return f"`{json.dumps(field.default)}`"


def _values(schema: Mapping[str, Any]) -> str:
    """The values that a JSON schema allows, in a few words."""
    if "anyOf" in schema:
        return " or ".join(map(_values, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        choices = schema.get("enum") or [schema["const"]]
        return ", ".join(f"`{json.dumps(choice)}`" for choice in choices)
    kind = str(schema.get("type"))
    if kind == "array":
        items = schema.get("prefixItems")
        if items:
            return f"{len(items)} × {_values(items[0])}"
        return f"list of {_values(schema['items'])}"
    names = {"boolean": "`true`, `false`", "string": "text", "null": "`null`"}
    return names.get(kind) or f"{kind} {_range(schema)}".strip()


def _range(schema: Mapping[str, Any]) -> str:
    bounds = (
        ("minimum", "≥"),
        ("exclusiveMinimum", ">"),
        ("maximum", "≤"),
        ("exclusiveMaximum", "<"),
    )
    return ", ".join(f"{sign} {schema[key]:g}" for key, sign in bounds if key in schema)
