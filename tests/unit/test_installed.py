"""The tool without the paper: a wheel, installed elsewhere, works in an empty folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tenet.data.phantoms.kinds import TrainingPhantomSettings
from tenet.data.phantoms.sets import generate_set
from tenet.io.open import open_stack
from tenet.model.store import save_model
from tenet.model.tenet import TENET
from tenet.settings.load import PACKAGED, load_experiment
from tenet.tasks.package import CHECK, check_stack

ROOT = Path(__file__).parents[2]
#: Suffixes of what is written of a stack.
FILES = ("ome.tif", "json", "png", "html")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: What the extra alone brings, as it is imported; timm brings PyYAML too.
PAPER = (
    "snakemake",
    "jsonschema",
    "zenodo_get",
    "seaborn",
    "papermill",
    "ipykernel",
    "pystackreg",
    "py7zr",
    "edt",
)
#: Runs in every process of the installed tool, before anything else.
WITHOUT_THE_PAPER = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {PAPER}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""
SMALL = [
    "params.hidden_channels_list=[2,4]", "params.size_z=15", "params.size_y=7", "params.size_x=7",
    "params.deconvolution_steps=2", "params.nipsf_loss_target=1e-2", "microscopes.count=1",
    "pretrain_dataset.cropsize=[12,8,8]", "pretrain_val_dataset.cropsize=[12,8,8]",
    "pretrain_dataset.margin=[0,0,0]", "pretrain_val_dataset.margin=[0,0,0]",
    "pretrain_dataset.I=1", "pretrain_dataset.mask=false", "pretrain_dataset.high=1",
    "pretrain_val_dataset.I=1",
    "pretrain_val_dataset.low=1", "pretrain_val_dataset.high=2", "pretrain_loop.n_epochs=1",
    "train_dataset.cropsize=[12,8,8]", "val_dataset.cropsize=[12,8,8]", "train_loop.ewc_batches=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install .` puts into an environment, without the dependencies."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "tenet", source / "tenet", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", site]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, source], check=True)
    (site / "sitecustomize.py").write_text(WITHOUT_THE_PAPER)
    return site


class Elsewhere:
    """An empty folder, in which the installed tool is run."""

    def __init__(self, site: Path, folder: Path) -> None:
        self.folder = folder
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TENET"))}
        self.environment = {
            **outside,
            "PYTHONPATH": str(site),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def python(self, *words: object, status: int = 0) -> str:
        """Run Python; its standard output, or standard error where it fails as it should."""
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment,
        )
        assert done.returncode == status, done.stderr
        return done.stderr if status else done.stdout

    def tenet(self, *words: object, status: int = 0) -> str:
        return self.python("-m", "tenet", *words, status=status)


@pytest.fixture
def elsewhere(site: Path, tmp_path: Path) -> Elsewhere:
    folder = tmp_path / "empty"
    folder.mkdir()
    return Elsewhere(site, folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that nothing was taught, of scale 3."""
    folder = tmp_path_factory.mktemp("model")
    params = {"hidden_channels_list": [2, 4], "size_z": 15, "size_y": 7, "size_x": 7}
    params |= {"deconvolution_steps": 2, "nipsf_loss_target": 1e-2}
    experiment = load_experiment(
        "scale3", overlays=["demo"], settings={"params": params}, folder=PACKAGED
    )
    network = TENET(experiment.params)
    network.initialise(np.random.default_rng(0))
    save_model(folder, network, experiment, {"kind": "pretrain"})
    return folder


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.npy"
    rng = np.random.default_rng(1)
    np.save(path, (100 + 3000 * rng.random((6, 24, 20)) ** 4).astype(np.uint16))
    return path


def test_it_is_the_installed_package_and_the_paper_is_missing(
    elsewhere: Elsewhere, site: Path
) -> None:
    assert elsewhere.python("-c", "import tenet; print(tenet.__file__)").strip() == str(
        site / "tenet/__init__.py"
    )
    for name in PAPER:
        said = elsewhere.python("-c", f"import {name}", status=1)
        assert f"No module named '{name}'" in said


def test_the_version_is_that_of_the_project(elsewhere: Elsewhere) -> None:
    said = elsewhere.python("-c", "import tenet; print(tenet.__version__)")
    assert said.strip() == PROJECT["version"]
    assert elsewhere.tenet("--version").split()[-1] == PROJECT["version"]


def test_settings_come_with_it(elsewhere: Elsewhere) -> None:
    listed = {line.split()[0] for line in elsewhere.tenet("config", "list").splitlines()}
    assert listed == {path.stem for path in (ROOT / "tenet/settings/data").glob("*.json")}
    shown = json.loads(elsewhere.tenet("config", "show", "sample", "--overlay", "demo"))
    assert shown["params"]["photons"] == 2
    assert "no experiment 'sampel'" in elsewhere.tenet("config", "show", "sampel", status=2)


def test_a_stack_is_enhanced_with_its_sheet(elsewhere: Elsewhere, model: Path, stack: Path) -> None:
    words = ("enhance", stack, "--model", model, "--voxel-size", "1", "0.31", "0.31", "--sheet")
    said = elsewhere.tenet(*words, "--out", "results").splitlines()
    assert said == [f"results/stack.{suffix}" for suffix in FILES]
    code = (
        "import tenet, numpy as np\n"
        f"shape, brightness = tenet.enhance({str(stack)!r}, model={str(model)!r}, "
        "voxel_size_um=(1, .31, .31))\n"
        "written = tenet.open_stack('results/stack.ome.tif', channel=0).read()\n"
        "assert np.allclose(shape, written, atol=1e-6)\n"
        "print(shape.shape, shape.dtype, brightness.shape)"
    )
    assert elsewhere.python("-c", code).strip() == "(18, 24, 20) float32 (18, 24, 20)"


def test_the_model_of_every_microscope_comes_with_it(elsewhere: Elsewhere, site: Path) -> None:
    np.save(elsewhere.folder / "stack.npy", check_stack())
    optics = ("--na", "0.8", "--wavelength", "0.92", "--immersion", "1.33", "--photons", "2")
    words = ("enhance", "stack.npy", "--voxel-size", "0.6", "0.2", "0.2", *optics)
    # In float32, because not every processor multiplies bfloat16.
    elsewhere.environment["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE"
    said = elsewhere.tenet(*words, "--psf-as-told").split()
    assert said == [f"enhanced/stack.{suffix}" for suffix in FILES]
    shape = open_stack(elsewhere.folder / said[0], channel=0).read()
    with np.load(site / "tenet/models/box" / CHECK) as recorded:
        np.testing.assert_allclose(shape, recorded["shape"], atol=1e-4)


def test_a_model_is_pretrained(elsewhere: Elsewhere, tmp_path: Path) -> None:
    phantoms = TrainingPhantomSettings(
        zyx_shape=(24, 24, 24), n_objects=(3, 4), line_length=(8, 16), solid_radius=(3, 5)
    )
    generate_set(phantoms, tmp_path / "phantoms", count=2, seed=0)
    settings = [word for setting in SMALL for word in ("--set", setting)]
    words = ("pretrain", "scale3", "--overlay", "demo", "--phantoms", tmp_path / "phantoms")
    elsewhere.tenet(*words, "--out", "models/mine", "--device", "cpu", *settings)
    assert (elsewhere.folder / "models/mine/model.pt").exists()


def test_a_command_that_needs_the_paper_says_how_to_get_it(
    elsewhere: Elsewhere, stack: Path
) -> None:
    said = elsewhere.tenet("register", stack.parent, "--out", "registered", status=2)
    assert said == (
        "tenet: pystackreg is not installed; it comes with the paper: pip install 'tenet[paper]'\n"
    )


def test_what_only_the_paper_needs_is_in_the_extra() -> None:
    def names(wanted: list[str]) -> set[str]:
        return {re.split(r"[^\w-]", one)[0].lower() for one in wanted}

    extras = PROJECT["optional-dependencies"]
    paper = {name.replace("_", "-") for name in PAPER}
    assert names(extras["paper"]) == paper | {"pyyaml"}
    assert not names(PROJECT["dependencies"]) & paper
    own = next(one for one in extras["dev"] if one.startswith("tenet["))
    assert "paper" in re.findall(r"\w+", own)
