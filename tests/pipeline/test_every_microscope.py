"""The model of every microscope: made by the rules, and used for stacks of which nothing is known.

Every real step, with a network that is tiny.
"""

import json

import numpy as np
import pytest
import yaml
from small_models import EVERY
from support import copy_repository, snakemake
from test_workflow import jobs
from tifffile import imread, imwrite

pytestmark = pytest.mark.pipeline

BOX = "results/tiny/model/box"
MODELS = {"TENET_MODELS": "results/tiny/model"}
OPTIONS = ("--configfile", "tiny.yaml")
PHANTOMS = {
    "simulation_data_generation.image_size": [24, 40, 40],
    "simulation_data_generation.train_object_num_min": 4,
    "simulation_data_generation.train_object_num_max": 8,
}
ONE = {"photons": 1, "wavelength": 0.52, "fill": None, "norm": "stack"}
#: With one photon the length of the PSF alone is looked for, which takes seconds.
TABLE = """name,file,channel,voxel_z_um,voxel_y_um,voxel_x_um,NA,wavelength,ni,photons,thickness_um
alone,alone.tif,,0.8,0.2,0.2,0.6,0.92,1.33,1,0.6
channels,channels.tif,all,0.8,0.2,0.2,0.6,0.92,1.33,1,
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the repository with a tiny model of every microscope, which the rules have made."""
    folder = copy_repository(tmp_path_factory.mktemp("every"))
    settings = {key: value for key, value in EVERY.items() if key != "name"}
    settings["simulation_data_generation"] = {"train_num": 2, "valid_num": 1}
    for name in ("pretrain_dataset", "pretrain_val_dataset"):
        settings[name] = {**settings[name], "margin": [0, 0, 0]}
    one = {"params": settings["params"] | ONE}
    (folder / "config/experiments/tiny.json").write_text(
        json.dumps({"by_experiment": {"box": settings, "box_one_photon": settings | one}})
    )
    phantoms = {
        f"{model}_{role}": {"set": PHANTOMS, **count}
        for model in ("box", "box_one_photon")
        for role, count in {"training": {}, "tuning": {"count": 1}}.items()
    }
    settings = {"results": "results/tiny", "overlays": ["tiny"], "samples": ""}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings | {"phantoms": phantoms}))
    snakemake(folder, "model", *OPTIONS)
    scenes = [np.random.default_rng(seed).poisson(20, (10, 32, 28)) for seed in range(2)]
    for scene in scenes:
        scene[4:6, 15:18] += 400
    both = np.stack(scenes, axis=1).astype(np.uint16)
    imwrite(folder / "alone.tif", both[:, 0])
    imwrite(folder / "channels.tif", both, imagej=True, metadata={"axes": "ZCYX"})
    (folder / "samples.csv").write_text(TABLE)
    return folder


def test_the_rules_make_the_folder_that_comes_with_the_package(repository):
    assert jobs(repository, "model", *OPTIONS) == {}
    card = (repository / BOX / "README.md").read_text()
    assert "# box: a model of every microscope" in card
    record = json.loads((repository / BOX / "provenance.json").read_text())
    assert record["code"] in card
    assert "optimiser.pt" not in record["files"]
    for part in (".", "one_photon"):
        phantoms = (repository / BOX / part / "tuning").iterdir()
        assert [path.name for path in phantoms] == ["00.zarr.zip"]


def test_stacks_with_optics_are_enhanced_and_nothing_is_trained(repository):
    options = (*OPTIONS, "--config", "samples=samples.csv")
    planned = jobs(repository, "samples", *options, environment=MODELS)
    assert planned == {"enhance": 1, "enhance_several": 1, "samples": 1}
    snakemake(repository, "samples", *options, environment=MODELS)
    assert jobs(repository, "samples", *options, environment=MODELS) == {}
    results = repository / "results/tiny/enhanced"
    assert imread(results / "alone.ome.tif").shape == (2, 40, 32, 28)
    found = json.loads((results / "alone.json").read_text())
    assert (found["told"]["NA"], found["told"]["photons"]) == (0.6, 1)
    assert found["structure_um"] == 0.6
    assert found["model"] == str(repository / BOX)
    assert found["psf"] is not None
    assert (results / "alone.png").is_file()
    names = {path.name for path in (results / "channels").glob("[!.]*")}
    assert {"channels.ome.tif", "channels.json", "channels_c0.png", "channels_c1.png"} <= names
    # Other weights, other results.
    for part in (".", "one_photon"):
        weights = repository / BOX / part / "model.pt"
        whole = weights.read_bytes()
        weights.write_bytes(whole + b"0")
        assert jobs(repository, "samples", *options, environment=MODELS) == planned
        weights.write_bytes(whole)


def test_stacks_that_were_enhanced_stay_when_another_one_of_the_folder_fails(repository):
    stacks, results = repository / "stacks", repository / "results/tiny/enhanced"
    stacks.mkdir()
    imwrite(stacks / "good.tif", imread(repository / "alone.tif"))
    imwrite(stacks / "bad.tif", np.full((10, 32, 28), 7, np.uint16))
    header, row, *_ = TABLE.splitlines()
    row = row.replace("alone.tif", "stacks").replace("alone", "several")
    (repository / "folder.csv").write_text(f"{header}\n{row}\n")
    options = ("samples", *OPTIONS, "--config", "samples=folder.csv")
    snakemake(repository, *options, check=False, environment=MODELS)
    made = results / "several.unfinished/good.ome.tif"
    # Left from a stack that is there no more.
    for name in ("gone.ome.tif", "gone.json", "gone.png", "gone.html", "good_too.json"):
        (made.parent / name).write_text("")
    when = made.stat().st_mtime_ns
    assert not (results / "several").exists()
    imwrite(stacks / "bad.tif", imread(repository / "alone.tif")[::-1])
    snakemake(repository, *options, environment=MODELS)
    assert not made.parent.exists()
    assert (results / "several/good.ome.tif").stat().st_mtime_ns == when
    assert (results / "several/bad.ome.tif").is_file()
    assert not list((results / "several").glob("gone*"))
    assert (results / "several/good_too.json").exists()  # nobody knows of what
    assert jobs(repository, *options, environment=MODELS) == {}


def test_a_thickness_for_a_model_that_is_trained_is_refused_in_one_line(repository):
    options = (*OPTIONS, "--dry-run", "--config", "samples=samples.csv", "sample={pretrained: ''}")
    said = snakemake(repository, "samples", *options, check=False, environment=MODELS)
    assert "samples.csv, line 2 (alone): thickness_um is told to a model of every" in said
    assert "Traceback" not in said


def test_without_the_model_a_dry_run_says_so_in_one_line(repository):
    options = (*OPTIONS, "--dry-run", "--config", "samples=samples.csv")
    nowhere = {"TENET_MODELS": "nowhere"}
    said = snakemake(repository, "samples", *options, check=False, environment=nowhere)
    assert "samples.csv, line 2 (alone): TENET_MODELS is nowhere, and there is no model" in said
    assert "Traceback" not in said
    snakemake(repository, "all", *options, environment=nowhere)
