"""Small files from strangers end in one line, whatever they hold."""

import os
from pathlib import Path

import pytest

from tenet.errors import TenetError
from tenet.io.records import (
    MOST_DIGITS,
    MOST_LEVELS,
    parse_json,
    read_json,
    read_json_object,
    read_table,
)


def test_what_json_holds_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, -2.5e-3, "\\u00b5m", null, true], "b": {"c": 10}}')
    assert read_json_object(path) == {"a": [1, -2.5e-3, "µm", None, True], "b": {"c": 10}}


@pytest.mark.parametrize("levels", [MOST_LEVELS + 1, 900, 100_000])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused(levels: int, brackets: tuple[str, str]) -> None:
    opening, closing = brackets
    with pytest.raises(TenetError, match=rf"^x: nested more than {MOST_LEVELS} levels deep"):
        parse_json(opening * levels + "1" + closing * levels, where="x")


def test_the_deepest_nesting_is_read() -> None:
    parse_json("[" * MOST_LEVELS + "1" + "]" * MOST_LEVELS, where="x")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1" * (MOST_DIGITS + 1), "digits"),
        ("-" + "9" * 400, "digits"),
        ("9" * 5000, "digits"),
        ("1e999", "beyond the range"),
        ("NaN", "NaN is not a number"),
        ('{"a": -Infinity}', "-Infinity is not a number"),
        ('{"a": ', "is not JSON"),
        ("", "is not JSON"),
    ],
)
def test_numbers_and_grammar(text: str, reason: str) -> None:
    with pytest.raises(TenetError, match=reason) as error:
        parse_json(text, where="x.json")
    assert str(error.value).startswith("x.json")
    assert len(str(error.value)) < 250
    assert "\n" not in str(error.value)


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "text").write_bytes(b"\xff\xfe{\x00")
    (tmp_path / "list").write_text("[1]")
    sparse = tmp_path / "large"
    with sparse.open("wb") as file:
        file.truncate(2**33)
    reasons = {
        "pipe": "a device or a pipe",
        "loop": "cannot be opened",
        "text": "no text in UTF-8",
        "list": "a JSON object is needed, and it holds a list",
        "large": "the file has 8192 MiB",
        "missing": "no such file",
        ".": "this is a folder",
        "n" * 300: "cannot be opened",
        "a\0b": "cannot be opened",
    }
    for name, reason in reasons.items():
        with pytest.raises(TenetError, match=reason) as error:
            read_json_object(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(TenetError, match="a device or a pipe"):
        read_json(Path("/dev/zero"))


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "rois.csv"
    path.write_text("roi,image,z,note\n0,3,1.5,a\n1,4,-2,\n")
    table = read_table(path, ("note",), numbers=("roi", "z"))
    assert list(table["z"]) == [1.5, -2]
    for text, reason in {
        "": "no CSV table",
        ",".join(["z"] * 200_000) + "\n1\n": "more than 1000 columns",
        "roi,z,note\n": "has no rows; its columns are roi, z, note",
        "roi,note\n1,a\n": "lacks the columns z",
        "roi,z,note\n1,2,a\n2,deep,b\n": "row 2 has 'deep' under z",
        "roi,z,note\n0,2,5,a\n1,2,5,a\n": "more fields than its header",
        "roi,z,note\n7,2,5,a\n7,2,5,a\n7,3,6,b\n": "more fields than its header",
        "roi,z,note\n1,,a\n": "row 1 has 'nan' under z",
        f"roi,z,note\n1,{'9' * 400},a\n": "row 1 has '9999",
        "roi,z,note\n1,inf,a\n": "row 1 has 'inf' under z",
        'roi,z,note\n1,2,"a\n': "no CSV table",
        "roi,z,note\n1,2,a\n1,2,3,4,5\n": "no CSV table",
    }.items():
        path.write_text(text)
        with pytest.raises(TenetError, match=reason) as error:
            read_table(path, ("note",), numbers=("roi", "z"))
        assert "\n" not in str(error.value)
    path.write_text("roi\n3\n0.5\n")
    with pytest.raises(TenetError, match=r"row 2 has '0.5' under roi, where a whole number must"):
        read_table(path, whole=("roi",))


def test_a_file_a_little_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b" " * 5 * 2**16)
    with pytest.raises(TenetError, match=r"has 0\.3125 MiB, and .* at most 0\.25 MiB; check"):
        read_json_object(path, most_bytes=2**18)
