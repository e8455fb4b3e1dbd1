"""Every value that the published code was seen to compute, and weights that must be refused."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tenet.errors import TenetError
from tenet.learn.losses import luminance_prior, mrf_loss, reconstruction_loss
from tenet.model.tenet import TENET
from tenet.model.weights import read_weights
from tenet.networks.blocks import hill
from tenet.settings.schema import parse_params

CASES = ("beads_tiny", "fig2_tiny", "gauss_tiny")
ENERGIES = {"a": (-0.5, 0.5, 1, -1), "b": (-1, 0, 0, -1), "c": (0.3, 0.7, -0.2, 0.9)}


class Case:
    """One published model with what it computed."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.params: dict[str, Any] = json.loads((folder / f"{name}_params.json").read_text())
        self.weights = folder / f"{name}.pt"
        with np.load(folder / f"{name}.npz", allow_pickle=False) as values:
            self.values = {key: torch.from_numpy(values[key]) for key in values}
        self.model = TENET.from_published(self.params, self.weights)
        with torch.no_grad():
            self.enhanced = self.model(self.values["image"])

    def check(self, key: str, value: Tensor | float, tolerance: float = 1e-4) -> None:
        """Equal to the reference to `tolerance` of its largest value."""
        expected, value = self.values[key], torch.as_tensor(value)
        assert value.shape == expected.shape, key
        error = (value - expected).abs().max() / expected.abs().max()
        assert error <= tolerance, f"{self.name} {key}: off by {error:.2g} of its largest value"


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, shared: Path) -> Case:
    return Case(shared / "reference", request.param)


def test_model(case: Case) -> None:
    enhanced = case.enhanced
    case.check("enhanced_image", enhanced["shape"])
    case.check("estim_luminance", enhanced["brightness"])
    case.check("reconstruction", enhanced["reconstruction"])
    case.check("mid", enhanced["features"])
    case.check("quantized_loss", enhanced["quantized_loss"])
    case.check("psf_loss", enhanced["psf_loss"])
    case.check("poisson_weight", case.model.noise.a)
    case.check("gaussian_sigma", case.model.noise.sigma)


def test_reference_is_not_trivial(case: Case) -> None:
    """Shape has both values, or the comparison would hold for a constant."""
    shape = case.values["enhanced_image"]
    assert 0.001 < shape.mean() < 0.999
    assert case.values["estim_luminance"].std() > 1e-3


def test_psf(case: Case) -> None:
    psf = case.model.psf
    case.check("psf_init_rz", case.model.initial_psf, 1e-5)
    # The published volume has coarse planes; the fine ones repeat them by nearest neighbour.
    coarse = psf.radial()[:, psf.radius_index]
    case.check("psf_3d_coarse", coarse / coarse.sum(), 1e-5)
    fine = psf()
    repeated = F.interpolate(case.values["psf_3d_coarse"][None, None], tuple(fine.shape))[0, 0]
    expected = repeated / repeated.sum()
    assert (fine - expected).abs().max() <= 1e-5 * expected.max()
    assert fine.sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("energies", sorted(ENERGIES))
def test_mrf(case: Case, energies: str, dilation: int) -> None:
    value = mrf_loss(case.values["mrf_input"], *ENERGIES[energies], dilation=dilation)
    case.check(f"mrf_{energies}_dilation{dilation}", value)


def test_losses(case: Case) -> None:
    values = case.values
    case.check("lum_prior", luminance_prior(values["lum_input"]))
    reconstruction = values["rec_input"]
    variance = values["rec_a"] * reconstruction + values["rec_sigma"]
    case.check("rec_nll", reconstruction_loss(reconstruction, values["rec_target"], variance))
    case.check("hill_out", hill(values["hill_in"]))


def test_published_channels_have_19_million_parameters() -> None:
    params = {"NA": 0.7, "wavelength": 0.9, "res_lateral": 0.05, "res_axial": 0.5, "scale": 10}
    encoder = TENET(parse_params(params)).encoder
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(19.08, abs=0.005)


# Files of weights


def test_estimates_in_users_files_are_left_out(shared: Path, tmp_path: Path) -> None:
    case = Case(shared / "reference", "fig2_tiny")
    state = read_weights(case.weights)
    state |= {f"{name}_estimated_mean": value for name, value in list(state.items())}
    state |= {"prev0_conv_weight_estimated_fisher": torch.zeros(3)}
    torch.save(state, tmp_path / "weights.pt")
    model = TENET.from_published(case.params, tmp_path / "weights.pt")
    with torch.no_grad():
        again = model(case.values["image"])
    assert torch.equal(again["reconstruction"], case.enhanced["reconstruction"])


@pytest.mark.parametrize(
    "other", [{"hidden_channels_list": [4, 8, 16, 32], "attn_list": []}, {"nblocks": 1}, {"mid": 8}]
)
def test_weights_of_another_architecture(shared: Path, other: dict[str, Any]) -> None:
    folder = shared / "reference"
    params = json.loads((folder / "beads_tiny_params.json").read_text()) | other
    with pytest.raises(TenetError, match=r"beads_tiny\.pt holds weights of another architecture"):
        TENET.from_published(params, folder / "beads_tiny.pt")


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["whole", "beside-weights"])
def test_code_in_weights_is_not_run(tmp_path: Path, legacy: bool, wrapped: bool) -> None:
    marker, path = tmp_path / "ran", tmp_path / "weights.pt"
    attack = Attack(f"touch {marker}")
    content = {"a": torch.zeros(2), "b": attack} if wrapped else attack
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(TenetError, match="holds code, which is never run"):
        read_weights(path)
    assert not marker.exists()
    # The attack is a real one: whoever does unpickle it runs the command.
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_bare_pickle_is_not_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(Attack(f"touch {marker}")))
    with pytest.raises(TenetError, match=r"weights\.pt"):
        read_weights(path)
    assert not marker.exists()


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_truncated_weights(tmp_path: Path, kept: float, legacy: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.arange(5000.0)}, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(TenetError, match=r"weights\.pt") as error:
        read_weights(path)
    assert "\n" not in str(error.value)


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(TenetError, match="no weights at"):
        read_weights(tmp_path / "weights.pt")
    with pytest.raises(TenetError, match="this is a folder"):
        read_weights(tmp_path)
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(TenetError, match="holds a Tensor, not a dictionary"):
        read_weights(tmp_path / "tensor.pt")
    (tmp_path / "image.pt").write_bytes(b"II*\x00" + bytes(100))
    with pytest.raises(TenetError, match=r"image\.pt"):
        read_weights(tmp_path / "image.pt")
