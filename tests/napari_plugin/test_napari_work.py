"""The work behind the widget, without a window."""

import numpy as np
import pytest

from tenet.enhance.enhance import enhance_array
from tenet.io.optics import Optics
from tenet.model.shipped import shipped_model
from tenet.model.trained import TrainedModel
from tenet.napari.work import ENHANCING, Result, Task, _Watched, enhanced, in_words


class Enough(Exception):
    pass


def test_a_tile_that_takes_long_ends_between_layers() -> None:
    network = TrainedModel.load(shipped_model()).network
    told: list[tuple[str, int, int]] = []

    def stage(work: str, done: int, total: int) -> None:
        if len(told) == 5:
            raise Enough
        told.append((work, done, total))

    progress = _Watched(network, stage, 1).of(0)
    with pytest.raises(Enough):
        enhance_array(network, np.full((8, 16, 16), 0.5), progress=progress)
    assert told == [(ENHANCING, 0, 1)] * 5  # before the only tile is done


def test_a_series_has_the_psf_and_the_intensities_of_its_first_time_point() -> None:
    raw = np.random.default_rng(0).poisson(20, (2, 8, 24, 24)).astype(np.float32)
    raw[:, 3:5, 10:13] += 300
    raw[1] *= 2
    raw[1, :, :, :4] = np.nan
    told: list[tuple[str, int, int]] = []

    def result(data: np.ndarray) -> Result:
        told_optics, of_file = Optics(0.6), Optics()
        task = Task("line", data, (0.8, 0.2, 0.2), told_optics, of_file, 0.6, find_psf=False)
        return enhanced(task, lambda *stage: told.append(stage))

    both, first = result(raw), result(raw[0])
    for name in ("shape", "brightness"):
        assert both.channels[name].shape == (2, 32, 24, 24)
        np.testing.assert_array_equal(both.channels[name][0], first.channels[name])
        assert both.channels[name][1, :, :, :4].max() == 0
    light = both.channels["shape"] * both.channels["brightness"]
    assert light[1].max() > 1.3 * light[0].max()  # as it would not be with intensities of its own
    assert (ENHANCING, 1, 2) in told
    assert both.found["structure_um"] == 0.6


def test_messages_have_the_words_of_the_widget() -> None:
    said = in_words("cells: give --na or --immersion, and look at --uncertainty or --other")
    assert said == (
        "cells: give the NA or the immersion index, and look at the uncertainty or --other"
    )
