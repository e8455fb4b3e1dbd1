"""Raw data and results are never replaced by what is made of them."""

import os
from pathlib import Path

import pytest

from tenet.errors import TenetError
from tenet.io.outputs import MOST_CHARACTERS, check_outputs, plain_name


@pytest.mark.parametrize("name", ["mouse 1", "Größe", "a.b", "x" * MOST_CHARACTERS, "03"])
def test_names_of_results(name: str) -> None:
    assert plain_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/tmp/x",
        "a/b",
        "a\\b",
        "..",
        ".",
        ".hidden",
        "-o",
        "",
        "  ",
        "a\0b",
        "a\nb",
        "x" * 300,
    ],
)
def test_names_that_lead_elsewhere(name: str) -> None:
    with pytest.raises(TenetError, match="is not the name of a result") as error:
        plain_name(name)
    assert "\n" not in str(error.value)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "raw.ome.tif"
    path.write_bytes(b"raw")
    return path


@pytest.mark.parametrize("way", ["itself", "dots", "symlink", "hard link", "relative"])
def test_an_output_that_is_an_input(raw: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, other = raw.parent, raw.parent / "other.tif"
    if way == "symlink":
        other.symlink_to(raw)
    if way == "hard link":
        os.link(raw, other)
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder)
    output = {"itself": raw, "dots": folder / "sub/../raw.ome.tif", "relative": Path("raw.ome.tif")}
    with pytest.raises(TenetError, match="which it is made of"):
        check_outputs([raw], [folder / "fine.tif", output.get(way, other)])


def test_an_output_inside_or_around_an_input(tmp_path: Path) -> None:
    image = tmp_path / "a.zarr"
    (image / "0").mkdir(parents=True)
    with pytest.raises(TenetError, match="which it is made of"):
        check_outputs([image], [image / "b.ome.tif"])
    with pytest.raises(TenetError, match="would replace a folder that holds"):
        check_outputs([image / "0"], [image])


def test_two_results_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(TenetError, match="two stacks of one name"):
        check_outputs([], [tmp_path / "out/a.tif", tmp_path / "out/../out/a.tif"])


def test_a_folder_that_is_a_file(raw: Path) -> None:
    with pytest.raises(TenetError, match=r"raw\.ome\.tif is a file"):
        check_outputs([], [raw / "deeper/result.tif"])


def test_what_may_be_written(raw: Path) -> None:
    check_outputs([raw], [raw.parent / "raw.tif", raw.parent / "new/folder/raw.ome.tif"])
