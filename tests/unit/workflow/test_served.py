"""Own stacks that the model of every microscope enhances: nothing is trained for them."""

import json

import numpy as np
import pytest
from small_models import EVERY
from snakemake.exceptions import WorkflowError
from tifffile import imwrite

from tenet.settings.load import load_experiment
from workflow.lib import models, samples, served
from workflow.lib.catalogue import Catalogue

COLUMNS = ["name", "file", "voxel_z_um", "voxel_y_um", "voxel_x_um", "NA", "wavelength", "ni"]
COLUMNS += ["photons", "experiment", "model", "train"]
VOXEL = {"voxel_z_um": 0.72, "voxel_y_um": 0.12, "voxel_x_um": 0.12}
OPTICS = {"NA": 0.8, "wavelength": 0.92, "ni": 1.33}
OPTIONS = ["--na", "0.8", "--wavelength", "0.92", "--immersion", "1.33"]


@pytest.fixture
def box(tmp_path, monkeypatch):
    """The folder of a model of every microscope, as one of the package; of its files, settings."""
    folder = tmp_path / "models/box"
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text(json.dumps(EVERY))
    (folder / "model.pt").touch()
    monkeypatch.setenv("TENET_MODELS", str(folder.parent))
    return folder


@pytest.fixture
def write(tmp_path, paper, box):
    """Writes a table of rows of one stack, and gives its catalogue."""
    stack = tmp_path / "a.tif"
    imwrite(stack, np.arange(20 * 48 * 48, dtype=np.float32).reshape(20, 48, 48))

    def write(*rows, **sample):
        lines = [
            [str({"file": stack, **VOXEL, **row}.get(name, "")) for name in COLUMNS] for row in rows
        ]
        table = tmp_path / "table.tsv"
        table.write_text("\n".join("\t".join(line) for line in [COLUMNS, *lines]))
        settings = {"samples": str(table), "sample": {**paper.config["sample"], **sample}}
        return Catalogue.load({**paper.config, **settings}, paper.root)

    return write


def test_optics_alone_need_no_training(write, box):
    catalogue = write({"name": "a", **OPTICS}, {"name": "b", **OPTICS, "photons": 1})
    assert served.optics_options(catalogue, catalogue.samples["a"]) == OPTIONS
    assert served.optics_options(catalogue, catalogue.samples["b"]) == [*OPTIONS, "--photons", "1"]
    files = [f"{box}/model.pt", f"{box}/experiment.json"]  # it has no threshold.json here
    assert models.sample_model(catalogue, "a") == files
    assert samples.sample_record(catalogue, "samples/a") == []
    assert samples.fitted(catalogue, "a").params.scale == 6
    samples.check_asked(catalogue, ["samples"])


@pytest.mark.parametrize(
    ("row", "sample"),
    [
        ({"train": "old"}, {}),
        ({}, {"pretrained": ""}),
        ({"train": "none"}, {"pretrained": ""}),
    ],
)
def test_a_model_is_trained_where_the_row_or_the_configuration_says_so(write, row, sample):
    catalogue = write({"name": "a", **OPTICS, **row}, **sample)
    assert served.optics_options(catalogue, catalogue.samples["a"]) == []
    shared = "shared/na0.8_920nm_n1.33_2p_z0.72_xy0.12"
    assert models.pretrained_of(catalogue, "samples/a") == shared
    assert samples.sample_record(catalogue, "samples/a") != []


def test_a_row_may_name_a_model_of_every_microscope(write, box):
    catalogue = write(
        {"name": "a", "model": box},
        {"name": "b", "model": box, "NA": 0.8, "train": "none"},
        pretrained="",
    )
    assert served.optics_options(catalogue, catalogue.samples["a"]) == []
    assert served.optics_options(catalogue, catalogue.samples["b"]) == ["--na", "0.8"]
    assert models.sample_model(catalogue, "b")[0] == f"{box}/model.pt"
    samples.check_asked(catalogue, ["samples"])


def test_a_model_of_one_microscope_serves_nobody(write, box):
    one = load_experiment("sample").model_dump(mode="json")
    (box / "experiment.json").write_text(json.dumps(one))
    catalogue = write({"name": "a", **OPTICS}, {"name": "b", "model": box})
    with pytest.raises(WorkflowError, match=r"line 2 \(a\): .* was trained for one microscope"):
        samples.fitted(catalogue, "a")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"voxel_z_um": 1.2, **OPTICS}, "planes are 10 pixels apart, .* at most 6: bin the pixels"),
        ({"voxel_z_um": 3.6, **OPTICS}, "planes are 30 pixels apart|too few"),
        ({"model": "BOX", "train": "decoder"}, "is used as it is: leave train out"),
        ({"voxel_y_um": 0.3, "voxel_x_um": 0.12, **OPTICS}, "not square"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line_when_it_is_asked_for(write, box, row, said):
    row = {key: box if value == "BOX" else value for key, value in row.items()}
    catalogue = write({"name": "a", **row})
    samples.check_asked(catalogue, ["all"])
    with pytest.raises(WorkflowError, match=rf"line 2 \(a\): .*{said}") as error:
        samples.check_asked(catalogue, ["results/enhanced/a.ome.tif"])
    assert "\n" not in str(error.value)


def test_a_model_that_is_missing_is_told_when_a_sample_needs_it(write, box):
    (box / "experiment.json").unlink()
    catalogue = write({"name": "a", **OPTICS}, {"name": "b", "experiment": "scale3"})
    models.check_models(catalogue)
    samples.check_asked(catalogue, ["all"])
    with pytest.raises(WorkflowError, match=r'line 2 \(a\): .*no model .*box.*pretrained: ""'):
        samples.check_asked(catalogue, ["samples"])


def test_there_is_no_model_of_such_a_sample_to_ask_for(write):
    catalogue = write({"name": "a", **OPTICS})
    with pytest.raises(WorkflowError, match="none is trained for it: give train, as old"):
        samples.check_asked(catalogue, ["results/models/samples/a/all/model.pt"])


def test_the_experiment_of_every_microscope_is_none_of_a_sample(write):
    catalogue = write({"name": "a", "experiment": "box"})
    with pytest.raises(WorkflowError, match=r"line 2 \(a\): experiment box is of every microscope"):
        models.check_models(catalogue)
