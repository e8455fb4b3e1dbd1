"""From a record on the web to figure 3: every real step, on a small record of the paper's shape."""

import json
import subprocess
import sys
import zipfile
from hashlib import md5

import pandas as pd
import pytest
import yaml
from support import Moody, copy_repository, serving, snakemake

pytestmark = pytest.mark.pipeline

TINY = {
    "params": {"hidden_channels_list": [4, 8], "deconvolution_steps": 3},
    "pretrain_dataset": {"I": 4, "low": 0, "high": 1},
    "pretrain_val_dataset": {"I": 1, "low": 1, "high": 2},
    "pretrain_loop": {"n_epochs": 1},
    "simulation_data_generation": {
        "train_num": 1, "valid_num": 1, "image_size": [80, 64, 64],
        "train_object_num_min": 5, "train_object_num_max": 9},
    "train_dataset": {"I": 2},
    "val_dataset": {"I": 1},
    "train_loop": {"n_epochs": 1, "ewc_batches": 1},
    "microscopes": {"count": 2},
}  # fmt: skip
METHODS = ["tenet", "pretrained", "rltv", "rltv_paper", "care", "neuroclear"]
# The beads' scale, the only one that runs here.
CROPS = ("pretrain_dataset", "pretrain_val_dataset", "train_dataset", "val_dataset")
SMALL = {"params": {"size_z": 41, "size_y": 11, "size_x": 11}}
BY_SCALE = {"10": SMALL | {name: {"cropsize": [40, 32, 32]} for name in CROPS}}


def tenet(folder, *words):
    subprocess.run([sys.executable, "-m", "tenet", *map(str, words)], cwd=folder, check=True)


@pytest.fixture
def repository(tmp_path):
    """A copy of the repository with settings so small that every step takes seconds."""
    folder = copy_repository(tmp_path / "copy")
    (folder / "config/experiments/tiny.json").write_text(json.dumps(TINY | {"by_scale": BY_SCALE}))
    small = {"simulation_data_generation.image_size": [80, 48, 48]}
    settings = {
        "results": "results/tiny",
        "overlays": ["demo", "tiny"],
        "figures": ["fig3"],
        "methods": METHODS,
        "ablations": [],
        "rltv": {"iterations": [2], "tv_weights": [0.01]},
        "care": {"n_epochs": 1, "steps_per_epoch": 2, "batch_size": 2, "channels_2d": [4, 8]},
        "neuroclear": {
            "n_epochs": 1,
            "steps_per_epoch": 2,
            "attempts": 1,
            "channels_3d": [4, 8],
            "linear_channels": 2,
            "discriminator_channels": 4,
        },
        "phantoms": {"training10": {"set": {}}, "tuning10": {"count": 1, "set": small}},
        "zenodo": {"folder": "downloads"},
        "experiments": {
            "fig3_beads": {"source": "beads", "rois": "resources/rois.csv", "folds": [1]}
        },
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture
def record(repository, tmp_path):
    """A record as on Zenodo: zipped folders of stacks, some of them not asked for."""
    made, served = tmp_path / "made", tmp_path / "served"
    served.mkdir()
    overlays = ["--overlay", "demo", "--overlay", "tiny"]
    size = ["--size", 80, 48, 48, "--beads", 1, "--count", 3]
    tenet(repository, "phantoms", "beads", "fig3_beads", *overlays, *size, "--out", made / "truth")
    options = ["--phantoms", made / "truth", "--folds", 3, "--out", made / "stacks"]
    tenet(repository, "simulate", "fig3_beads", *overlays, *options, "--set", "params.NA=0.6")
    (made / "stacks/rois.csv").rename(repository / "resources/rois.csv")
    stacks = sorted((made / "stacks/noise").iterdir())
    with zipfile.ZipFile(served / "beads.zip", "w") as archive:
        for stack in stacks:
            archive.write(stack, f"_2023_beads_stackreged/{stack.name.replace('.ome', '')}")
    with zipfile.ZipFile(served / "microglia.zip", "w") as archive:
        archive.write(stacks[0], "_2022_microglia_and_tumor_trim/00.tif")
    sums = [f"{md5(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(served.iterdir())]
    (served / "md5sums.txt").write_text("".join(sums))
    return served


def test_figure_3_from_a_record_on_a_bad_server(repository, record):
    """Nothing is simulated: the stacks come from the record, however it is served."""
    options = ("--configfile", "config/demo.yaml", "tiny.yaml")
    dry = snakemake(repository, "results/tiny/fig3.pdf", "--dry-run", *options)
    assert "tenet simulate" not in dry
    Moody.moods, Moody.asked = ["", "cut", "429", "500", "wrong"], []
    with serving(record) as url:
        snakemake(
            repository, "results/tiny/fig3.pdf", *options, environment={"TENET_ZENODO_URL": url}
        )
    assert not Moody.moods
    assert any(asked for asked in Moody.asked)  # what was cut off went on where it was
    results = repository / "results/tiny"
    assert (results / "fig3.pdf").read_bytes().startswith(b"%PDF")
    assert not (results / "acquisitions").exists()
    names = sorted(p.name for p in (repository / "downloads/beads").glob("*.tif"))
    assert names == ["00.tif", "01.tif", "02.tif"]
    provenance = json.loads((results / "models/fig3_beads/fold1/provenance.json").read_text())
    assert provenance["images"] == ["00.tif", "02.tif"]  # never those of its own fold
    table = pd.read_csv(results / "tables/fig3_beads.csv")
    beads = table[(table["condition"] == "beads") & (table["quantity"] == "volume_um3")]
    assert set(beads["method"]) == set(METHODS)
    assert (beads["n"] == 1).all()
