import numpy as np
import pytest

from tenet.errors import TenetError
from tenet.paper.tissue import TissuePhantomSettings, tumour_um

SHAPE, SIZE = (96, 96, 96), (1.0, 1.0, 1.0)


def drawn(kind, seed=0, **settings):
    chosen = {"zyx_shape": SHAPE, "voxel_size_um": SIZE, "n_cells": 4} | settings
    return TissuePhantomSettings(kind, **chosen).draw(np.random.default_rng(seed))


@pytest.mark.parametrize("kind", ["neurons", "microglia", "tumour"])
def test_a_seed_gives_a_volume_with_so_many_cells(kind):
    first, again, other = drawn(kind), drawn(kind), drawn(kind, seed=1)
    assert (first.shape == again.shape).all()
    assert (first.shape != other.shape).any()
    assert len(first.attributes["somata_zyx"]) == first.attributes["n_objects"] == 4
    assert ((first.brightness > 0) == (first.shape > 0)).all()
    assert first.brightness.max() <= 1
    for centre in np.round(first.attributes["somata_zyx"]).astype(int):
        if ((centre >= 0) & (centre < SHAPE)).all():
            assert first.shape[tuple(centre)] == 1


def test_brightness_falls_with_depth():
    phantom = drawn("tumour", brightness_log_sd=0.0, scattering_length_um=40.0)
    brightness, shape = phantom.brightness, phantom.shape
    planes = [z for z in range(SHAPE[0]) if shape[z].any()]
    levels = {z: float(brightness[z][shape[z] > 0].max()) for z in planes}
    low, high = planes[2], planes[-3]
    assert levels[high] / levels[low] == pytest.approx(np.exp(-(high - low) / 40), rel=0.02)


def test_microglia_surround_the_tumour():
    middle, radius = tumour_um(SHAPE, SIZE)
    for seed in range(3):
        somata = {
            kind: np.array(drawn(kind, seed).attributes["somata_zyx"]) + 0.5
            for kind in ("microglia", "tumour")
        }
        away = {k: np.linalg.norm(places - middle, axis=1) for k, places in somata.items()}
        assert away["tumour"].max() < radius
        assert away["microglia"].min() > radius


def test_processes_of_neurons_outside_reach_into_a_small_volume():
    # 20 µm across, where a soma would fill the view
    size = {"zyx_shape": (120, 64, 64), "voxel_size_um": (1 / 3, 0.31, 0.31), "n_cells": 5}
    volumes = [drawn("neurons", seed, **size) for seed in range(4)]
    somata = np.concatenate([volume.attributes["somata_zyx"] for volume in volumes])
    outside = ((somata < 0) | (somata > np.array(size["zyx_shape"]) - 1)).any(axis=1)
    assert outside.sum() >= 10  # of 20
    for volume in volumes:
        assert 0.01 < volume.shape.mean() < 0.2
    assert somata.min() > -12 / 0.31


def test_processes_are_longer_than_somata_and_tumour_cells_have_none():
    neuron = drawn("neurons", n_cells=1)
    tumour = drawn("tumour", n_cells=1)
    reach = {}
    for name, phantom in (("neurons", neuron), ("tumour", tumour)):
        voxels = np.argwhere(phantom.shape)
        reach[name] = np.linalg.norm(voxels - phantom.attributes["somata_zyx"][0], axis=1).max()
    assert reach["neurons"] > 25
    assert reach["tumour"] < 14


def test_impossible_tissue_is_refused():
    with pytest.raises(TenetError, match="no room for 500 cells"):
        drawn("tumour", n_cells=500)
    with pytest.raises(TenetError, match="one of neurons"):
        drawn("glia")


@pytest.mark.parametrize("change", [{"zyx_shape": (10**6,) * 3}, {"n_cells": 10**9}], ids=str)
def test_volumes_that_no_memory_or_patience_holds(change):
    with pytest.raises(TenetError, match=f"{next(iter(change))} is"):
        drawn("neurons", **change)
