"""Norms that take their statistics from a stack."""

import copy

import pytest
import torch
from small_models import EVERY
from torch import Tensor, nn

from tenet.errors import TenetError
from tenet.networks.cells import CellNet
from tenet.networks.norms import StackNorm, finding_norms, fixed_norms, has_stack_norms
from tenet.settings.schema import parse_params


@pytest.fixture
def images() -> Tensor:
    """Two images whose intensities have little in common, (2, 3, 4, 5, 6)."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2, 3, 4, 5, 6, generator=generator)
    return drawn * torch.tensor([0.5, 7.0]).view(2, 1, 1, 1, 1) + 2


@pytest.mark.parametrize("mode", [True, False])
def test_each_image_of_a_batch_is_normalised_by_itself_in_both_modes(
    images: Tensor, mode: bool
) -> None:
    result = StackNorm(3).train(mode)(images)
    axes = (2, 3, 4)
    assert result.mean(axes).abs().max() < 1e-5
    torch.testing.assert_close(
        result.std(axes, unbiased=False), torch.ones(2, 3), atol=1e-3, rtol=0
    )


def test_a_stack_in_other_units_gives_the_same(images: Tensor) -> None:
    norm = StackNorm(3)
    torch.testing.assert_close(norm(20 * images - 5), norm(images), atol=1e-3, rtol=1e-3)


def test_fixed_statistics_are_those_of_all_parts_and_do_not_depend_on_the_tile(
    images: Tensor,
) -> None:
    norm = nn.Sequential(StackNorm(3))
    with finding_norms(norm):
        norm(images)
    with fixed_norms(norm):
        whole, copied = norm(images), copy.deepcopy(norm)
        tile = norm(images[:1, :, :2, 1:3])
    mean = images.mean((0, 2, 3, 4), keepdim=True)
    deviation = images.std((0, 2, 3, 4), keepdim=True)
    torch.testing.assert_close(whole, (images - mean) / deviation, atol=1e-3, rtol=5e-3)
    torch.testing.assert_close(tile, whole[:1, :, :2, 1:3])
    assert torch.equal(copied(images), whole)  # a copy on another device
    assert abs(norm(images)[:1].std().item() - 1) < 0.01  # free again


def test_a_network_has_such_norms_where_it_is_asked_for_them() -> None:
    assert has_stack_norms(CellNet([4, 8], 4, norm=StackNorm))
    assert not has_stack_norms(CellNet([4, 8], 4))
    with pytest.raises(TenetError, match="norm stack is for network cells alone, not for coarse"):
        parse_params(EVERY["params"] | {"network": "coarse", "norm": "stack"}, where="params")
