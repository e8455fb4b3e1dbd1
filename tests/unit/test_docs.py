"""README and docs say what is there: commands, options, paths, names and links exist."""

import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from tenet.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "config/README.md",
    ROOT / "benchmarks/README.md",
]
#: Folders whose files a page may name, unless a part of the name stands for the reader's own.
FOLDERS = "tenet|workflow|tests|benchmarks|config|notebooks|resources|profiles|envs|docs"
OWN = re.compile(r"yours|mine|NAME|<|\{|…|zenodo")
COMMAND = typer.main.get_command(app)

over_pages = pytest.mark.parametrize(
    "page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES]
)


def code_spans(text: str) -> Iterator[str]:
    """What stands between single backticks, outside of blocks."""
    outside = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", outside))


def commands(text: str) -> Iterator[list[str]]:
    """Words of each `tenet` command, in blocks and between backticks."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line.split(" #")[0].strip() for line in joined.splitlines()]
    for line in [*lines, *code_spans(text)]:
        found = re.match(r"(?:python -m )?tenet ([a-z].*)", line)
        if found and "`" not in line:
            yield shlex.split(found[1])


def unknown_words(words: list[str]) -> list[str]:
    """Words of a command that name no command or no option of it."""
    command, rest = COMMAND, list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        found = command.commands.get(name)
        if found is None:
            return [name]
        command = found
    options = {option for parameter in command.params for option in parameter.opts}
    options |= {option for parameter in command.params for option in parameter.secondary_opts}
    return [word for word in rest if re.match(r"--\w", word) and word not in options | {"--help"}]


@over_pages
def test_commands_and_their_options_exist(page: Path) -> None:
    wrong = {" ".join(w): bad for w in commands(page.read_text()) if (bad := unknown_words(w))}
    assert wrong == {}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"])
def test_paths_exist(page: Path) -> None:
    for span in code_spans(page.read_text()):
        if re.match(rf"({FOLDERS})/[\w./*-]*$", span) and not OWN.search(span):
            assert list(ROOT.glob(span.rstrip("/"))), span


@over_pages
def test_names_of_modules_exist(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"(?:`|::: |from |import )(tenet(?:\.\w+)+)", text):
        pkgutil.resolve_name(name)


@over_pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@over_pages
def test_targets_of_make_exist(page: Path) -> None:
    rules = re.findall(r"^([a-z0-9_ -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = {target for rule in rules for target in rule.split()}
    named = set(
        re.findall(r"(?:^|`)make (?:[A-Z]+=\S+ )*([a-z0-9_-]+)", page.read_text(), re.MULTILINE)
    )
    assert named <= targets


@over_pages
def test_pages_name_no_commit(page: Path) -> None:
    words = re.findall(r"\b[0-9a-f]{7,40}\b", page.read_text())
    assert not [word for word in words if re.search(r"[a-f]", word) and re.search(r"\d", word)]


def test_the_readme_is_short_and_begins_with_what_to_type() -> None:
    text = (ROOT / "README.md").read_text()
    assert 600 <= len(text.split()) <= 900
    assert any(line.startswith("```bash") for line in text.splitlines()[:40])


def test_the_checks_see_what_they_look_for() -> None:
    text = (
        "```bash\ntenet enhance a.tif --model m \\\n    --nothing 1  # why\n```\n`tenet enhanc x`\n"
    )
    assert [unknown_words(words) for words in commands(text)] == [["--nothing"], ["enhanc"]]
    assert list(code_spans(text)) == ["tenet enhanc x"]
