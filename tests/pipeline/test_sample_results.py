"""From a table of one's own stacks to the results: every real step, with networks that are tiny."""

import json

import numpy as np
import pytest
import yaml
from support import copy_repository, snakemake
from test_record_to_figure import CROPS, TINY
from test_workflow import jobs
from tifffile import imread, imwrite

pytestmark = pytest.mark.pipeline

SHARED = "models/shared/na0.8_920nm_n1.33_2p_z1_xy0.125"
HEADER = "name,file,voxel_z_um,voxel_y_um,voxel_x_um,channel,NA,wavelength,ni,model,train"
VOXEL, OPTICS = "1,0.125,0.125", "0.8,0.92,1.33,,"
ALONE = f"alone,alone.tif,{VOXEL},,{OPTICS}"
OTHERS = [
    f"folder,stacks,{VOXEL},,{OPTICS}",
    f"channels,channels.tif,{VOXEL},all,{OPTICS}",
    f"ready,alone.tif,{VOXEL},,,,,results/tiny/{SHARED},none",
]
OPTIONS = ("--configfile", "config/demo.yaml", "tiny.yaml")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the repository with tiny settings, four stacks, and a table of one of them."""
    folder = copy_repository(tmp_path_factory.mktemp("own"))
    crops = {name: {"cropsize": [64, 16, 16]} for name in CROPS}
    small = {"params": {"hidden_channels_list": [4], "deconvolution_steps": 2}, **crops}
    tiny = TINY | {"by_scale": {"8": small}}
    (folder / "config/experiments/tiny.json").write_text(json.dumps(tiny))
    phantoms = {"set": {"simulation_data_generation.image_size": [96, 48, 48]}}
    settings = {
        "results": "results/tiny",
        "overlays": ["demo", "tiny"],
        "samples": "samples.csv",
        "sample": {"pretrained": ""},
        "phantoms": {"sample_training": phantoms, "sample_tuning": phantoms | {"count": 1}},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
    (folder / "stacks").mkdir()
    for number, name in enumerate(("alone.tif", "stacks/0.tif", "stacks/1.tif")):
        imwrite(folder / name, scene(number))
    both = np.stack([scene(3), scene(4)], axis=1)
    imwrite(folder / "channels.tif", both, imagej=True, metadata={"axes": "ZCYX"})
    return folder


def scene(seed):
    """A bright rod in noise, 16-bit."""
    image = np.random.default_rng(seed).poisson(20, (12, 40, 40))
    image[4:7, 8:30, 18:22] += 400
    return image.astype(np.uint16)


def write(folder, *rows):
    (folder / "samples.csv").write_text("\n".join([HEADER, *rows]))


@pytest.mark.timeout(1800)  # 20 jobs, most of which begin with the import of PyTorch
def test_rows_of_equal_optics_are_one_pretraining_and_each_stack_is_a_result(repository):
    results = repository / "results/tiny"
    write(repository, ALONE)
    snakemake(repository, "results/tiny/enhanced/alone.ome.tif", *OPTIONS)
    first = imread(results / "enhanced/alone.ome.tif")
    weights = (results / SHARED / "model.pt").read_bytes()
    assert first.shape == (2, 96, 40, 40)
    assert 0 <= first.min() < first.max() <= 1

    # Other rows come, and before it: the model of the row that was alone is found again.
    write(repository, *OTHERS, ALONE)
    planned = jobs(repository, "samples", *OPTIONS)
    assert planned == {
        "sample_check": 3,
        "finetune": 2,
        "enhance": 1,
        "enhance_several": 2,
        "samples": 1,
    }
    snakemake(repository, "samples", *OPTIONS)
    assert jobs(repository, "samples", *OPTIONS) == {}
    assert (results / SHARED / "model.pt").read_bytes() == weights
    assert [path.name for path in (results / "models/shared").iterdir() if path.is_dir()] == [
        SHARED.rpartition("/")[2]
    ]
    stacks = {
        path.relative_to(results / "enhanced").as_posix(): imread(path)
        for path in (results / "enhanced").rglob("*.ome.tif")
    }
    several = ["channels/channels", "folder/0", "folder/1"]
    assert sorted(stacks) == [f"{name}.ome.tif" for name in ("alone", *several, "ready")]
    both = stacks["channels/channels.ome.tif"]
    assert both.shape == (4, *first.shape[1:])
    assert not np.array_equal(both[:2], both[2:])
    others = [stack for name, stack in stacks.items() if "channels" not in name]
    assert {stack.shape for stack in others} == {first.shape}
    assert len({stack.tobytes() for stack in stacks.values()}) == len(stacks)
    trained = json.loads((results / "models/samples/channels/all/provenance.json").read_text())
    assert trained["images"] == ["channels.tif c0", "channels.tif c1"]
    assert not (results / "models/samples/ready/all").exists()

    # Trained again beside the others, the row has the same bits.
    options = ("--forcerun", "finetune", "--", "results/tiny/enhanced/alone.ome.tif")
    (results / "models/samples/alone/all/model.pt").unlink()
    snakemake(repository, *OPTIONS, *options)
    np.testing.assert_array_equal(imread(results / "enhanced/alone.ome.tif"), first)
