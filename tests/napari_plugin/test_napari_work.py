"""The work behind the widget, without a window."""

import numpy as np
import pytest

from tenet.enhance.enhance import enhance_array
from tenet.model.shipped import shipped_model
from tenet.model.trained import TrainedModel
from tenet.napari.work import ENHANCING, _watched, in_words


class Enough(Exception):
    pass


def test_a_tile_that_takes_long_ends_between_layers() -> None:
    network = TrainedModel.load(shipped_model()).network
    told: list[tuple[str, int, int]] = []

    def stage(work: str, done: int, total: int) -> None:
        if len(told) == 5:
            raise Enough
        told.append((work, done, total))

    progress = _watched(network, stage)
    with pytest.raises(Enough):
        enhance_array(network, np.full((8, 16, 16), 0.5), progress=progress)
    assert told == [(ENHANCING, 0, 1)] * 5  # before the only tile is done


def test_messages_have_the_words_of_the_widget() -> None:
    said = in_words("cells: give --na or --immersion, and look at --uncertainty or --other")
    assert said == (
        "cells: give the NA or the immersion index, and look at the uncertainty or --other"
    )
