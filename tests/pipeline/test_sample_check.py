"""A stack that cannot be learned from is refused before anything is trained."""

import json
import subprocess
import sys

import numpy as np
import pytest
from support import ROOT, copy_repository, snakemake
from test_workflow import COMMAND_LINE, jobs
from tifffile import imwrite

from tenet.settings.load import load_experiment
from workflow.lib.sample_fit import fitted_experiment

NAMED = {"experiment": "scale3"}
OPTICS = {"NA": 0.8, "wavelength": 0.92, "ni": 1.33}
VOXEL = {"voxel_z_um": 1.0, "voxel_y_um": 0.31, "voxel_x_um": 0.31}


def stack(path, shape=(60, 80, 80), **options):
    image = np.random.default_rng(0).integers(90, 4000, shape, dtype=np.uint16)
    imwrite(path, image, **options)
    return path


def row(path, *parts):
    merged = {"name": "mine", "file": str(path), "where": "samples.tsv, line 7 (mine)"}
    for part in parts:
        merged |= part
    return merged


def fitted(path, *parts):
    asked = row(path, *parts)
    return fitted_experiment(asked, load_experiment(asked.get("experiment", "sample")))


@pytest.mark.parametrize("kind", [NAMED, OPTICS])
@pytest.mark.parametrize(
    ("shape", "options", "given", "message"),
    [
        ((60, 80, 80), {}, {}, "give --voxel-size Z Y X in µm .*in the sample table"),
        ((60, 80, 80), {}, dict.fromkeys(VOXEL, 310.0), "is it nm"),
        ((60, 80, 80), {}, {**VOXEL, "voxel_y_um": 0.62}, "not square|does not fit"),
        ((7, 80, 80), {}, VOXEL, "7 planes of 80 × 80 pixels are too few"),
        ((60, 5, 80), {}, VOXEL, "60 planes of 5 × 80 pixels are too few"),
        ((60, 80, 80), {}, {**VOXEL, "channel": "1"}, "there is no channel 1"),
        ((30, 2, 80, 80), {"imagej": True}, VOXEL, "it has 2 channels; choose one"),
        (
            (30, 80, 80),
            {"imagej": True, "metadata": {"axes": "TYX"}},
            VOXEL,
            "this is a time series",
        ),
        ((80, 80), {}, VOXEL, "single two-dimensional image"),
    ],
)
def test_what_a_header_shows_is_refused_with_the_line_of_the_table(
    tmp_path, kind, shape, options, given, message
):
    path = stack(tmp_path / "x.tif", shape, **options)
    with pytest.raises(ValueError, match=message) as error:
        fitted(path, kind, given)
    assert str(error.value).startswith(f"samples.tsv, line 7 (mine): {path}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"II*\x00\x00\x00"])
def test_what_is_no_stack_is_refused_with_the_line_of_the_table(tmp_path, content):
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(ValueError, match=r"^samples.tsv, line 7 \(mine\): .*x\.tif"):
        fitted(tmp_path / "x.tif", VOXEL, OPTICS)


def test_an_experiment_for_other_voxels_is_refused(tmp_path):
    path = stack(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"line 7.*experiment scale3 does not fit.*2 × 0.5 × 0.5"):
        fitted(path, NAMED, {"voxel_z_um": 2, "voxel_y_um": 0.5, "voxel_x_um": 0.5})


def test_crops_fit_a_stack_of_few_planes(tmp_path):
    path = stack(tmp_path / "x.tif", (32, 80, 80))
    for kind in (NAMED, OPTICS):
        crop = fitted(path, kind, VOXEL).train_dataset.cropsize
        assert crop[0] <= 32 * 3
        assert crop[0] >= 24 * 3
        assert max(crop[1:]) <= 80


def test_planning_imports_no_pytorch():
    code = (
        "import sys; from workflow.lib import figures, models, phantoms, samples, stacks, tracking;"
        "assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# Intensities --------------------------------------------------------------------------------------


def check(folder, image, normalisation="percentile"):
    imwrite(folder / "x.tif", image)
    command = [sys.executable, ROOT / "workflow/scripts/sample_check.py", folder / "x.tif"]
    command += ["--normalisation", normalisation, "--voxel-size", "1", "1", "1"]
    return subprocess.run(
        [*command, "--out", folder / "stack.json"], capture_output=True, text=True, cwd=folder
    )


def spoiled(value):
    image = np.random.default_rng(0).random((8, 16, 16), dtype=np.float32)
    image[5, 3, 2] = value
    return image


@pytest.mark.parametrize(
    ("image", "normalisation", "message"),
    [
        (np.full((8, 16, 16), np.nan, np.float32), "percentile", "every intensity is NaN"),
        (spoiled(np.inf), "none", "plane 5"),
        (np.full((8, 16, 16), 7, np.uint8), "percentile", "all"),
        (spoiled(300), "none", "must lie in 0 to 1"),
    ],
)
def test_intensities_that_are_no_image_are_refused(tmp_path, image, normalisation, message):
    done = check(tmp_path, image, normalisation)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "stack.json").exists()


def test_the_range_of_a_good_stack_is_recorded(tmp_path):
    assert check(tmp_path, spoiled(0.5)).returncode == 0
    record = json.loads((tmp_path / "stack.json").read_text())["x.tif"]
    assert record["zyx_shape"] == [8, 16, 16]
    assert 0 <= record["low"] < record["high"] <= 1


# The pipeline -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return copy_repository(tmp_path_factory.mktemp("samples"))


def plan(repository, table, *names):
    (repository / "samples.tsv").write_text(table)
    targets = [f"results/enhanced/{name}.ome.tif" for name in names]
    options = ("--dry-run", "--config", "samples=samples.tsv", 'sample={pretrained: ""}')
    return snakemake(repository, *targets, *options, check=False)


@pytest.mark.pipeline
def test_a_dry_run_refuses_a_bad_stack_and_other_samples_are_left_alone(repository):
    stack(repository / "good.tif")
    stack(repository / "thin.tif", (5, 80, 80))
    table = (
        "name\tfile\texperiment\tvoxel_z_um\tvoxel_y_um\tvoxel_x_um\tNA\twavelength\tni\n"
        "good\tgood.tif\tscale3\t1\t0.31\t0.31\n"
        "thin\tthin.tif\tscale3\t1\t0.31\t0.31\n"
        "own\tthin.tif\t\t1\t0.31\t0.31\t0.8\t0.92\t1.33\n"
    )
    assert "sample_check" in plan(repository, table, "good")
    for name, line in {"thin": 3, "own": 4}.items():
        output = plan(repository, table, "good", name)
        said = (
            f"samples.tsv, line {line} ({name}): thin.tif: 5 planes of 80 × 80 pixels are too few"
        )
        assert said in output
        assert "Job stats" not in output
        assert "Traceback" not in output


@pytest.mark.pipeline
def test_an_unknown_experiment_is_told_with_its_line(repository):
    stack(repository / "good.tif")
    output = plan(repository, "name\tfile\texperiment\na\tgood.tif\tscale33\n", "a")
    assert "samples.tsv, line 2 (a): " in output
    assert "did you mean 'scale3'?" in output


@pytest.mark.pipeline
def test_a_named_experiment_is_trained_as_it_is_after_the_check(repository):
    stack(repository / "few.tif", (32, 80, 80))
    output = plan(
        repository,
        "name\tfile\texperiment\tvoxel_z_um\tvoxel_y_um\tvoxel_x_um\n"
        "few\tfew.tif\tscale3\t1\t0.31\t0.31\n",
        "few",
    )
    assert "tenet pretrain scale3 --phantoms" in output
    assert "tenet finetune scale3 --train" in output  # which fits crops to its stacks
    assert output.index("rule sample_check") < output.index("rule pretrain")


@pytest.mark.pipeline
def test_the_check_of_intensities_comes_first_and_retrains_nothing(repository):
    (repository / "tenet/__main__.py").write_text(COMMAND_LINE)
    stack(repository / "good.tif")
    (repository / "samples.tsv").write_text(
        "name\tfile\texperiment\tvoxel_z_um\tvoxel_y_um\tvoxel_x_um\tNA\twavelength\tni\n"
        "named\tgood.tif\tscale3\t1\t0.31\t0.31\n"
        "own\tgood.tif\t\t1\t0.31\t0.31\t0.8\t0.92\t1.33\n"
    )
    targets = [f"results/enhanced/{name}.ome.tif" for name in ("named", "own")]
    options = ("--config", "samples=samples.tsv", 'sample={pretrained: ""}')
    snakemake(repository, *targets, *options)
    assert jobs(repository, *targets, *options) == {}
    for name in ("named", "own"):
        record = repository / f"results/models/samples/{name}/stacks.json"
        record.write_text(record.read_text() + "\n")
    assert jobs(repository, *targets, *options) == {}
