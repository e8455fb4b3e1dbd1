"""Raw data and results are never replaced by what is made of them."""

import os
import socket
from pathlib import Path

import pytest

from tenet.errors import TenetError
from tenet.io.atomic import replacing
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
    with pytest.raises(TenetError, match="would replace its source"):
        check_outputs([raw], [folder / "fine.tif", output.get(way, other)])


def test_an_output_inside_or_around_an_input(tmp_path: Path) -> None:
    image = tmp_path / "a.zarr"
    (image / "0").mkdir(parents=True)
    with pytest.raises(TenetError, match="would replace its source"):
        check_outputs([image], [image / "b.ome.tif"])
    with pytest.raises(TenetError, match="would replace a folder that holds"):
        check_outputs([image / "0"], [image])


def test_two_results_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(TenetError, match="two stacks of one name"):
        check_outputs([], [tmp_path / "out/a.tif", tmp_path / "out/../out/a.tif"])


def test_a_folder_that_is_a_file(raw: Path) -> None:
    with pytest.raises(TenetError, match=r"raw\.ome\.tif is no folder"):
        check_outputs([], [raw / "deeper/result.tif"])


@pytest.mark.parametrize("kind", ["loop", "dangling"])
def test_a_folder_that_is_a_link_to_nowhere(tmp_path: Path, kind: str) -> None:
    (tmp_path / kind).symlink_to({"loop": "loop", "dangling": "nowhere/x"}[kind])
    with pytest.raises(TenetError, match=f"{kind} is no folder"):
        check_outputs([], [tmp_path / kind / "result.tif"])


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["y" * 200] * 25)], ids=["name", "path"])
def test_a_folder_whose_name_is_too_long_is_left_to_who_makes_it(tmp_path: Path, name: str) -> None:
    check_outputs([], [tmp_path / name / "result.tif"])
    with (
        pytest.raises(TenetError, match="File name too long"),
        replacing(tmp_path / name / "result.tif"),
    ):
        pass


def _make(kind: str, path: Path) -> None:
    if kind == "folder":
        path.mkdir()
        (path / "kept").touch()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:  # a link, as /dev/stdout is one
        path.symlink_to("/dev/null")


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "link to a device"])
def test_what_no_result_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    path = Path("taken")
    _make(kind, path)
    before = path.lstat()
    said = "a folder has this name" if kind == "folder" else "a device, pipe or socket has"
    with pytest.raises(TenetError, match=said):
        check_outputs([], [path])
    with pytest.raises(TenetError, match=said), replacing(path):
        pass
    assert path.lstat() == before
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("path", [".", "..", "/"])
def test_a_folder_is_no_name_of_a_file(path: str) -> None:
    with pytest.raises(TenetError, match="a folder has this name"), replacing(Path(path)):
        pass


def test_a_file_where_an_ome_zarr_is_to_be(tmp_path: Path) -> None:
    (tmp_path / "x.ome.zarr").touch()
    with pytest.raises(TenetError, match="a file has this name"):
        check_outputs([], [tmp_path / "x.ome.zarr"])


def test_what_may_be_written(raw: Path) -> None:
    check_outputs([raw], [raw.parent / "raw.tif", raw.parent / "new/folder/raw.ome.tif"])
