"""The encoders: shapes, what sizes they take, and that every weight learns."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from tenet.errors import TenetError
from tenet.model.tenet import TENET
from tenet.networks.aligner import AlignmentNet
from tenet.networks.blocks import Dropout, checkpoint_blocks, hill
from tenet.networks.cells import CELL, CellNet
from tenet.networks.coarse import CoarseNet
from tenet.networks.convolution import half_precision
from tenet.networks.encoder import Encoder
from tenet.networks.jnet import JNet
from tenet.settings.schema import ModelParams, parse_params

NETWORKS = {"jnet": JNet, "coarse": CoarseNet, "cells": CellNet}


def params(**changes: Any) -> ModelParams:
    base = {
        "NA": 0.7, "wavelength": 0.9, "res_lateral": 0.1, "res_axial": 0.3, "scale": 3,
        "size_z": 21, "size_y": 5, "size_x": 5, "hidden_channels_list": [2, 4],
        "psf_sampling": "continuous", "poisson_weight": 0.01, "sig_eps": 0.01,
    }  # fmt: skip
    return parse_params(base | changes)


def image(encoder: Encoder, multiple: tuple[int, int, int] = (1, 1, 1)) -> torch.Tensor:
    """The smallest stack that fits, or a multiple of it."""
    z, y, x = (
        m * math.lcm(d, s)
        for m, d, s in zip(multiple, encoder.divisor_zyx, (encoder.scale, 1, 1), strict=True)
    )
    return torch.rand(1, 1, z // encoder.scale, y, x, generator=torch.Generator().manual_seed(0))


def test_hill() -> None:
    x = torch.tensor([0.0, 0.04, 0.25, 1.0, -0.1])
    assert torch.allclose(hill(x), torch.tensor([0.0, 0.4 / 1.2, 1 / 1.5, 1.0, 0.0]))
    ramp = hill(torch.linspace(0, 1, 100))
    assert (ramp.diff() > 0).all()
    assert (ramp >= torch.linspace(0, 1, 100)).all()  # it lifts what is dim


@pytest.mark.parametrize("scale", [1, 3, 10, 12])
@pytest.mark.parametrize("network", NETWORKS)
def test_shapes(network: str, scale: int) -> None:
    encoder = NETWORKS[network]((2, 4, 4), scale).eval()
    stack = image(encoder, (2, 1, 3))
    with torch.no_grad():
        encoded = encoder(stack)
    fine = (1, 1, stack.shape[2] * scale, *stack.shape[3:])
    assert encoded.shape_logits.shape == fine
    assert encoded.brightness_logits.shape == fine
    planes = encoded.features.shape[2]
    assert encoded.features.shape[3:] == stack.shape[3:]
    if network == "cells":
        assert planes * CELL == math.ceil(fine[2] / CELL) * CELL
    else:
        assert planes == (fine if network == "jnet" else stack.shape)[2]
    assert not torch.equal(encoded.shape_logits, encoded.brightness_logits)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("levels", "scale"), list(itertools.product([1, 2, 3, 4, 5], [1, 2, 3, 4, 8, 10, 12]))
)
def test_divisors_of_settings_are_those_of_the_network(
    network: str, levels: int, scale: int
) -> None:
    channels = (1,) * levels
    settings = params(network=network, hidden_channels_list=list(channels), scale=scale)
    encoder = NETWORKS[network](channels, scale, n_blocks=1)
    z, y, x = encoder.divisor_zyx
    assert settings.divisor_zyx == (math.lcm(z, scale), y, x)
    # And the network does take that size; levels that pool give back what they took.
    if levels <= 4:
        with torch.no_grad():
            stack = torch.zeros(1, 1, settings.divisor_zyx[0] // scale, y, x)
            logits = encoder.eval()(stack).shape_logits
        assert logits.shape[2:] == settings.divisor_zyx


@pytest.mark.parametrize(
    ("network", "axis"),
    [pair for pair in itertools.product(NETWORKS, (0, 1, 2)) if pair != ("cells", 0)],
)
def test_size_that_does_not_fit_is_refused(network: str, axis: int) -> None:
    encoder = NETWORKS[network]((2, 2, 2), 3)
    shape = list(image(encoder).shape)
    shape[2 + axis] += 1
    with pytest.raises(TenetError, match="must be divisible"):
        encoder(torch.zeros(shape))


@pytest.mark.parametrize("network", NETWORKS)
def test_gradient_reaches_every_parameter(network: str) -> None:
    attention = {"attn_list": [False, True, True]} if network == "jnet" else {}
    settings = params(network=network, hidden_channels_list=[8, 8, 8], **attention)
    model = TENET(settings)
    model.initialise(np.random.default_rng(0))
    stack = image(model.encoder, (2, 2, 2))
    enhanced = model.train()(stack)
    target = torch.rand(enhanced["reconstruction"].shape) * 0.5
    loss = (enhanced["reconstruction"] - target).square().mean()
    loss = loss + model.noise.variance(enhanced["reconstruction"]).mean() + enhanced["psf_loss"]
    loss = loss + enhanced["brightness"].mean() + enhanced["shape_probability"].square().mean()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # Convolutions before batch normalisation have biases that it takes out again. The last
        # layer of the correction of the PSF starts at 0, and so no gradient passes it.
        behind = name.startswith("psf.correction") and not name.startswith("psf.correction.4")
        if name.endswith("conv1.bias") or "in_proj_bias" in name or behind:
            continue
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("network", NETWORKS)
def test_dropout_acts_in_training_alone(network: str) -> None:
    encoder = NETWORKS[network]((2, 4), 3, dropout=0.5)
    stack = image(encoder, (2, 4, 4))
    with torch.no_grad():
        encoder.train()
        assert not torch.equal(encoder(stack).features, encoder(stack).features)
        encoder.eval()
        assert torch.equal(encoder(stack).features, encoder(stack).features)


def test_dropout_keeps_the_right_part_and_the_mean() -> None:
    dropout = Dropout(0.25)
    x = torch.ones(2, 8, 9, 10, 11).contiguous(memory_format=torch.channels_last_3d)
    x.requires_grad_()
    torch.manual_seed(0)
    out = dropout(x)
    torch.manual_seed(0)
    assert torch.equal(out, dropout(x))
    assert out.detach().unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert float(out.detach().mean()) == pytest.approx(1, abs=0.02)
    assert float(out[:, :4].detach().mean()) == pytest.approx(1, abs=0.03)  # everywhere alike
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())  # of ones: what passes, and by how much
    assert torch.equal(dropout.eval()(x), x)


def test_jnet_commutes_with_shifts_of_a_whole_period() -> None:
    """Away from the border the network does the same everywhere."""
    encoder = JNet((2, 4), 3, n_blocks=1).eval()
    stack = torch.zeros(1, 1, 24, 44, 44)
    stack[..., 10:12, 20:22, 20:24] = 1
    shifted = stack.roll((2, 2, 2), (2, 3, 4))
    with torch.no_grad():
        first, second = encoder(stack).shape_logits, encoder(shifted).shape_logits
    inner = (slice(None), slice(None), slice(30, 42), slice(18, 26), slice(18, 26))
    assert torch.allclose(first.roll((6, 2, 2), (2, 3, 4))[inner], second[inner], atol=1e-5)


def test_attention_needs_as_many_entries_as_levels_and_divisible_channels() -> None:
    with pytest.raises(TenetError, match="attn_list has 1 entries for 2 levels"):
        JNet((8, 8), 3, attention=(True,))
    with pytest.raises(TenetError, match="divisible by 8, not 4"):
        JNet((4, 8), 3, attention=(True, False))


def test_attention_sees_the_whole_level() -> None:
    """A change in one corner reaches the opposite one, which convolutions alone cannot."""

    def reach(attention: tuple[bool, ...]) -> float:
        torch.manual_seed(0)
        encoder = JNet((8, 8), 2, n_blocks=1, attention=attention).eval()
        stack = torch.zeros(1, 1, 24, 32, 32)
        other = stack.clone()
        other[..., 0, 0, 0] = 1
        with torch.no_grad():
            difference = encoder(stack).features - encoder(other).features
        return difference[..., -1, -1, -1].abs().max().item()

    assert reach((False, False)) == 0
    assert reach((False, True)) > 0


# The model around the encoder


def test_quantisation_is_straight_through() -> None:
    model = TENET(params(threshold=0.4))
    probability = torch.tensor([0.1, 0.39, 0.41, 0.9], requires_grad=True)
    quantised = model.quantise(probability)
    assert torch.allclose(quantised, torch.tensor([0.0, 0.0, 1.0, 1.0]), atol=1e-6)
    (quantised * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert torch.equal(probability.grad, torch.tensor([1.0, 2.0, 3.0, 4.0]))


@pytest.mark.parametrize("attention", [False, True])
def test_initialisation_depends_on_the_generator_alone(attention: bool) -> None:
    def weights(global_seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(global_seed)
        model = TENET(params(hidden_channels_list=[8, 8], attn_list=[False, attention]))
        model.initialise(np.random.default_rng(7))
        return model.state_dict()

    first, second = weights(1), weights(2)
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert different == []


def test_half_precision_changes_little_and_leaves_the_physics_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tenet.networks.convolution.faster_in_float32", lambda device: False)
    model = TENET(params())
    model.initialise(np.random.default_rng(0))
    model.eval()
    stack = image(model.encoder, (2, 4, 4))
    with torch.no_grad():
        full = model(stack)
        model.half_precision = True
        half = model(stack)
    assert half["shape_logits"].dtype == torch.bfloat16
    assert half["reconstruction"].dtype == torch.float32
    difference = (full["shape_probability"] - half["shape_probability"]).abs().max()
    assert 0 < difference < 0.03
    assert torch.equal(full["psf_loss"], half["psf_loss"])


def test_outputs_lie_where_they_should() -> None:
    model = TENET(params())
    model.initialise(np.random.default_rng(0))
    stack = image(model.encoder, (2, 4, 4))
    with torch.no_grad():
        enhanced = model.eval()(stack)
        without = model(stack, reconstruct=False)
    assert set(enhanced["shape"].unique().tolist()) <= {0.0, 1.0}
    assert enhanced["reconstruction"].shape == stack.shape
    for key in ("shape_probability", "brightness", "reconstruction"):
        assert enhanced[key].min() >= 0
        assert enhanced[key].max() <= 1
    assert torch.equal(enhanced["shape"], without["shape"])
    assert without["reconstruction"].numel() == 0


@pytest.mark.parametrize("estimates", [1, 2])
@pytest.mark.parametrize("network", ["jnet", "coarse"])
def test_planes_of_an_estimate_lie_on_those_of_the_image(network: str, estimates: int) -> None:
    """What the first convolution sees: the image, and next to it each estimate in its place."""
    scale, seen = 3, []
    encoder = {"jnet": JNet, "coarse": CoarseNet}[network]([4, 8], scale, estimates=estimates)
    encoder.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image, estimate = torch.rand(2, 1, 4, 8, 8), torch.rand(2, estimates, 12, 8, 8)
    encoder(image, estimate)
    (inputs,) = seen
    if network == "jnet":
        torch.testing.assert_close(inputs[:, 1:], estimate)
        return
    torch.testing.assert_close(inputs[:, :1], image)
    for number, plane in itertools.product(range(estimates), range(12)):
        channel = 1 + number * scale + plane % scale
        torch.testing.assert_close(inputs[:, channel, plane // scale], estimate[:, number, plane])


def test_cells_hold_the_fine_planes_of_image_and_estimate() -> None:
    """What the first convolution sees, with as many planes more as fill the last cells."""
    seen: list[torch.Tensor] = []
    encoder = CellNet([4, 8], 5, estimates=2)
    encoder.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image, estimate = torch.rand(1, 1, 4, 8, 8), torch.rand(1, 2, 20, 8, 8)
    encoder(image, estimate)
    planes = seen[0].unflatten(1, (3, CELL)).movedim(2, 3).flatten(2, 3)
    assert planes.shape[2] == 24
    torch.testing.assert_close(planes[:, 1:, 2:-2], estimate)
    torch.testing.assert_close(planes[:, 1:, :2], estimate[:, :, :1].expand(1, 2, 2, 8, 8))
    # Where a recorded plane lies, in the middle of its five fine ones, is what was recorded.
    torch.testing.assert_close(planes[:, :1, 2:-2][:, :, 2::5], image)


@pytest.mark.parametrize("scale", [1, 2, 4, 16])
def test_cells_take_every_scale_with_the_same_weights(scale: int) -> None:
    """A volume that is the same on the fine grid is the same to the network at every scale."""
    torch.manual_seed(0)
    encoder = CellNet([4, 8, 8], 8, estimates=1).eval()
    other = CellNet([4, 8, 8], scale, estimates=1).eval()
    other.load_state_dict(encoder.state_dict())
    estimate, dark = torch.rand(1, 1, 48, 8, 8), torch.zeros(1, 1, 48, 8, 8)
    with torch.no_grad():
        expected = encoder(dark[:, :, ::8], estimate).shape_logits
        torch.testing.assert_close(other(dark[:, :, ::scale], estimate).shape_logits, expected)
        # The scale is that of what is shown, for networks that learn at many.
        shown = encoder(dark[:, :, ::scale], estimate).shape_logits
    torch.testing.assert_close(shown, expected)


@pytest.mark.parametrize(
    ("steps", "early", "shown"),
    [(20, 8, (20, 8)), (20, None, (20,)), (8, 8, (8,)), (2, 8, (2,)), (0, 8, ()), (0, None, ())],
)
def test_an_estimate_is_early_if_it_has_fewer_steps(
    steps: int, early: int | None, shown: tuple[int, ...]
) -> None:
    settings = params(deconvolution_steps=steps, early_steps=early)
    assert settings.estimate_steps == shown


def test_fresh_alignment_leaves_a_stack_as_it_is() -> None:
    torch.manual_seed(3)
    image = 0.002 + 0.99 * torch.rand(2, 1, 3, 8, 12)
    network = AlignmentNet([2, 4, 4], n_blocks=1)
    torch.testing.assert_close(network(image), image, rtol=1e-5, atol=1e-6)
    with pytest.raises(TenetError, match="divisible by 4"):
        network(image[..., :10])


def test_alignment_looks_at_neighbouring_planes() -> None:
    """What a plane becomes depends on those beside it, and on y and x far away."""
    torch.manual_seed(4)
    network = AlignmentNet([2, 4, 4], n_blocks=1, dropout=0).eval()
    torch.nn.init.normal_(network.head[-1].weight)
    image = torch.rand(1, 1, 9, 32, 32, requires_grad=True)
    network(image)[0, 0, 4, 16, 16].backward()
    assert image.grad is not None
    reach = image.grad[0, 0].abs() > 0
    assert reach.any(dim=2).any(dim=1).sum() >= 7
    assert reach[4, 16].sum() >= 25


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("half", [False, True])
def test_checkpointed_blocks_keep_less_and_change_nothing(network: str, half: bool) -> None:
    """Not the result, nor a gradient, nor the statistics of the norms, nor what dropout draws."""
    states, kept = [], []
    for wanted in (False, True):
        torch.manual_seed(0)
        encoder = NETWORKS[network]((4, 8), 3, dropout=0.5).train()
        checkpoint_blocks(encoder, wanted)
        stack = image(encoder, (2, 4, 4))
        torch.manual_seed(1)
        alive: dict[int, int] = {}
        saved = torch.autograd.graph.saved_tensors_hooks

        def note(tensor: torch.Tensor, alive: dict[int, int] = alive) -> torch.Tensor:
            alive[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with half_precision(torch.device("cpu"), half), saved(note, lambda x: x):
            encoded = encoder(stack)
        # Convolutions of blocks that are not checkpointed keep their input by themselves.
        kept.append(sum(alive.values()))
        loss = encoded.shape_logits.float().square().mean() + encoded.features.float().mean()
        loss.backward()
        gradients = {name: p.grad for name, p in encoder.named_parameters()}
        states.append({"loss": loss, **gradients, **dict(encoder.named_buffers())})
    for name, value in states[0].items():
        other = states[1][name]
        if value is None or other is None:
            assert value is other is None, name
        else:
            torch.testing.assert_close(other, value, rtol=1e-5, atol=1e-6, msg=name)
    assert kept[1] < 0.6 * kept[0]
