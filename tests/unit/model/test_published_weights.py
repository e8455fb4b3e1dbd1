"""Published weights of every size: `from_published` against a second implementation.

The second implementation is slow and literal: plain sums in float64, from the description of the
published method alone, with the published names of the weights. It shares no code with `tenet`. It
is checked against what the published code computed before anything is checked against it.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import jv
from torch import Tensor

from tenet.errors import TenetError
from tenet.model.tenet import TENET

State = dict[str, Tensor]
EPS = 1e-5  # of batch normalisation


# The second implementation ------------------------------------------------------------------------


def conv(x: Tensor, state: State, name: str) -> Tensor:
    """Convolution that pads by replication."""
    weight = state[f"{name}.weight"]
    half = weight.shape[-1] // 2
    padded = F.pad(x, [half] * 6, mode="replicate") if half else x
    return F.conv3d(padded, weight, state[f"{name}.bias"])


def norm(x: Tensor, state: State, name: str) -> Tensor:
    """Batch normalisation of channels (dimension 1) by the stored statistics."""
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean, variance, weight, bias = (
        state[f"{name}.{part}"].view(shape)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + EPS) * weight + bias


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros_like(x))


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def blocks(x: Tensor, state: State, name: str, count: int) -> Tensor:
    """Residual blocks; dropout does nothing in evaluation."""
    for n in range(count):
        hidden = conv(relu(norm(x, state, f"{name}.{n}.bn1")), state, f"{name}.{n}.conv1")
        hidden = conv(relu(norm(hidden, state, f"{name}.{n}.bn2")), state, f"{name}.{n}.conv2")
        x = hidden + x
    return x


def linear_upsampling(x: Tensor, dim: int, factor: int) -> Tensor:
    """Linear interpolation along one axis, with the centres of voxels aligned."""
    size = x.shape[dim]
    planes = []
    for fine in range(size * factor):
        at = min(max((fine + 0.5) / factor - 0.5, 0.0), size - 1.0)
        below = int(at)
        above = min(below + 1, size - 1)
        share = at - below
        planes.append(x.select(dim, below) * (1 - share) + x.select(dim, above) * share)
    return torch.stack(planes, dim)


def level(x: Tensor, state: State, name: str, depth: int, count: int) -> Tensor:
    """A level of the U-Net and all below it."""
    pooled = F.max_pool3d(x, 2)
    hidden = conv(relu(conv(pooled, state, f"{name}.pool.conv")), state, f"{name}.conv")
    hidden = blocks(hidden, state, f"{name}.prev", count)
    if depth > 1:
        hidden = level(hidden, state, f"{name}.mid", depth - 1, count)
    hidden = blocks(hidden, state, f"{name}.post", count)
    for dim in (2, 3, 4):
        hidden = linear_upsampling(hidden, dim, 2)
    return x + relu(conv(hidden, state, f"{name}.unpool.conv"))


def logits(params: Mapping[str, Any], state: State, image: Tensor) -> tuple[Tensor, Tensor]:
    """Of shape and of brightness."""
    count, depth = params["nblocks"], len(params["hidden_channels_list"]) - 1
    fine = linear_upsampling(image, 2, params["scale"])
    features = blocks(conv(fine, state, "prev0.conv"), state, "prev", count)
    if depth:
        features = level(features, state, "mid", depth, count)
    shape, brightness = (
        conv(blocks(features, state, head, count), state, f"{head}.{count}.conv")
        for head in ("postx", "postz")
    )
    return shape, brightness


def model_psf(params: Mapping[str, Any]) -> np.ndarray:
    """The theoretical PSF, (planes, radii), which the PSF network is fitted to."""
    planes = params["size_z"] // params["scale"]
    half_y, half_x = (params["size_y"] + 1) / 2, (params["size_x"] + 1) / 2
    radii = round(np.sqrt(half_y**2 + half_x**2))
    middle = (planes - 1) / 2
    if params["blur_mode"] == "gaussian":
        psf = np.zeros((planes, radii))
        for i in range(planes):
            for j in range(radii):
                z, r = (i - middle) / params["bet_z"], j / params["bet_xy"]
                psf[i, j] = np.exp(-(z**2) - r**2)
        return psf
    # Li, Xue & Blu, J. Opt. Soc. Am. A 34, 1029 (2017): the phase over the pupil as a sum of Bessel
    # functions, the field as the sum of their diffraction integrals.
    na, wavelength = params["NA"], params["wavelength"]
    indices = [params[key] for key in ("ns", "ni", "ni0", "ng", "ng0")]
    edge = min(na, *indices) / na
    rho = np.linspace(0, edge, 1000)
    sigma = na * (3 * np.arange(1, 101) - 2) * 0.436 / wavelength
    basis = jv(0, np.outer(rho, sigma))

    def root(index: str) -> np.ndarray:
        return np.sqrt(params[index] ** 2 - (na * rho) ** 2)

    psf = np.zeros((planes, radii))
    for i in range(planes):
        z = (i - middle) * params["res_axial"]
        path = params["pZ"] * root("ns")
        path = path + (z + params["ti0"]) * root("ni") - params["ti0"] * root("ni0")
        path = path + params["tg"] * root("ng") - params["tg0"] * root("ng0")
        phase = np.exp(2j * np.pi / wavelength * path)
        coefficients = np.linalg.lstsq(basis, phase, rcond=None)[0]
        for j in range(radii):
            beta = 2 * np.pi * na / wavelength * j * params["res_lateral"]
            integrals = edge * (
                sigma * jv(1, sigma * edge) * jv(0, beta * edge)
                - beta * jv(0, sigma * edge) * jv(1, beta * edge)
            )
            psf[i, j] = abs(np.sum(coefficients * integrals / (sigma**2 - beta**2))) ** 2
    return psf / psf.max()


def network_psf(state: State, planes: int, radii: int) -> Tensor:
    """The PSF network over (|z|, r) in [-1, 1]², shape (planes, radii)."""
    name = "image.blur.neuripsf.layers"
    z = torch.linspace(-1, 1, planes, dtype=torch.float64).abs()
    r = torch.linspace(-1, 1, radii, dtype=torch.float64)
    points = norm(torch.cartesian_prod(z, r), state, f"{name}.0")
    hidden = sigmoid(points @ state[f"{name}.1.weight"].T + state[f"{name}.1.bias"])
    hidden = norm(hidden, state, f"{name}.3")
    output = sigmoid(hidden @ state[f"{name}.4.weight"].T + state[f"{name}.4.bias"])
    return output.view(planes, radii)


def psf_volume(params: Mapping[str, Any], radial: Tensor) -> Tensor:
    """Nearest radius for each pixel, nearest plane for each fine plane, sum 1."""
    size_y, size_x = params["size_y"], params["size_x"]
    volume = torch.zeros(len(radial), size_y, size_x, dtype=torch.float64)
    for y in range(size_y):
        for x in range(size_x):
            r = np.hypot(y - (size_y - 1) / 2, x - (size_x - 1) / 2)
            nearest = int(np.abs(np.arange(radial.shape[1]) - r).argmin())
            volume[:, y, x] = radial[:, nearest]
    fine = F.interpolate(volume[None, None], (params["size_z"], size_y, size_x))[0, 0]
    return fine / fine.sum()


def literal(params: Mapping[str, Any], state: State, image: Tensor) -> dict[str, Tensor]:
    """What the published code computes in evaluation mode."""
    state = {name: value.double() for name, value in state.items()}
    shape, brightness = (sigmoid(x) for x in logits(params, state, image.double()))
    quantised = (shape >= params["threshold"]).double()
    result = {"quantized_loss": ((quantised - shape) ** 2).mean(), "estim_luminance": brightness}
    if params["apply_vq"] and params["use_x_quantized"]:
        shape = quantised
    expected = torch.from_numpy(model_psf(params))
    radial = network_psf(state, *expected.shape)
    psf = psf_volume(params, radial)
    ratio = params["res_axial"] // params["res_lateral"]  # of floats: 0.5 // 0.05 is 9
    padding = (
        int((params["size_z"] - ratio + 1) // 2),
        params["size_y"] // 2,
        params["size_x"] // 2,
    )
    # A sum over the voxels around each of every s-th plane, with zeros outside.
    blurred = F.conv3d(
        shape * brightness, psf[None, None], stride=(params["scale"], 1, 1), padding=padding
    )
    return result | {
        "enhanced_image": shape,
        "reconstruction": blurred.clamp(0, 1),
        "psf_loss": ((radial - expected) ** 2).mean(),
        "psf_init_rz": expected,
    }


# Weights ------------------------------------------------------------------------------------------


def shapes(params: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Published names of all weights, with their shapes."""

    def convolution(name: str, before: int, after: int, size: int) -> Iterator:
        yield f"{name}.weight", (after, before, size, size, size)
        yield f"{name}.bias", (after,)

    def norms(name: str, channels: int) -> Iterator:
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"{name}.{part}", (channels,)
        yield f"{name}.num_batches_tracked", ()

    def residual(name: str, channels: int) -> Iterator:
        for n in range(params["nblocks"]):
            for half in (1, 2):
                yield from norms(f"{name}.{n}.bn{half}", channels)
                yield from convolution(f"{name}.{n}.conv{half}", channels, channels, 3)

    channels = params["hidden_channels_list"]
    yield from (("a", ()), ("sigma", ()), ("image.log_ez0", ()))
    yield from convolution("prev0.conv", 1, channels[0], 7)
    yield from residual("prev", channels[0])
    name = ""
    for above, here in pairwise(channels):
        name = f"{name}mid."
        yield from convolution(f"{name}pool.conv", above, here, 1)
        yield from convolution(f"{name}conv", here, here, 1)
        yield from residual(f"{name}prev", here)
        yield from residual(f"{name}post", here)
        yield from convolution(f"{name}unpool.conv", here, above, 1)
    for head in ("postx", "postz"):
        yield from residual(head, channels[0])
        yield from convolution(f"{head}.{params['nblocks']}.conv", channels[0], 1, 3)
    psf, hidden = "image.blur.neuripsf.layers", params["mid"]
    yield from norms(f"{psf}.0", 2)
    yield from ((f"{psf}.1.weight", (hidden, 2)), (f"{psf}.1.bias", (hidden,)))
    yield from norms(f"{psf}.3", hidden)
    yield from ((f"{psf}.4.weight", (1, hidden)), (f"{psf}.4.bias", (1,)))


def drawn_weights(params: Mapping[str, Any], rng: np.random.Generator) -> State:
    """Weights at random, as large as in a network that learns."""
    state = {}
    for name, shape in shapes(params):
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
            continue
        values = rng.normal(size=shape)
        if name.endswith(("running_var", "weight")) and len(shape) == 1:
            values = np.exp(0.3 * values)
        elif name.endswith(".weight"):
            values = values * np.sqrt(2 / np.prod(shape[1:]))
        elif shape:
            values = 0.3 * values
        if name == "image.blur.neuripsf.layers.4.weight":
            values = 4 * values  # a PSF that is far from flat
        state[name] = torch.tensor(values, dtype=torch.float32)
    return state


def centre(params: Mapping[str, Any], state: State, image: Tensor) -> None:
    """Scale and shift both heads, so that shape and brightness are neither all 0 nor all 1.

    The threshold comes into the widest gap between the middle half of all voxels: rounding changes
    no voxel of the shape.
    """
    heads = [f"{head}.{params['nblocks']}.conv" for head in ("postx", "postz")]
    for shifted in (False, True):
        double = {name: value.double() for name, value in state.items()}
        for head, values in zip(heads, logits(params, double, image.double()), strict=True):
            if not shifted:
                state[f"{head}.weight"] *= 2 / values.std().float()
            else:
                state[f"{head}.bias"] -= values.median().float()
    shape, _ = logits(params, {n: v.double() for n, v in state.items()}, image.double())
    values = shape.flatten().sort().values
    middle = values[len(values) // 4 : 3 * len(values) // 4]
    widest = int((middle[1:] - middle[:-1]).argmax())
    threshold = np.log(params["threshold"] / (1 - params["threshold"]))
    shift = threshold - (middle[widest] + middle[widest + 1]) / 2
    state[f"{heads[0]}.bias"] += shift.float()


# Settings -----------------------------------------------------------------------------------------

BASE: dict[str, Any] = {
    "hidden_channels_list": [4, 8],
    "nblocks": 1,
    "threshold": 0.5,
    "apply_vq": True,
    "use_x_quantized": True,
    "blur_mode": "gibsonlanni",
    "size_z": 31,
    "size_y": 11,
    "size_x": 11,
    "NA": 0.5,
    "wavelength": 0.9,
    "ns": 1.4,
    "ng0": 1.5,
    "ng": 1.5,
    "ni0": 1.33,
    "ni": 1.33,
    "ti0": 150,
    "tg0": 170,
    "tg": 170,
    "res_lateral": 0.31,
    "res_axial": 1.0,
    "pZ": 0,
    "bet_z": 5.0,
    "bet_xy": 3.0,
    "scale": 3,
    "mid": 12,
    "poisson_weight": 0.01,
    "sig_eps": 0.02,
}
#: What each setting has that the reference files lack, and the stack (Z, Y, X).
SETTINGS: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "eleven pixels, where the rounding of the number of radii tells": ({}, (6, 12, 10)),
    "35 pixels, as above": ({"size_y": 35, "size_x": 35, "size_z": 15}, (4, 16, 12)),
    "the microglia's microscope": (
        {"scale": 12, "size_z": 61, "size_y": 9, "size_x": 9, "NA": 0.24, "wavelength": 0.72}
        | {"ni": 1.5, "ni0": 1.5, "res_lateral": 1, "res_axial": 12},
        (3, 10, 12),
    ),
    # Numbers of planes with which the padding differs from that of the true ratio.
    "0.5 // 0.05 is 9": (
        {"scale": 10, "size_z": 52, "res_lateral": 0.05, "res_axial": 0.5, "NA": 0.7},
        (3, 12, 12),
    ),
    "0.3 // 0.1 is 2": (
        {"scale": 3, "size_z": 21, "res_lateral": 0.1, "res_axial": 0.3},
        (6, 8, 8),
    ),
    "2.4 // 0.2 is 11, planes that 12 does not divide": (
        {"scale": 12, "size_z": 68, "res_lateral": 0.2, "res_axial": 2.4},
        (2, 8, 10),
    ),
    "a ratio below the scale": (
        {"scale": 5, "size_z": 33, "res_lateral": 0.3, "res_axial": 1.3},
        (4, 8, 8),
    ),
    "a stack as coarse as fine": (
        {"scale": 1, "size_z": 9, "res_lateral": 0.4, "res_axial": 0.4},
        (12, 8, 10),
    ),
    "a PSF larger than the stack": (
        {"size_z": 91, "size_y": 27, "size_x": 27},
        (4, 8, 8),
    ),
    "rows and columns that differ": ({"size_y": 7, "size_x": 15}, (4, 10, 14)),
    "one column": ({"size_y": 9, "size_x": 1}, (4, 8, 8)),
    "one pixel": ({"size_y": 1, "size_x": 1}, (4, 8, 8)),
    "two planes": ({"size_z": 6}, (4, 8, 8)),
    "one level": ({"hidden_channels_list": [6], "threshold": 0.3}, (5, 7, 9)),
    "four levels": ({"hidden_channels_list": [2, 4, 6, 8], "nblocks": 2}, (8, 16, 8)),
    "three blocks, a high threshold": ({"nblocks": 3, "threshold": 0.8}, (4, 8, 8)),
    "a shape that is not quantised": ({"use_x_quantized": False}, (4, 8, 8)),
    "a Gaussian": ({"blur_mode": "gaussian", "bet_z": 2.0, "size_z": 24, "scale": 4}, (4, 8, 8)),
    "aberrations": ({"pZ": 30, "ni": 1.34, "tg": 160, "ng": 1.52, "NA": 0.9}, (4, 8, 8)),
    "an index below the NA": ({"ns": 1.0, "ni": 1.4, "ni0": 1.4, "NA": 1.1}, (4, 8, 8)),
}


def seeded_settings(seed: int) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """Settings at random, of a kind that the published code runs with."""
    rng = np.random.default_rng(seed)
    while True:
        scale = int(rng.integers(2, 13))
        lateral = float(rng.choice([0.05, 0.1, 0.2, 0.3, 0.31, 0.5, 0.7]))
        width = 2 * int(rng.integers(1, 12)) + 1
        levels = int(rng.integers(1, 4))
        change = {
            "scale": scale,
            "res_lateral": lateral,
            # As in files of users: decimals, not products of floats.
            "res_axial": round(lateral * scale, 3),
            "size_z": int(rng.integers(2 * scale, 7 * scale)),
            "size_y": width,
            "size_x": width,
            "hidden_channels_list": [int(n) for n in rng.integers(2, 7, levels)],
            "nblocks": int(rng.integers(1, 3)),
            "threshold": float(rng.choice([0.2, 0.4, 0.5, 0.6, 0.75])),
            "mid": int(rng.integers(4, 41)),
            "NA": float(rng.uniform(0.2, 1.0)),
            "wavelength": float(rng.uniform(0.5, 1.1)),
            "blur_mode": str(rng.choice(["gibsonlanni", "gaussian"])),
        }
        across = 2 ** (levels - 1) * int(rng.integers(2, 4))
        return change, (4, across, across)


CASES = SETTINGS | {f"seed {seed}": seeded_settings(seed) for seed in range(8)}


# Comparisons --------------------------------------------------------------------------------------


def assert_equal(found: Tensor, expected: Tensor, what: str, tolerance: float = 1e-4) -> None:
    """Equal to `tolerance` of the largest expected value."""
    assert found.shape == expected.shape, what
    error = (found.double() - expected.double()).abs().max() / expected.double().abs().max()
    assert error <= tolerance, f"{what} is off by {error:.2g} of its largest value"


def compare(params: Mapping[str, Any], weights: Path, image: Tensor, expected: dict) -> None:
    model = TENET.from_published(params, weights)
    with torch.no_grad():
        found = model(image)
    assert_equal(model.initial_psf, expected["psf_init_rz"], "psf_init_rz", 1e-5)
    names = {"enhanced_image": "shape", "estim_luminance": "brightness"}
    for key in (
        "enhanced_image",
        "estim_luminance",
        "reconstruction",
        "quantized_loss",
        "psf_loss",
    ):
        assert_equal(found[names.get(key, key)], expected[key], key)  # type: ignore[literal-required]


@pytest.mark.parametrize("name", ["beads_tiny", "fig2_tiny", "gauss_tiny"])
def test_the_second_implementation_computes_what_the_published_code_did(
    shared: Path, name: str
) -> None:
    folder = shared / "reference"
    params = json.loads((folder / f"{name}_params.json").read_text())
    state = torch.load(folder / f"{name}.pt", weights_only=True)
    with np.load(folder / f"{name}.npz", allow_pickle=False) as values:
        reference = {key: torch.from_numpy(values[key]) for key in values}
    computed = literal(params, state, reference["image"])
    for key, value in computed.items():
        assert_equal(value, reference[key], key, 1e-5 if key == "psf_init_rz" else 1e-4)
    assert dict(shapes(params)).keys() == state.keys()


@pytest.mark.parametrize("name", CASES)
def test_weights_of_every_size(tmp_path: Path, name: str) -> None:
    change, zyx_shape = CASES[name]
    params = BASE | change
    rng = np.random.default_rng(sum(map(ord, name)))
    state = drawn_weights(params, rng)
    image = torch.tensor(rng.random((1, 1, *zyx_shape)), dtype=torch.float32)
    centre(params, state, image)
    torch.save(state, tmp_path / "weights.pt")
    expected = literal(params, state, image)
    share = (expected["enhanced_image"] >= params["threshold"]).double().mean()
    assert 0.2 < share < 0.8
    light = expected["reconstruction"]
    assert light.shape == image.shape
    assert 1e-3 < light.mean() < 0.99
    assert light.std() > 0.01 * light.mean()
    compare(params, tmp_path / "weights.pt", image, expected)


def test_a_stack_of_other_planes_than_it_had_is_refused(tmp_path: Path) -> None:
    """In which the published code's loss fails: the reconstruction cannot be compared."""
    params = BASE | {"scale": 10, "size_z": 119, "res_lateral": 1.3, "res_axial": 14.3}
    state = drawn_weights(params, np.random.default_rng(0))
    image = torch.rand(1, 1, 4, 8, 8)
    assert literal(params, state, image)["reconstruction"].shape[2] == 3
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(TenetError, match="has other planes than the raw one"):
        TENET.from_published(params, tmp_path / "weights.pt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size_x": 10}, "size_y, size_x are 11, 10; both must be odd"),
        ({"size_z": 5}, "size_z 5 holds fewer than two coarse planes of 3"),
        ({"res_axial": 0.2}, "res_axial 0.2 is finer than res_lateral 0.31 µm"),
        ({"superres": False}, "superres: Input should be True"),
        ({"attn_list": [False, True]}, "holds weights of another architecture"),
        ({"nblocks": 2}, "holds weights of another architecture"),
    ],
)
def test_settings_that_cannot_work_get_a_line(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "weights.pt"
    torch.save(drawn_weights(BASE, np.random.default_rng(0)), path)
    TENET.from_published(BASE, path)
    with pytest.raises(TenetError, match=said) as error:
        TENET.from_published(BASE | change, path)
    assert "\n" not in str(error.value)
