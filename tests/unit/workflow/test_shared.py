"""Models that samples share: the name is what the model is."""

import pytest

from tenet.settings.load import load_experiment
from tenet.settings.own_stack import sample_grid
from workflow.lib.shared import EXAMPLE, SharedModel


def shared(voxel_um=(1.0, 0.12, 0.12), **optics):
    base = load_experiment("sample")
    named = {"na": 0.8, "wavelength_um": 0.92, "immersion_index": 1.33, "photons": 2} | optics
    return SharedModel.of(sample_grid(base, voxel_um, where="a.tif", **named).params)


def test_a_name_is_what_the_model_is():
    assert EXAMPLE.name == "na0.8_920nm_n1.33_2p_z1_xy0.12"
    assert shared() == EXAMPLE
    assert EXAMPLE.options() == [
        "--voxel-size", "1", "0.12", "0.12", "--na", "0.8", "--wavelength", "0.92",
        "--ni", "1.33", "--photons", "2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "model",
    [
        SharedModel(1.05, 1040.5, 1.515, 1, 12.3, 0.0301),
        SharedModel(0.2, 488, 1, 1, 100, 10),
        EXAMPLE,
    ],
)
def test_a_name_gives_the_model_back(model):
    assert SharedModel.named(model.name) == model


@pytest.mark.parametrize(
    "equal",
    [
        {"voxel_um": (1.0, 0.1200001, 0.12)},
        {"voxel_um": (0.9999, 0.12, 0.12)},
        {"na": 0.80000001},
        {"wavelength_um": 0.9200000001},
    ],
)
def test_equal_to_rounding_is_one_model(equal):
    assert shared(**equal) == EXAMPLE


@pytest.mark.parametrize(
    "other",
    [
        {"voxel_um": (1.02, 0.12, 0.12)},
        {"voxel_um": (1.0, 0.122, 0.122)},
        {"na": 0.81},
        {"wavelength_um": 0.93},
        {"immersion_index": 1.34},
        {"photons": 1},
    ],
)
def test_other_optics_and_other_voxels_are_another_model(other):
    assert shared(**other) != EXAMPLE
    assert shared(**other).name != EXAMPLE.name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "mine",
        "na0.8",
        EXAMPLE.name + "_",
        "na..8" + EXAMPLE.name[5:],
        "na0.80" + EXAMPLE.name[5:],
    ],
)
def test_what_is_no_such_name_is_refused(name):
    with pytest.raises(ValueError, match="names no shared model"):
        SharedModel.named(name)
