"""The list of formats: the page that is printed from it, and what each entry opens."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tenet.io.formats import FORMATS, LISTED, STACK_SUFFIX, TO_EXPORT, format_of_file, table

PAGE = Path(__file__).parents[3] / "docs/formats.md"


def test_the_page_shows_the_table() -> None:
    """After a change: `python -m tenet.io.formats`, and its lines in place of those of the page."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert "\n".join(line for line in lines if line.startswith("|")) == table()
    done = subprocess.run(
        [sys.executable, "-m", "tenet.io.formats"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == table()


def test_each_file_has_one_format() -> None:
    suffixes = [suffix for known in FORMATS for suffix in known.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert not set(suffixes) & set(TO_EXPORT)
    for known in FORMATS:
        for suffix in known.suffixes:
            assert format_of_file(Path(f"A{suffix.upper()}")) is known
            assert STACK_SUFFIX.sub("", f"a.b{suffix}") == "a.b"
            assert (suffix in LISTED) == known.listed


@pytest.mark.parametrize("suffix", TO_EXPORT)
def test_the_page_names_what_has_to_be_exported(suffix: str) -> None:
    exported = PAGE.read_text(encoding="utf-8").partition("## What has to be exported")[2]
    assert suffix[1:].upper() in exported


def test_the_page_names_each_library_that_is_installed_by_the_extra() -> None:
    project = tomllib.loads((PAGE.parents[1] / "pyproject.toml").read_text())["project"]
    libraries = {
        requirement.partition("~")[0].partition("=")[0]
        for requirement in project["optional-dependencies"]["formats"]
    }
    named = {
        known.reader.rpartition(" ")[2]
        for known in FORMATS
        if known.reader.startswith("`[formats]`")
    }
    assert named == libraries
