"""Which stacks there are, which a fold leaves out, and whether their voxels suit."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tenet.data.folds import (
    every_stack,
    image_number,
    images_of,
    named_stacks,
    outside_fold,
    split_for_validation,
)
from tenet.errors import TenetError
from tenet.io.folders import stack_files, stack_name, voxel_size_of
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.io.writing import write_ome_tiff
from tenet.settings.own_stack import voxel_size_mismatch
from tenet.settings.schema import parse_params

ROIS = "roi,image,z,y,x,fold\n0,0,1,2,2,0\n1,1,1,2,2,1\n2,1,1,3,3,0\n3,7,1,2,2,1\n"
VOXELS = (0.4, 0.1, 0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images 0, 1 and 2; the table knows 0, 1 and 7."""
    (tmp_path / "data").mkdir()
    for i in range(3):
        image = np.random.default_rng(i).random((2, 4, 4), np.float32)
        write_ome_tiff(tmp_path / f"data/{i:02}.ome.tif", image, VOXELS)
    (tmp_path / "rois.csv").write_text(ROIS)
    return tmp_path


def names(stacks: list[Stack]) -> list[str]:
    return [stack.path.name for stack in stacks]


def test_stack_files_are_listed_once(tmp_path: Path) -> None:
    with pytest.raises(TenetError, match="no stack"):
        stack_files(tmp_path)
    for name in ("b.tif", "a.npy", "notes.txt", ".hidden.tif"):
        (tmp_path / name).touch()
    assert [p.name for p in stack_files(tmp_path)] == ["a.npy", "b.tif"]
    (tmp_path / "a.ome.tif").touch()
    with pytest.raises(TenetError, match="called a"):
        stack_files(tmp_path)
    with pytest.raises(TenetError, match="no such"):
        stack_files(tmp_path / "nowhere")


def test_every_stack_of_a_folder_or_of_its_folders_has_its_result(folder: Path) -> None:
    data, out = folder / "data", folder / "out"
    assert [target for _, target in every_stack(data, out)] == [
        out / f"{i:02}.ome.tif" for i in range(3)
    ]
    assert names([s for s, _ in every_stack(data, out, folder / "rois.csv")]) == [
        "00.ome.tif",
        "01.ome.tif",
    ]
    inner = data / "fold0"
    inner.mkdir()
    (data / "02.ome.tif").rename(inner / "02.ome.tif")
    with pytest.raises(TenetError, match=r"data holds stacks \(00.ome.tif, …\) beside folders"):
        every_stack(data, out)
    for beside in stack_files(data):
        beside.unlink()
    ((stack, target),) = every_stack(data, out)
    assert (stack.path, target) == (inner / "02.ome.tif", out / "fold0/02.ome.tif")
    with pytest.raises(TenetError, match="none of the images"):
        every_stack(data, out, folder / "rois.csv")
    with pytest.raises(TenetError, match="not a folder"):
        every_stack(folder / "rois.csv", out)


def test_results_inside_of_a_folder_are_no_stacks_of_it(folder: Path) -> None:
    data = folder / "data"
    out = data / "enhanced"
    before = every_stack(data, out)
    out.mkdir()
    shutil.copyfile(data / "00.ome.tif", out / "00.ome.tif")
    assert [target for _, target in every_stack(data, out)] == [target for _, target in before]


def test_images_of_a_fold(folder: Path) -> None:
    rois = folder / "rois.csv"
    assert images_of(rois, None) == {0, 1, 7}
    assert images_of(rois, 0) == {0, 1}
    assert images_of(rois, 1) == {1, 7}
    with pytest.raises(TenetError, match=r"no fold 2; it has \[0, 1\]"):
        images_of(rois, 2)
    rois.write_text("a,b\n1,2\n")
    with pytest.raises(TenetError, match="lacks the columns image, fold"):
        images_of(rois, 0)


def test_the_model_of_a_fold_sees_no_image_of_it(folder: Path) -> None:
    rois = folder / "rois.csv"
    stacks = [open_stack(path) for path in stack_files(folder / "data")]
    assert outside_fold(stacks, None, rois) == stacks
    assert names(outside_fold(stacks, 0, rois)) == ["02.ome.tif"]
    assert names(outside_fold(stacks, 1, rois)) == ["00.ome.tif", "02.ome.tif"]
    assert names(outside_fold(stacks, 1, None, ("00", "2"))) == ["01.ome.tif"]
    assert names(outside_fold(stacks, 1, rois, ("0",))) == ["02.ome.tif"]
    assert names(outside_fold(stacks, None, rois, ("0",))) == ["01.ome.tif", "02.ome.tif"]
    assert names(outside_fold(stacks, None, None, ("0",))) == ["01.ome.tif", "02.ome.tif"]
    with pytest.raises(TenetError, match="--fold needs --rois"):
        outside_fold(stacks, 1, None)
    with pytest.raises(TenetError, match="leaves no stack"):
        outside_fold(stacks[:2], 0, rois)
    with pytest.raises(TenetError, match="test images leave no stack"):
        outside_fold(stacks[:1], None, None, ("0",))


def test_test_images_are_named_by_file_stem_or_number(tmp_path: Path) -> None:
    for name in ("beads_03.tif", "07.npy", "3d.tif", "image12.ome.tif"):
        np.save(tmp_path / "array.npy", np.zeros((2, 4, 4), np.float32))
        if name.endswith(".npy"):
            np.save(tmp_path / name, np.zeros((2, 4, 4), np.float32))
        else:
            write_ome_tiff(tmp_path / name, np.zeros((2, 4, 4), np.float32), VOXELS)
    (tmp_path / "array.npy").unlink()
    stacks = [open_stack(path) for path in stack_files(tmp_path)]
    for name, file in {
        "beads_03.tif": "beads_03.tif",
        "beads_03": "beads_03.tif",
        "3": "beads_03.tif",
        "03": "beads_03.tif",
        "7": "07.npy",
        "07": "07.npy",
        "3d": "3d.tif",
        "image12": "image12.ome.tif",
        "12": "image12.ome.tif",
    }.items():
        assert {path.name for path in named_stacks(stacks, [name])} == {file}
    for name in ("beads", "4", "", "beads_3"):
        with pytest.raises(TenetError, match=rf"'{name}' is none of the stacks \(07, 3d, beads_03"):
            named_stacks(stacks, [name])


def test_validation_takes_stacks_of_its_own_where_there_are_enough(folder: Path) -> None:
    few = [open_stack(path) for path in stack_files(folder / "data")]
    assert split_for_validation(few, 0.2) == (few, few)
    for i in range(3, 10):
        write_ome_tiff(folder / f"data/{i:02}.ome.tif", np.zeros((2, 4, 4), np.float32), VOXELS)
    stacks = [open_stack(path) for path in stack_files(folder / "data")]
    training, validation = split_for_validation(stacks, 0.2)
    assert names(validation) == ["02.ome.tif", "07.ome.tif"]
    assert len(training) == 8
    assert not set(names(training)) & set(names(validation))
    assert [len(part) for part in split_for_validation(stacks[:5], 0.01)] == [4, 1]
    assert split_for_validation(stacks, 0) == (stacks, stacks)


def test_number_of_an_image_ends_its_name() -> None:
    assert image_number(Path("x/beads_2_07.ome.tif")) == 7
    with pytest.raises(TenetError, match="number of the image"):
        image_number(Path("07_beads.tif"))


def test_voxel_size_is_the_given_one_or_the_files(folder: Path) -> None:
    stack = open_stack(folder / "data/00.ome.tif")
    assert voxel_size_of(stack) == pytest.approx(VOXELS)
    assert voxel_size_of(stack, (1, 0.5, 0.5)) == (1, 0.5, 0.5)
    with pytest.raises(TenetError, match="above 0"):
        voxel_size_of(stack, (1, 0, 0.5))
    with pytest.raises(TenetError, match="order Z Y X"):
        voxel_size_of(stack, (0.1, 0.1, 0.4))


def test_voxel_size_other_than_the_models_is_noticed() -> None:
    optics = {"NA": 0.7, "wavelength": 0.9, "scale": 4}
    params = parse_params({**optics, "res_lateral": 0.1, "res_axial": 0.4})
    assert params.coarse_voxel_size_um == VOXELS
    assert voxel_size_mismatch(params, (0.4, 0.101, 0.1)) is None
    assert "0.4 × 0.2 × 0.2" in str(voxel_size_mismatch(params, (0.4, 0.2, 0.2)))


def test_a_fold_without_its_table_is_an_error(folder: Path) -> None:
    with pytest.raises(TenetError, match="--fold needs --rois"):
        every_stack(folder / "data", folder / "out", fold=1)


@pytest.mark.parametrize(
    ("path", "name", "number"),
    [
        ("x/03.ome.tif", "03", 3),
        ("03.OME.TIF", "03", 3),
        ("Cell 7.TIFF", "Cell 7", 7),
        ("03.Npy", "03", 3),
        ("03.ND2", "03", 3),
        ("03.zarr", "03", 3),
        ("03.ome.zarr/", "03", 3),
        ("03.OME.ZARR.ZIP", "03", 3),
        ("03.ozx", "03", 3),
        ("x/03.zarr/1", "03_1", 3),
        ("x/03.ome.zarr/A/2", "03_A_2", 3),
        ("x/03.zarr/1/..", "03", 3),
        ("a.tif.tif", "a.tif", None),
        ("x.zarr/03.tif", "03", 3),
    ],
)
def test_name_of_a_stack_has_no_suffix(path: str, name: str, number: int | None) -> None:
    assert stack_name(Path(path)) == name
    if number is not None:
        assert image_number(Path(path)) == number


def test_name_of_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cell.zarr").mkdir()
    monkeypatch.chdir(tmp_path / "cell.zarr")
    assert stack_name(Path(".")) == "cell"


def test_a_voxel_size_in_another_unit_is_refused(folder: Path) -> None:
    stack = open_stack(folder / "data/00.ome.tif")
    with pytest.raises(TenetError, match=r"is it nm\? then give 1 0.31 0.31"):
        voxel_size_of(stack, (1000, 310, 310))
    path = folder / "small.ome.tif"
    write_ome_tiff(path, np.zeros((2, 4, 4), np.float32), (0.001, 0.00031, 0.00031))
    with pytest.raises(TenetError, match=r"is it mm\? then give 1 0.31 0.31"):
        voxel_size_of(open_stack(path))
    np.save(folder / "none.npy", np.ones((2, 3, 4)))
    with pytest.raises(TenetError, match=r"none.npy does not say its voxel size: give"):
        voxel_size_of(open_stack(folder / "none.npy"))
