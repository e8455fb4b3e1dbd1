"""The lowest of some losses, by trying."""

import numpy as np
import pytest

from tenet.learn.scan import FINE, HIGHEST, LOWEST, lowest


@pytest.mark.parametrize("true", [-0.43, -0.13, 0.0, 0.26, 0.43])
@pytest.mark.parametrize("start", [0.0, 2.0])
def test_finds_the_vertex_of_a_parabola(true: float, start: float) -> None:
    calls = []

    def losses(value: float) -> list[float]:
        calls.append(value)
        return [(value - start - true) ** 2 + own for own in (3.0, 1.0, -2.0)]

    found = lowest(losses, start)
    assert found.value == pytest.approx(start + true, abs=1e-9)
    assert len(calls) == len(set(calls)) <= 9
    if true:
        assert found.gain == pytest.approx(true**2, abs=(FINE / 2) ** 2)


def test_goes_no_further_than_it_may() -> None:
    assert lowest(lambda value: [-value, -2 * value], 0.0).value == pytest.approx(HIGHEST)
    assert lowest(lambda value: [value, 2 * value], 0.0).value == pytest.approx(LOWEST)


def test_keeps_the_start_where_the_gain_is_within_its_error() -> None:
    """Three samples whose mean is lowest at 0.1, though each wants something else."""
    doubtful = lowest(lambda value: [(value - true) ** 2 for true in (0.04, 0.1, 0.16)], 0.0)
    assert (doubtful.value, doubtful.gain) == (0.0, 0.0)  # of 0.010, 1.4 standard errors
    assert doubtful.standard_error == pytest.approx(0.0069, abs=1e-4)

    def losses(value: float) -> list[float]:
        return [(value - true) ** 2 for true in (-0.4, 0.2, 0.5)]

    found = lowest(losses, 0.0)
    assert (found.value, found.gain) == (0.0, 0.0)
    assert found.standard_error == pytest.approx(0.052, abs=1e-3)
    assert min(found.tried, key=lambda tried: tried[1])[0] == pytest.approx(0.1)
    agreed = lowest(lambda value: [float(np.mean(losses(value)))] * 3, 0.0)
    assert agreed.value == pytest.approx(0.1)
    assert agreed.gain == pytest.approx(0.01)
