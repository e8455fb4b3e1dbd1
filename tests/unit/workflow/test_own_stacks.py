"""The user's own stacks: which share a model, what each reads, and how its results are called."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from snakemake.exceptions import WorkflowError
from tifffile import imwrite

from tenet.settings.load import load_experiment
from tenet.settings.own_stack import sample_grid
from workflow.lib import models, samples
from workflow.lib.catalogue import Catalogue
from workflow.lib.resources import BESIDE_GPU, Machine
from workflow.lib.tracking import finetune_settings

COLUMNS = [
    "name",
    "file",
    "voxel_z_um",
    "voxel_y_um",
    "voxel_x_um",
    "NA",
    "wavelength",
    "ni",
    "experiment",
    "model",
]
COLUMNS += ["channel", "time", "train"]
VOXEL = {"voxel_z_um": 1, "voxel_y_um": 0.12, "voxel_x_um": 0.12}
OPTICS = {"NA": 0.8, "wavelength": 0.92, "ni": 1.33}
SHARED = "shared/na0.8_920nm_n1.33_2p_z1_xy0.12"
SHAPE = (60, 48, 48)


@pytest.fixture
def write(tmp_path, own):
    """Writes a table of rows, and gives its catalogue."""

    def write(*rows):
        lines = ["\t".join(str(row.get(column, "")) for column in COLUMNS) for row in rows]
        table = tmp_path / "table.tsv"
        table.write_text("\n".join(["\t".join(COLUMNS), *lines]))
        return Catalogue.load({**own.config, "samples": str(table)}, own.root)

    return write


@pytest.fixture
def stack(tmp_path):
    """Writes a stack, and gives its path."""

    def stack(name, shape=SHAPE, **options):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        size = int(np.prod(shape))
        imwrite(path, np.arange(size, dtype=np.float32).reshape(shape), **options)
        return path

    return stack


def row(name, file, *parts, **more):
    merged = {"name": name, "file": file}
    for part in parts:
        merged |= part
    return merged | more


# Which model a sample starts from -----------------------------------------------------------------


def test_samples_of_equal_optics_and_voxels_share_one_model(write, stack):
    path = stack("a.tif")
    rows = [
        row("a", path, VOXEL, OPTICS),
        row("b", path, VOXEL, OPTICS, voxel_x_um=0.1200004, voxel_y_um=0.12),
        row("c", path, VOXEL, OPTICS, NA=0.80000001),
        row("other", path, VOXEL, OPTICS, NA=0.9),
    ]
    names = {}
    for order in (rows, rows[::-1], rows[:1], rows[1:2]):
        catalogue = write(*order)
        for name in catalogue.samples:
            names.setdefault(name, set()).add(models.pretrained_of(catalogue, f"samples/{name}"))
    assert names["a"] == names["b"] == names["c"] == {SHARED}
    assert names["other"] == {SHARED.replace("na0.8", "na0.9")}


def test_a_shared_model_follows_from_its_name_alone(write, stack):
    catalogue = write(row("a", stack("a.tif"), VOXEL, OPTICS))
    without = write()
    for asked in (catalogue, without):
        assert samples.own_settings(asked, SHARED) == [f"<results>/models/{SHARED}.json"]
        assert samples.experiment_name(asked, SHARED) == "sample"
        assert models.training_set(asked, SHARED, "phantoms").endswith("sample_training.sha256")
        words = samples.shared_options(asked, SHARED.removeprefix("shared/"))
        assert words[:6] == ["--voxel-size", "1", "0.12", "0.12", "--na", "0.8"]
    assert samples.own_settings(catalogue, "samples/a") == samples.own_settings(without, SHARED)
    assert models.pretrained_files(catalogue, "samples/a", "model.pt", "fisher.pt") == [
        f"<results>/models/{SHARED}/model.pt",
        f"<results>/models/{SHARED}/fisher.pt",
    ]
    with pytest.raises(WorkflowError, match="mine names no shared model"):
        samples.own_settings(without, "shared/mine")


def test_a_sample_with_an_experiment_starts_from_its_model(own):
    path = "samples/theirs"
    assert samples.own_settings(own, path) == []
    assert models.pretrained_of(own, path) == "scale10"
    assert samples.experiment_argument(own, path, []) == ["fig3_beads", "--overlay", "demo"]
    assert [file.endswith("a stack.tif") for file in samples.stacks_of(own, "theirs")] == [True]
    assert samples.sample_record(own, path) == ["<results>/models/samples/theirs/stacks.json"]


def test_an_experiment_is_no_sample(own):
    assert samples.sample_of(own, "fig3_beads") is None
    assert samples.experiment_name(own, "fig3_beads") == "fig3_beads"
    assert samples.sample_record(own, "fig3_beads") == []
    assert samples.own_settings(own, "fig3_beads") == []
    assert samples.reading_options(None) == []
    with pytest.raises(WorkflowError, match=r"no sample 'nobody' in .*; known: mine, theirs"):
        samples.sample_of(own, "samples/nobody")


def test_a_stack_that_cannot_be_learned_from_is_named_with_its_line(own):
    wrong_row = {**own.samples["theirs"], "voxel_x_um": 0.2, "voxel_y_um": 0.2}
    wrong = Catalogue(own.config, {"theirs": wrong_row}, own.root)
    with pytest.raises(WorkflowError, match=r"samples.tsv, line 3 .*fig3_beads does not fit"):
        samples.stacks_of(wrong, "theirs")


# A model that is there ----------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path):
    """The folder of a pre-trained model; of its files only the settings can be read."""
    folder = tmp_path / "my model"
    folder.mkdir()
    params = {"voxel_size_um": (1.0, 0.12, 0.12), "where": "model"}
    settings = sample_grid(load_experiment("sample"), **params)
    (folder / "experiment.json").write_text(json.dumps(settings.model_dump(mode="json")))
    for name in ("model.pt", "fisher.pt"):
        (folder / name).touch()
    return folder


def test_a_row_starts_from_the_model_that_it_names(write, stack, model):
    path = stack("a.tif")
    catalogue = write(
        row("a", path, VOXEL, model=model), row("b", path, VOXEL, model=model, train="none")
    )
    a, b = "samples/a", "samples/b"
    assert models.pretrained_of(catalogue, a) == models.pretrained_of(catalogue, b) == str(model)
    assert samples.experiment_argument(catalogue, a, samples.own_settings(catalogue, a)[0]) == [
        f"{model}/experiment.json"
    ]
    # What the folder lacks (no threshold, no optimiser) is not waited for.
    wanted = ("model.pt", "optimiser.pt", "fisher.pt", "threshold.json")
    files = [f"{model}/model.pt", f"{model}/fisher.pt"]
    assert models.pretrained_files(catalogue, a, *wanted) == files
    assert models.training_set(catalogue, str(model), "tuning").endswith("sample_tuning.sha256")
    assert finetune_settings(catalogue, a) == {}
    assert models.sample_model(catalogue, "a")[0] == "<results>/models/samples/a/all/model.pt"
    assert models.sample_model(catalogue, "b") == [
        f"{model}/model.pt",
        f"{model}/experiment.json",
    ]
    assert samples.normalisation(catalogue, "b") == ["--normalisation", "percentile"]


def test_what_fine_tuning_changes_is_said_by_the_row(write, stack):
    path = stack("a.tif")
    rows = [row("a", path, VOXEL, OPTICS), row("b", path, VOXEL, OPTICS, train="encoder")]
    catalogue = write(*rows, row("c", path, VOXEL, OPTICS, train="none"))
    assert models.train_option(catalogue, "samples/a") == ["--train", "decoder"]
    assert models.train_option(catalogue, "samples/b") == ["--train", "encoder"]
    assert models.sample_model(catalogue, "c")[0] == f"<results>/models/{SHARED}/model.pt"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "model.pt").unlink(), "is not a model: it has no model.pt; give"),
        (lambda f: (f / "experiment.json").write_text("{"), "model: .*experiment.json"),
        (lambda f: (f / "experiment.json").write_text('{"a": 1}'), "model: .*experiment.json"),
    ],
)
def test_what_is_no_model_is_told_with_its_line(write, stack, model, change, said):
    change(model)
    catalogue = write(row("a", stack("a.tif"), VOXEL, model=model))
    with pytest.raises(WorkflowError, match=said) as error:
        samples.check_asked(catalogue, ["results/demo/enhanced/a.ome.tif"])
    assert str(error.value).startswith(f"{catalogue.config['samples']}, line 2 (a): model: ")
    assert "\n" not in str(error.value)


def test_weights_without_a_folder_are_told_what_makes_one(write, stack, model):
    catalogue = write(row("a", stack("a.tif"), VOXEL, model=model / "model.pt"))
    with pytest.raises(WorkflowError, match=r"line 2 \(a\): model: .*tenet import-weights"):
        samples.fitted(catalogue, "a")


def test_a_model_without_fisher_information_is_fine_tuned(write, stack, model):
    """Such as one of `tenet import-weights`: the information is found on the phantoms."""
    (model / "fisher.pt").unlink()
    catalogue = write(row("a", stack("a.tif"), VOXEL, model=model))
    samples.check_asked(catalogue, ["results/demo/enhanced/a.ome.tif"])
    assert models.starting_point(catalogue, "samples/a") == [
        *(f"{model}/{file}" for file in ("model.pt", "experiment.json"))
    ]


def test_a_model_for_other_voxels_is_refused(write, stack, model):
    wide = {"voxel_z_um": 2, "voxel_y_um": 0.25, "voxel_x_um": 0.25}
    catalogue = write(row("a", stack("a.tif"), wide, model=model))
    with pytest.raises(WorkflowError, match=r"line 2 \(a\): .*my model does not fit.*2 × 0.25"):
        samples.fitted(catalogue, "a")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"model": "MODEL", "experiment": "scale3"}, "model and experiment exclude each other"),
        ({"experiment": "scale3", **OPTICS}, "experiment and NA, wavelength, ni exclude each"),
        ({"model": "MODEL", "NA": 1.4, "ni": 1.33}, "above the immersion index"),
        ({"model": "nothing"}, "there is no model nothing"),
        ({"train": "some", **OPTICS}, "train: 'some' is not one of"),
        ({"channel": "0,1", **OPTICS}, "channel: '0,1' is none of: all, a number"),
        ({"time": "first", **OPTICS}, "time: 'first' is none of"),
        ({**OPTICS, "wavelength": 920}, r"wavelength: 920 .* the maximum of 5 \(in µm"),
        ({}, "give an experiment, a model, or NA"),
    ],
)
def test_columns_that_contradict_are_told_with_their_line(write, stack, model, parts, said):
    parts = {key: model if value == "MODEL" else value for key, value in parts.items()}
    with pytest.raises(WorkflowError, match=rf"line 2.*{said}") as error:
        write(row("a", stack("a.tif"), VOXEL, parts))
    assert "\n" not in str(error.value)


def test_a_model_of_one_microscope_takes_no_optics(write, stack, model):
    catalogue = write(row("a", stack("a.tif"), VOXEL, OPTICS, model=model))
    with pytest.raises(WorkflowError, match=r"line 2.*model and NA, wavelength, ni exclude each"):
        samples.fitted(catalogue, "a")


# Several results ----------------------------------------------------------------------------------


@pytest.fixture
def several(write, stack, tmp_path):
    """A plain row, one of a folder, one of two channels, one of some of three time points."""
    plain = stack("plain.tif")
    for number in range(2):
        stack(f"folder/{number}.tif")
    imagej = {"imagej": True}
    channels = stack("channels.tif", (60, 2, 48, 48), **imagej, metadata={"axes": "ZCYX"})
    times = stack("times.tif", (3, 60, 48, 48), **imagej, metadata={"axes": "TZYX"})
    return write(
        row("plain", plain, VOXEL, OPTICS),
        row("folder", tmp_path / "folder", VOXEL, OPTICS),
        row("channels", channels, VOXEL, OPTICS, channel="all"),
        row("times", times, VOXEL, OPTICS, time="0:2"),
        row("one", times, VOXEL, OPTICS, time="1.0"),
    )


def test_each_stack_channel_and_time_point_has_a_result(several, tmp_path):
    assert samples.results(several) == [
        "<results>/enhanced/plain.ome.tif",
        "<results>/enhanced/folder",
        "<results>/enhanced/channels",
        "<results>/enhanced/times",
        "<results>/enhanced/one.ome.tif",
    ]
    files = [str(tmp_path / f"folder/{number}.tif") for number in range(2)]
    assert samples.stacks_of(several, "folder") == files
    unfinished = ["--out", "o/folder.unfinished"]
    assert samples.result_options(several, "folder", "o/folder") == unfinished
    assert samples.finished(several, "folder", "o/folder") == ["o/folder.unfinished", "o/folder"]
    assert samples.finished(several, "one", "o/one.ome.tif") == []
    assert samples.result_options(several, "one", "o/one.ome.tif") == [
        "--name",
        "one",
        "--out",
        "o",
    ]
    reading = [samples.reading_options(several.samples[name])[4:] for name in several.samples]
    assert reading == [[], [], ["--channel", "all"], ["--time", "0:2"], ["--time", "1"]]


def test_a_row_may_be_one_image_of_a_file_of_several(write, tmp_path, monkeypatch):
    pytest.importorskip("liffile", reason="liffile is missing: pip install '.[formats]'")
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "io")
    from vendor_containers import lif_file

    planes, rows, columns = SHAPE
    image = np.zeros((1, planes, 1, rows, columns), np.uint16)
    path = lif_file(tmp_path / "cells.lif", {"left": image, "right": image + 1})
    found = write(row("right", f"{path}/right", VOXEL, OPTICS))
    assert samples.stacks_of(found, "right") == [str(path)]  # which Snakemake follows
    with pytest.raises(WorkflowError, match="there is no image 'middle'"):
        samples.stacks_of(write(row("middle", f"{path}/middle", VOXEL, OPTICS)), "middle")
    with pytest.raises(WorkflowError, match=r"there is no file or folder .*nothing\.lif/left"):
        write(row("left", f"{tmp_path}/nothing.lif/left", VOXEL, OPTICS))


def test_all_stacks_of_a_row_are_one_training(several, tmp_path):
    found = models.finetune_options(several, "samples/folder", None, "all")
    assert found[:2] == ["--data", str(tmp_path / "folder")]
    found = models.finetune_options(several, "samples/channels", None, "all")
    assert found[-2:] == ["--channel", "all"]
    assert {models.pretrained_of(several, f"samples/{name}") for name in several.samples} == {
        SHARED
    }


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("results/demo/enhanced/folder.ome.tif", "is results/demo/enhanced/folder: ask for that"),
        ("results/demo/enhanced/folder/0.ome.tif", "is results/demo/enhanced/folder: ask"),
        ("results/demo/enhanced/plain", "is results/demo/enhanced/plain.ome.tif: ask for that"),
        ("results/demo/enhanced/plain/", "is results/demo/enhanced/plain.ome.tif: ask for that"),
        ("samples", r"line 2 \(bad\): .*give --voxel-size"),
        ("results/demo/enhanced/bad.png", r"line 2 \(bad\): .*give --voxel-size"),
    ],
)
def test_what_is_asked_for_is_checked_first(several, write, stack, word, said):
    catalogue = several
    if "line 2" in said:
        catalogue = write(row("bad", stack("bad.tif"), OPTICS))
    with pytest.raises(WorkflowError, match=said):
        samples.check_asked(catalogue, ["snakemake", word])


def test_samples_that_are_not_asked_for_are_left_alone(write, stack):
    catalogue = write(
        row("bad", stack("bad.tif"), OPTICS), row("good", stack("good.tif"), VOXEL, OPTICS)
    )
    models.check_models(catalogue)
    samples.check_asked(catalogue, ["all", "results/demo/enhanced/good.ome.tif"])


def test_stacks_of_one_row_have_the_same_voxels(write, stack, tmp_path):
    for number, spacing in enumerate((1.0, 1.02, 1.2)):
        stack(
            f"folder/{number}.tif",
            imagej=True,
            resolution=(1 / 0.12, 1 / 0.12),
            metadata={"axes": "ZYX", "unit": "micron", "spacing": spacing},
        )
    catalogue = write(row("a", tmp_path / "folder", OPTICS))
    with pytest.raises(WorkflowError, match=r"2\.tif: its voxels differ from those of .*0\.tif"):
        samples.fitted(catalogue, "a")
    os.remove(tmp_path / "folder/2.tif")
    catalogue = write(row("a", tmp_path / "folder", OPTICS))
    assert models.pretrained_of(catalogue, "samples/a") == SHARED  # that of the first one


# Threads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["samples/a", SHARED])
def test_trainings_of_own_stacks_take_all_cores_of_a_machine_without_gpu(path):
    assert Machine(cores=8, cpu_only=True).threads_of(path) == 8
    assert Machine(cores=8, cpu_only=True).threads_of("scale3") == 4
    assert Machine(cores=8, cpu_only=False).threads_of(path) == BESIDE_GPU
