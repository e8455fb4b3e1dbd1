"""What `import tenet` offers: names that are imported when they are first used."""

import copy
import inspect
import pickle
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import tenet
from tenet.enhance.enhance import enhance_array
from tenet.errors import TenetError
from tenet.io.intensities import normalise
from tenet.io.open import open_stack
from tenet.model.store import save_model
from tenet.model.tenet import TENET
from tenet.model.trained import TrainedModel
from tenet.settings.load import PACKAGED, load_experiment
from tenet.settings.schema import Experiment
from tenet.tasks.arrays import enhance

VOXELS = (1.0, 0.31, 0.31)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that nothing was taught, of scale 3."""
    folder = tmp_path_factory.mktemp("model")
    network = TENET(tiny().params)
    network.initialise(np.random.default_rng(0))
    save_model(folder, network, tiny(), {"kind": "pretrain"})
    return folder


def tiny() -> Experiment:
    params = {"hidden_channels_list": [4, 8], "size_z": 15, "size_y": 7, "size_x": 7}
    params |= {"deconvolution_steps": 3, "nipsf_loss_target": 1e-3}
    return load_experiment(
        "scale3", overlays=["demo"], settings={"params": params}, folder=PACKAGED
    )


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rng = np.random.default_rng(1)
    return (100 + 3000 * rng.random((6, 24, 20)) ** 4).astype(np.uint16)


def test_every_public_name_is_there() -> None:
    for name in tenet.__all__:
        assert getattr(tenet, name) is not None
        assert name in dir(tenet)
    assert tenet.open_stack is open_stack
    assert tenet.__version__ == version("tenet")
    with pytest.raises(AttributeError, match="module 'tenet' has no attribute 'enhence'"):
        _ = tenet.enhence  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "first", ["pass", "import tenet.enhance.tiles", "from tenet.enhance import enhance"]
)
def test_enhance_can_be_called_whatever_was_imported_before(first: str) -> None:
    code = f"{first}\nimport tenet\ntenet.enhance\nfrom tenet import enhance\n"
    code += "import tenet.enhance.enhance as module\nassert module.enhance_stack\n"
    code += "try: enhance([[1]], 'none')\nexcept tenet.enhance.enhance.TenetError as e: print(e)\n"
    code += "try: tenet.enhance('none.tif', 'none')\n"
    code += "except tenet.enhance.enhance.TenetError as e: print(e)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    first_line, second_line = done.stdout.splitlines()
    assert first_line == "an array of shape (1, 1) is no stack; give Z, Y, X"
    assert "none.tif" in second_line


def test_enhance_goes_to_other_processes() -> None:
    """As in ``pool.map(partial(tenet.enhance, model="models/cells"), files)``."""
    sent = partial(tenet.enhance, model="models/cells")
    assert pickle.loads(pickle.dumps(sent)).func is tenet.enhance
    assert copy.deepcopy(sent).func is tenet.enhance


def test_an_editor_is_shown_what_enhance_takes() -> None:
    assert inspect.signature(tenet.enhance) == inspect.signature(enhance)


def test_an_array_becomes_what_its_file_becomes(
    model: Path, image: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "stack.npy", image)
    shape, brightness = tenet.enhance(image, model, voxel_size_um=VOXELS, device="cpu")
    assert shape.shape == brightness.shape == (18, 24, 20)
    assert shape.dtype == brightness.dtype == np.float32
    for volume in (shape, brightness):
        assert 0 <= volume.min() <= volume.max() <= 1
    from_file = tenet.enhance(tmp_path / "stack.npy", model, voxel_size_um=VOXELS, device="cpu")
    assert np.array_equal(from_file.shape, shape)
    assert np.array_equal(from_file.brightness, brightness)
    # As what the command line calls makes of it.
    trained = TrainedModel.load(model)
    stack = open_stack(tmp_path / "stack.npy")
    scaled = normalise(stack.read(), trained.intensity_range(stack))
    expected = enhance_array(trained.network, scaled)
    assert np.array_equal(expected[0], shape)


def test_other_voxels_than_the_models_are_warned_of(model: Path, image: np.ndarray) -> None:
    with pytest.warns(UserWarning, match="array: the stack's voxels are 2 × 0.31 × 0.31 µm"):
        tenet.enhance(image, model, voxel_size_um=(2.0, 0.31, 0.31), device="cpu")


def test_what_cannot_be_enhanced_is_said_in_one_line(
    model: Path, image: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "stack.npy", image)
    holes = image.astype(np.float32)
    holes[0, 0, 0] = np.inf
    for stack, options, said in (
        (image, {}, "array does not say its voxel size: give voxel_size_um"),
        (tmp_path / "stack.npy", {}, "does not say its voxel size: give voxel_size_um"),
        (image[0], {"voxel_size_um": VOXELS}, r"shape \(24, 20\) is no stack"),
        (image[:0], {"voxel_size_um": VOXELS}, "is no stack"),
        (holes, {"voxel_size_um": VOXELS}, "infinite intensities"),
        (image * 1j, {"voxel_size_um": VOXELS}, "not real numbers"),
        (image, {"voxel_size_um": VOXELS, "channel": 1}, "are for files"),
        (image, {"voxel_size_um": (1e-6, 3e-7, 3e-7)}, "array"),
        (image, {"voxel_size_um": VOXELS, "align": True}, "no alignment network"),
    ):
        with pytest.raises(TenetError, match=said) as error:
            tenet.enhance(stack, model, device="cpu", **options)
        assert "\n" not in str(error.value)
    (tmp_path / "model.pt").touch()
    for folder, said in (
        (tmp_path, "is not a model: .*give the folder that a training wrote"),
        (tmp_path / "nothing", "is not a model: .*there is no such folder"),
        (tmp_path / "model.pt", "is a file, and a model is a folder: .*tenet import-weights"),
    ):
        with pytest.raises(TenetError, match=said):
            tenet.enhance(image, folder, voxel_size_um=VOXELS)
