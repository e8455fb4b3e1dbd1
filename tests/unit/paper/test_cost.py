"""Operations are counted as they are, forward and backward."""

import math

import pytest
import torch
from torch.nn import functional

from tenet.paper.cost import KINDS, NO_BFLOAT16, Peaks, Work, peaks, work_of


def test_a_convolution_and_its_gradients() -> None:
    image = torch.rand(1, 4, 6, 8, 10, requires_grad=True)
    weight = torch.rand(5, 4, 3, 3, 3, requires_grad=True)
    once = 2 * 4 * 5 * 27 * 6 * 8 * 10
    forward = work_of(lambda: functional.conv3d(image, weight, padding=1))
    assert forward.operations == {"bfloat16": 0, "float32": once, "fft": 0}
    both = work_of(lambda: functional.conv3d(image, weight, padding=1).sum().backward())
    assert both.operations["float32"] == 3 * once  # gradients of the image and of the weights
    half = [t.detach().bfloat16() for t in (image, weight)]
    assert work_of(lambda: functional.conv3d(*half, padding=1)).operations["bfloat16"] == once


@pytest.mark.parametrize(("real", "share"), [(False, 1.0), (True, 0.5)])
def test_a_transform(real: bool, share: float) -> None:
    line = torch.rand(3, 64) if real else torch.rand(3, 64, dtype=torch.complex64)
    transform = torch.fft.rfft if real else torch.fft.fft
    work = work_of(lambda: transform(line))
    assert work.operations["fft"] == pytest.approx(share * 3 * 5 * 64 * math.log2(64))


def test_bytes_are_what_is_read_and_written() -> None:
    one = torch.rand(1000)
    assert work_of(lambda: one + one).bytes == 3 * 4000
    assert work_of(lambda: one.view(10, 100)).bytes == 0


def test_time_at_the_peak_adds_up_over_kinds() -> None:
    work = Work({"bfloat16": 6e9, "float32": 1e9, "fft": 2e9}, 0)
    assert work.total == 9e9
    assert Peaks({"bfloat16": 3e9, "float32": 1e9, "fft": 4e9}).floor_s(work) == 2 + 1 + 0.5


def test_every_kind_has_a_rate_or_a_reason() -> None:
    rates = peaks(torch.device("cpu"))
    assert set(rates.operations) | set(rates.left_out) == set(KINDS)
    assert not set(rates.operations) & set(rates.left_out)


def test_what_a_processor_does_not_do_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    convolved = []
    real = functional.conv3d

    def noting(image: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        convolved.append(image.dtype)
        return real(image, *args, **kwargs)

    monkeypatch.setattr(functional, "conv3d", noting)
    rates = peaks(torch.device("cpu"))
    assert set(convolved) == {torch.float32}
    assert rates.left_out == {"bfloat16": NO_BFLOAT16}
    half = Work({"bfloat16": 1.0, "float32": 1e9, "fft": 0.0}, 0)
    full = Work({"bfloat16": 0.0, "float32": 1e9, "fft": 0.0}, 0)
    assert (rates.floor_s(half), rates.missing(half)) == (None, NO_BFLOAT16)
    assert rates.floor_s(full) is not None
    assert rates.missing(full) == ""
