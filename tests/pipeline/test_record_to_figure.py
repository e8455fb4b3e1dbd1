"""From a record on the web to every figure: all real steps, on a small record as it probably is."""

import csv
import json
import subprocess
import sys
import tarfile
import zipfile
from hashlib import md5

import numpy as np
import pandas as pd
import py7zr
import pytest
import tifffile
import torch
import yaml
from scipy import ndimage
from support import Moody, copy_repository, serving, snakemake

from tenet.io.open import open_stack

pytestmark = pytest.mark.pipeline

CROPS = ("pretrain_dataset", "pretrain_val_dataset", "train_dataset", "val_dataset")
TINY = {
    "params": {"hidden_channels_list": [4, 8], "deconvolution_steps": 2,
               "size_z": 31, "size_y": 9, "size_x": 9},
    "pretrain_dataset": {"I": 4, "low": 0, "high": 1, "margin": [0, 0, 0]},
    "pretrain_val_dataset": {"I": 1, "low": 1, "high": 2, "margin": [0, 0, 0]},
    "pretrain_loop": {"n_epochs": 1},
    "simulation_data_generation": {
        "train_num": 1, "valid_num": 1, "image_size": [80, 64, 64],
        "train_object_num_min": 5, "train_object_num_max": 9},
    "train_dataset": {"I": 2},
    "val_dataset": {"I": 1},
    "train_loop": {"n_epochs": 1, "ewc_batches": 1},
    "microscopes": {"count": 2},
}  # fmt: skip
BY_SCALE = {
    scale: {name: {"cropsize": [planes, 32, 32]} for name in CROPS}
    for scale, planes in {"3": 36, "10": 40, "12": 48}.items()
}
METHODS = ["tenet", "pretrained", "rltv", "rltv_paper", "care", "neuroclear"]
ALONE = {"methods": ["tenet"]}
SMALL = {"simulation_data_generation.image_size": [80, 48, 48]}
SETTINGS = {
    "results": "results/tiny",
    "overlays": ["demo", "tiny"],
    "methods": METHODS,
    "seeds": [0],
    "ablations": ["supp_mrf"],
    "rltv": {"iterations": [2], "tv_weights": [0.01]},
    "care": {"n_epochs": 1, "steps_per_epoch": 2, "batch_size": 2, "channels_2d": [4, 8]},
    "neuroclear": {
        "n_epochs": 1, "steps_per_epoch": 2, "attempts": 1, "channels_3d": [4, 8],
        "linear_channels": 2, "discriminator_channels": 4},
    "phantoms": {
        "training10": {"set": {}}, "tuning10": {"count": 1, "set": SMALL},
        "tuning": {"count": 1, "set": SMALL},
        "fig2_phantoms": {"count": 1, "set": SMALL},
        **{f"fig2_angle{a}": {"size": [60, 48, 48], "lines": 5} for a in ("00", "45", "90")}},
    "zenodo": {"folder": "downloads"},
    "sources": {
        "beads": {"archives": ["fig3*"], "voxel_size_um": [1.0, 0.1, 0.1], "first_image": -1},
        "neurons": {"archives": ["*everything*"], "limit": 2},
        "microglia": {"folder": "", "files": "*C1.tif", "partner": "*C2.tif"},
        "tumour": {"folder": "", "files": "*C2.tif", "partner": "*C1.tif"}},
    "experiments": {
        "fig2_phantoms": ALONE,
        **{f"fig2_angle{a}": ALONE for a in ("00", "45", "90")},
        "fig3_beads": {"source": "beads", "rois": "resources/rois.csv", "folds": [1]},
        "fig4_neurons": {"source": "neurons", **ALONE},
        "fig5_microglia": {"source": "microglia", **ALONE},
        "fig5_tumour": {"source": "tumour", **ALONE},
        **{f"supp_motion_{n}": ALONE for n in ("none", "registered", "aligned")}},
    "ablation": {"source": "beads", "rois": "resources/rois.csv", "folds": [1]},
}  # fmt: skip


def tenet(folder, *words):
    subprocess.run([sys.executable, "-m", "tenet", *map(str, words)], cwd=folder, check=True)


@pytest.fixture
def repository(tmp_path):
    """A copy of the repository with settings so small that every step takes seconds."""
    folder = copy_repository(tmp_path / "copy")
    (folder / "config/experiments/tiny.json").write_text(json.dumps(TINY | {"by_scale": BY_SCALE}))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SETTINGS))
    return folder


def tissue(shape, *, thick, seed):
    """Tubes and blobs as a microscope sees them."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape)
    for _ in range(4):
        a, b = rng.uniform(0.2, 0.8, (2, 3)) * shape
        for t in np.linspace(0, 1, 200):
            image[tuple(np.round(a + t * (b - a)).astype(int))] = 1
    image = ndimage.gaussian_filter(image, (1, thick, thick))
    image = image / image.max() * 900 + 100
    return (image + rng.normal(0, 3, shape)).clip(0).astype(np.uint16)


@pytest.fixture
def record(repository, tmp_path):
    """A record with the traces' form: no voxel sizes, frames for slices, channels in files.

    One 7z of beads whose numbers begin with 1, one of them a tensor; neurons in an archive in an
    archive, one with too few planes; loose pairs of microglia and tumour; and more than is needed.
    """
    made, served = tmp_path / "made", tmp_path / "served"
    served.mkdir()
    overlays = ["--overlay", "demo", "--overlay", "tiny"]
    size = ["--size", 80, 48, 48, "--beads", 1, "--count", 3]
    tenet(repository, "phantoms", "beads", "fig3_beads", *overlays, *size, "--out", made / "truth")
    options = ["--phantoms", made / "truth", "--folds", 3, "--out", made / "stacks"]
    tenet(repository, "simulate", "fig3_beads", *overlays, *options, "--set", "params.NA=0.6")
    (made / "stacks/rois.csv").rename(repository / "resources/rois.csv")
    with py7zr.SevenZipFile(served / "fig3.7z", "w") as archive:
        for number, stack in enumerate(sorted((made / "stacks/noise").iterdir()), start=1):
            voxels = open_stack(stack).read()
            if number == 3:
                torch.save(torch.from_numpy(voxels)[None], made / "03.pt")
                archive.write(made / "03.pt", "fig3/_2023_beads_stackreged/beads_03.pt")
                continue
            tifffile.imwrite(made / "one.tif", voxels)
            archive.write(made / "one.tif", f"fig3/_2023_beads_stackreged/beads_{number:02}.tif")
    with zipfile.ZipFile(made / "fig4.zip", "w") as archive:
        for name, planes in {"MDA01_0412": 16, "MDA02_0412": 5, "MDA03_0413": 16}.items():
            image = tissue((planes, 64, 64), thick=1.2, seed=planes)
            frames = {"imagej": True, "metadata": {"axes": "TYX"}}
            tifffile.imwrite(made / "one.tif", image, **frames)
            archive.write(made / "one.tif", f"fig4/Set_03_stackreg_z/{name}.tif")
    with zipfile.ZipFile(served / "everything.zip", "w") as archive:
        archive.write(made / "fig4.zip", "data/fig4.zip")
    for channel, thick in (("C1", 1.5), ("C2", 5)):
        image = tissue((8, 64, 64), thick=thick, seed=int(channel[1]))
        tifffile.imwrite(served / f"mouse1_t01_{channel}.tif", image)
    with tarfile.open(served / "unwanted.tar.gz", "w:gz") as archive:
        archive.add(made / "one.tif", "other/one.tif")
    sums = [f"{md5(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(served.iterdir())]
    (served / "md5sums.txt").write_text("".join(sums))
    return served


OPTIONS = ("--configfile", "config/demo.yaml", "tiny.yaml")


@pytest.mark.timeout(1800)  # 80 jobs, most of which begin with the import of PyTorch
def test_every_figure_from_a_record_on_a_bad_server(repository, record):
    """Stacks come from the record, however it is served, and only what a target needs."""
    dry = snakemake(repository, "results/tiny/fig3.pdf", "--dry-run", *OPTIONS)
    assert "tenet simulate" not in dry
    Moody.moods, Moody.asked = ["", "cut", "429", "500", "wrong"], []
    with serving(record) as url:
        where = {"environment": {"TENET_ZENODO_URL": url}}
        told = snakemake(repository, "results/tiny/fig3.pdf", *OPTIONS, **where)
        files = repository / "downloads/files"
        assert [p.name for p in files.iterdir() if p.name[0] != "."] == ["fig3.7z"]
        told += snakemake(repository, "all", *OPTIONS, **where)
    assert not Moody.moods
    assert any(asked for asked in Moody.asked)  # what was cut off went on where it was
    assert "beads_03.pt: is 02, image 2; 8×48×48 float32, 1 × 0.1 × 0.1 µm" in told
    assert "MDA02_0412.tif: left out: too small for a crop (5 planes of 12)" in told
    assert not (files / "unwanted.tar.gz").exists()
    results = repository / "results/tiny"
    for figure in ("fig1", "fig2", "fig3", "fig4", "fig5", "supp", "supp_motion", "supp_training"):
        assert (results / f"{figure}.pdf").read_bytes().startswith(b"%PDF"), figure
    assert not (results / "acquisitions/fig3_beads").exists()
    names = {
        source: sorted(p.name for p in (repository / f"downloads/{source}").glob("*.tif"))
        for source in SETTINGS["sources"]
    }
    assert names == {
        "beads": ["00.ome.tif", "01.ome.tif", "02.ome.tif"],
        "neurons": ["MDA01_0412.ome.tif", "MDA03_0413.ome.tif"],
        "microglia": ["mouse1_t01.ome.tif"],
        "tumour": ["mouse1_t01.ome.tif"],
    }
    provenance = json.loads((results / "models/fig3_beads/fold1/provenance.json").read_text())
    assert provenance["images"] == ["00.ome.tif", "02.ome.tif"]  # never those of its own fold
    table = pd.read_csv(results / "tables/fig3_beads.csv")
    beads = table[(table["condition"] == "beads") & (table["quantity"] == "volume_um3")]
    assert set(beads["method"]) == set(METHODS)
    assert (beads["n"] == 1).all()
    with (repository / "downloads/tumour.csv").open() as file:
        assert [row["stack"] for row in csv.DictReader(file)] == ["mouse1_t01.ome.tif"]


def test_a_record_that_is_not_as_expected_ends_before_the_first_training(repository, record):
    """Wrong numbers of images, a missing partner, an archive that is not there: all are told."""
    settings = {**SETTINGS, "sources": {**SETTINGS["sources"], "beads": {
        **SETTINGS["sources"]["beads"], "first_image": 0}}}  # fmt: skip
    (record / "mouse1_t01_C2.tif").unlink()
    sums = (record / "md5sums.txt").read_text().splitlines(keepends=True)
    (record / "md5sums.txt").write_text("".join(line for line in sums if "_C2" not in line))
    settings["sources"]["neurons"] = {"archives": ["fig4.rar"]}
    (repository / "tiny.yaml").write_text(yaml.safe_dump(settings))
    where = {"environment": {"TENET_ZENODO_URL": str(record)}}
    targets = [f"results/tiny/models/{name}/model.pt" for name in
               ("fig3_beads/fold1", "fig4_neurons/all", "fig5_microglia/all")]  # fmt: skip
    told = snakemake(repository, *targets, "--keep-going", "--until", "source", *OPTIONS,
                     check=False, **where)  # fmt: skip
    assert "with numbering: digits, first_image: -1, every region has its bead" in told
    assert "expected a partner that fits '*C2.tif' for mouse1_t01_C1.tif, found none" in told
    assert "expected an archive that fits fig4.rar, found none in the record, which holds" in told
    assert not list((repository / "results").rglob("model.pt"))
