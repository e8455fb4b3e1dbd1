"""Optics of two models: what differs is named."""

from typing import Any

import pytest

from tenet.settings.load import PACKAGED, load_experiment
from tenet.settings.optics import differing_optics


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"dropout": 0.4, "size_z": 101, "bet_z": 3.0, "threshold": 0.4}, None),
        ({"NA": 0.35}, "NA 0.35 (pre-trained: 0.3)"),
        ({"pZ": 50, "photons": 2}, "pZ 50 (pre-trained: 0), photons 2 (pre-trained: 1)"),
        ({"blur_mode": "gaussian"}, "blur_mode gaussian (pre-trained: gibsonlanni)"),
        ({"fill": 0.7}, "fill 0.7 (pre-trained: none)"),
        ({"spherical": -0.2}, "spherical -0.2 (pre-trained: 0)"),
        ({"res_axial": 1.1}, "res_axial 1.1 (pre-trained: 1)"),
    ],
)
def test_differing_optics_are_named(changes: dict[str, Any], said: str | None) -> None:
    source = load_experiment("scale3", folder=PACKAGED).params
    own = load_experiment("scale3", folder=PACKAGED, settings={"params": changes}).params
    assert differing_optics(own, source) == said
