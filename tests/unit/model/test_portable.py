"""A model as TorchScript gives what the model gives, at every size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.fft import next_fast_len
from small_models import EVERY, random_model

from tenet.enhance.enhance import enhance_array
from tenet.errors import TenetError
from tenet.model.portable import band_limited, fast_length, from_torchscript, to_torchscript
from tenet.model.tenet import TENET
from tenet.physics.blur import LOST, WRAPPED, BandLimitedBlur
from tenet.settings.schema import parse_experiment

ROOT = Path(__file__).parents[3]


def cells(**params: object) -> TENET:
    torch.manual_seed(0)
    return TENET(parse_experiment({**EVERY, "params": EVERY["params"] | params}).params).eval()


@pytest.mark.parametrize(
    "model",
    [
        random_model(),
        random_model(deconvolution_steps=4),
        random_model(
            network="coarse", hidden_channels_list=[4, 4, 8, 8], deconvolution_steps=5,
            early_steps=2,
        ),
        cells(),
        cells(scale=6, res_axial=0.72, brightness="log"),
        random_model(hidden_channels_list=[2, 4, 8], attn_list=[False, False, True]),
    ],
    ids=["jnet", "jnet deconvolved", "coarse", "cells", "cells log", "attention"],
)  # fmt: skip
def test_any_size_is_enhanced_as_by_the_model(model: TENET) -> None:
    script = from_torchscript(to_torchscript(model))
    rng = np.random.default_rng(0)
    for zyx_shape in ((5, 9, 11), (3, 16, 24), (9, 25, 26)):
        images = rng.random((2, *zyx_shape), np.float32) ** 4
        with torch.no_grad():
            found = script(torch.from_numpy(images)[:, None]).numpy()
        expected = np.stack([np.stack(enhance_array(model, image)) for image in images])
        assert found.shape == (2, 2, zyx_shape[0] * model.params.scale, *zyx_shape[1:])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())


@pytest.mark.parametrize("zyx_shape", [(3, 16, 16), (6, 40, 32), (24, 64, 80), (2, 8, 8)])
def test_the_blur_is_that_of_the_deconvolution(zyx_shape: tuple[int, int, int]) -> None:
    model = random_model()
    scale, psf = model.params.scale, model.psf().detach()
    planes, rows, columns = zyx_shape
    expected = BandLimitedBlur.of(model.blur((planes * scale, rows, columns)))
    first = (scale - 1 + len(psf) - 1) // 2
    image = torch.zeros(1, 1, *zyx_shape)
    found = band_limited(image, psf, scale, first, LOST, WRAPPED)
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, theirs, rtol=0, atol=1e-6)


def test_lengths_of_transforms_are_those_of_scipy() -> None:
    lengths = range(1, 2000)
    assert [fast_length(n) for n in lengths] == [next_fast_len(n) for n in lengths]


def test_a_deconvolution_with_the_published_sampling_is_refused() -> None:
    model = random_model(psf_sampling="lookup", deconvolution_steps=3)
    with pytest.raises(TenetError, match=r"psf_sampling lookup: only continuous is exported"):
        to_torchscript(model)


def test_nothing_tells_where_the_code_was() -> None:
    """Source files, folders of a user, and dates stay out."""
    content = to_torchscript(random_model())
    assert b".debug_pkl" not in content
    assert str(ROOT).encode() not in content
