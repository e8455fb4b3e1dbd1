"""Which channels and time points of a file are read."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.picks import Parts, Picks, every_part
from tenet.io.writing import write_ome_tiff

TCZYX = (4, 2, 6, 20, 30)


@pytest.fixture
def scene() -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 4000, TCZYX).astype(np.uint16)


def write(path: Path, scene: NDArray[np.uint16]) -> Path:
    """A file of T, C, Z, Y, X in the format of its suffix; ImageJ and OME order Z before C."""
    if path.suffix == ".zarr":
        array = zarr.create_array(path, data=scene, dimension_names=["t", "c", "z", "y", "x"])
        assert array.shape == TCZYX
    elif path.name.endswith("imagej.tif"):
        tifffile.imwrite(path, scene.swapaxes(1, 2), imagej=True, metadata={"axes": "TZCYX"})
    else:
        compression = "zlib" if "packed" in path.name else None
        options = {"photometric": "minisblack", "metadata": {"axes": "TCZYX"}}
        tifffile.imwrite(path, scene, compression=compression, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("name", ["a.zarr", "a.ome.tif", "packed.ome.tif", "imagej.tif"])
def test_every_channel_and_time_point_is_a_stack(
    tmp_path: Path, scene: NDArray[np.uint16], name: str
) -> None:
    path = write(tmp_path / name, scene)
    np.testing.assert_array_equal(open_stack(path, channel=1, time=2).read(), scene[2, 1])
    stacks = Parts(Picks.parse("all"), Picks.parse("1:")).open(path)
    assert [stack.part for stack in stacks] == [
        "_c0_t001", "_c0_t002", "_c0_t003", "_c1_t001", "_c1_t002", "_c1_t003",
    ]  # fmt: skip
    for stack, (channel, time) in zip(stacks, np.ndindex(2, 3), strict=True):
        np.testing.assert_array_equal(stack.read(), scene[time + 1, channel])
    assert stacks[4].label == f"{path} c1 t002"
    assert len({stack.digest for stack in stacks}) == len(set(stacks)) == 6


def test_a_number_alone_gives_no_stack_another_name(
    tmp_path: Path, scene: NDArray[np.uint16]
) -> None:
    path = write(tmp_path / "a.ome.tif", scene)
    (stack,) = Parts(Picks.parse("1"), Picks.parse("3")).open(path)
    assert (stack.part, stack.label) == ("", str(path))
    np.testing.assert_array_equal(stack.read(), scene[3, 1])
    stacks = Parts(Picks.parse("1"), Picks.parse("0+3")).open(path)
    assert [stack.part for stack in stacks] == ["_t000", "_t003"]
    np.testing.assert_array_equal(stacks[1].read(), scene[3, 1])


def test_all_of_a_file_with_one_stack_is_that_stack(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((6, 20, 20), np.float32)
    for number in range(2):
        write_ome_tiff(tmp_path / f"{number}.ome.tif", image, (1.0, 0.3, 0.3))
    stacks = every_part([tmp_path], Parts(Picks.parse("all")))
    assert [(stack.path.name, stack.part) for stack in stacks] == [
        ("0.ome.tif", "_c0"),
        ("1.ome.tif", "_c0"),
    ]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("all", [0, 1, 2, 3, 4]),
        (" ALL ", [0, 1, 2, 3, 4]),
        ("3", [3]),
        ("0+2", [0, 2]),
        ("2+0+0", [0, 2]),
        ("0:2", [0, 1]),
        ("3:", [3, 4]),
        ("0:2 + 4", [0, 1, 4]),
    ],
)
def test_numbers_that_are_meant(text: str, numbers: list[int]) -> None:
    picks = Picks.parse(text)
    assert picks.numbers(5) == numbers
    assert picks.single == (text == "3")


@pytest.mark.parametrize("text", ["", "none", "-1", "1.5", "1-3", ":3", "0,1", "1++2", "9" * 5000])
def test_what_names_no_channel_is_refused(text: str) -> None:
    with pytest.raises(TenetError, match="is none of: all, a number") as error:
        Picks.parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("channels", "times", "said"),
    [
        ("2", "0", "there is no channel 2; choose one, 0 to 1"),
        ("0+2", "0", "channels: there is no 2; it has 0 to 1"),
        ("all", "2:9", "time points: there is no 2:9; it has 0 to 3"),
        ("all", "2:2", "time points: there is no 2:2"),
        ("all", "9:", "there is no time point 9"),
        ("all", None, "4 time points; choose one, 0 to 3"),
        (None, "all", "2 channels; choose one, 0 to 1"),
    ],
)
def test_what_a_file_lacks_is_told(
    tmp_path: Path, scene: NDArray[np.uint16], channels: str | None, times: str | None, said: str
) -> None:
    path = write(tmp_path / "a.ome.tif", scene)
    picked = [None if text is None else Picks.parse(text) for text in (channels, times)]
    with pytest.raises(TenetError, match=said) as error:
        Parts(*picked).open(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
