"""Norms of a network that are fixed to the stack which is enhanced."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_models import EVERY

from tenet.enhance.enhance import enhance_array
from tenet.enhance.stack_norms import norms_of_stack
from tenet.model.tenet import TENET
from tenet.networks.norms import StackNorm
from tenet.settings.schema import parse_params

Image = NDArray[np.float32]


@pytest.fixture
def model() -> TENET:
    torch.manual_seed(0)
    return TENET(parse_params(EVERY["params"] | {"norm": "stack"}, where="params")).eval()


@pytest.fixture
def sparse() -> Image:
    """Noise, and a bright bar in one corner: 8 planes of 192 × 192 pixels."""
    image = np.random.default_rng(0).uniform(0, 0.05, (8, 192, 192)).astype(np.float32)
    image[3:5, 8:16, 4:56] = 1
    return image


def statistics(model: TENET, image: Image) -> torch.Tensor:
    with norms_of_stack(model, lambda *part: image[part], image.shape):
        norm = next(m for m in model.modules() if isinstance(m, StackNorm))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        return torch.cat([norm.running_mean, norm.running_var]).clone()


def test_a_result_does_not_depend_on_how_the_stack_is_cut(model: TENET, sparse: Image) -> None:
    whole, _ = enhance_array(model, sparse, tile_zyx_shape=sparse.shape)
    tiled, _ = enhance_array(model, sparse, tile_zyx_shape=(8, 144, 144))
    assert whole.std() > 0.02
    assert np.abs(whole - tiled).max() < 0.02 * np.ptp(whole)


def test_parts_with_the_most_signal_count(model: TENET, sparse: Image) -> None:
    corner = statistics(model, sparse)
    emptier = sparse.copy()
    emptier[:, 128:, 128:] = 0  # of nine parts four count, and this is one of noise
    torch.testing.assert_close(statistics(model, emptier), corner)
    emptier[3:5, 8:16, 4:56] = 0
    assert not torch.allclose(statistics(model, emptier), corner, rtol=0.1)


def test_norms_are_free_again_after_an_error(model: TENET, sparse: Image) -> None:
    def fails() -> None:
        with norms_of_stack(model, lambda *part: sparse[part], sparse.shape):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert not any(m.fixed or m.finding for m in model.modules() if isinstance(m, StackNorm))


@pytest.mark.parametrize("zyx_shape", [(1, 1, 1), (1, 3, 3), (5, 70, 33), (200, 20, 20)])
def test_stacks_of_any_size(model: TENET, zyx_shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(1).random(zyx_shape, dtype=np.float32)
    shape, _ = enhance_array(model, image)
    assert shape.shape == (3 * zyx_shape[0], *zyx_shape[1:])
    assert np.isfinite(shape).all()
