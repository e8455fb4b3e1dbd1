"""Equal seeds give equal bits on one machine; other threads and processors are near."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks/determinism.py"))


@pytest.fixture(scope="module")
def measured(
    script: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = script["measure"](
        tmp_path_factory.mktemp("determinism"), quick=True
    )
    return found


def test_the_same_again_has_the_same_bits(measured: dict[str, dict[str, float]]) -> None:
    assert set(measured["again"].values()) == {0}


@pytest.mark.parametrize("run", ["two threads", "without AVX512"])
def test_other_threads_and_processors_are_near(
    run: str, measured: dict[str, dict[str, float]], script: dict[str, Any]
) -> None:
    found = measured[run]
    assert found[script["PHANTOMS"]] < 1e-5
    assert found[script["WEIGHTS_RMS"]] < 2e-3  # the training moves them by 0.02
    assert found[script["IN_FLOAT32"]] < 1e-4
    # Some processors multiply bfloat16, of which 0.004 is the smallest step below 1.
    assert found[script["SHAPE"]] < 0.05
    assert found[script["OTHERWISE"]] < 2e-3


def test_differences_are_seen(script: dict[str, Any]) -> None:
    first = {
        "phantoms": np.zeros(3), "weights": np.ones(2), "psf_um": np.array([2.0, np.inf]),
        "shape": np.array([0.2, 0.6, 0.7, 0.9]), "threshold": np.array(0.5),
        "in_float32": np.zeros(1),
    }  # fmt: skip
    second = first | {"weights": np.array([1, 0.5]), "shape": np.array([0.2, 0.4, 0.7, 0.9])}
    found = script["differences"](second, first)
    assert found[script["WEIGHTS"]] == 0.5
    assert found[script["SHAPE"]] == pytest.approx(0.2)
    assert found[script["OTHERWISE"]] == 0.25
    assert found[script["PSF"]] == 0  # infinite in both
