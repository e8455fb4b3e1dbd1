"""Convolutions: what is done in another way is the same."""

import weakref

import pytest
import torch
import torch.nn.functional as F

import tenet.networks.convolution
from tenet.networks.convolution import (
    LEAST_OF_ONEDNN,
    Conv,
    ZeroPaddedConv,
    _pieces,
    convolve,
    faster_in_float32,
    half_precision,
)

SIZES = [3, (1, 3, 3), (3, 1, 1), (5, 3, 1), 1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_convolution_by_replication_and_its_gradients(
    size: int | tuple[int, int, int], layout: torch.memory_format, n: int, requires_grad: bool
) -> None:
    """What the backward pass pads again is what the forward pass padded."""
    torch.manual_seed(0)
    conv = Conv(3, 4, size).double().to(memory_format=layout)
    x = torch.randn(n, 3, 4, 5, 6, dtype=torch.float64).to(memory_format=layout)
    x.requires_grad_(requires_grad)
    weights = torch.randn(n, 4, 4, 5, 6, dtype=torch.float64)
    inputs = [p for p in (conv.weight, conv.bias, x) if p.requires_grad]
    ours = torch.autograd.grad((conv(x) * weights).sum(), inputs)
    border = [k // 2 for k in conv.kernel_size[::-1] for _ in range(2)]
    padded = F.pad(x, border, mode="replicate")
    plain = F.conv3d(padded, conv.weight, conv.bias)
    torch.testing.assert_close(conv(x), plain)
    theirs = torch.autograd.grad((plain * weights).sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("size", [3, (1, 3, 3), (3, 1, 1), 1])
@pytest.mark.parametrize("n", [1, 2])
def test_channels_stay_last(size: int | tuple[int, int, int], n: int) -> None:
    """Forth and back: what comes after need not put them in order again."""
    last = torch.channels_last_3d
    conv = Conv(16, 16, size).to(memory_format=last)
    x = torch.randn(n, 16, 6, 8, 10).to(memory_format=last).requires_grad_()
    out = conv(x)
    assert out.is_contiguous(memory_format=last)
    seen: list[torch.Tensor] = []
    x.register_hook(seen.append)
    out.backward(torch.randn_like(out))
    assert seen[0].is_contiguous(memory_format=last)
    assert seen[0].untyped_storage().nbytes() == x.numel() * 4, "no part of a padded one"


@pytest.mark.parametrize("size", [3, (1, 3, 3), (3, 1, 1)])
def test_the_backward_pass_keeps_no_padded_copy(
    size: int | tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    last = torch.channels_last_3d
    conv = Conv(8, 8, size).to(memory_format=last)
    x = torch.rand(2, 8, 6, 8, 10).to(memory_format=last).requires_grad_()
    padded: list[weakref.ref[torch.Tensor]] = []

    def note(x: torch.Tensor, *args: torch.Tensor) -> torch.Tensor:
        padded.append(weakref.ref(x))
        return convolve(x, *args)

    monkeypatch.setattr(tenet.networks.convolution, "convolve", note)
    out = conv(x)
    assert padded[0]() is None
    out.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("planes", [12, 9, 7, 1])
def test_a_crop_in_pieces_is_convolved_as_a_whole(planes: int) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(5, 3, 3, 3, 3, requires_grad=True), torch.randn(5)
    x = torch.randn(1, 3, planes + 2, 10, 11).to(memory_format=torch.channels_last_3d)
    x.requires_grad_()
    pieces = _pieces(x, weight, planes)
    assert pieces == {12: 2, 9: 3, 7: 7, 1: 1}[planes]
    out, whole = convolve(x, weight, bias), F.conv3d(x, weight, bias)
    assert pieces == 1 or out.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(out, whole, rtol=1e-4, atol=1e-4)
    towards = torch.randn_like(whole)
    ours = torch.autograd.grad((out * towards).sum(), [x, weight])
    theirs = torch.autograd.grad((whole * towards).sum(), [x, weight])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_what_onednn_is_given_anyway_stays_whole() -> None:
    small, large = torch.rand(1, 4, 6, 10, 10), torch.rand(1, 4, 66, 80, 3)
    assert large.shape[:-1].numel() > LEAST_OF_ONEDNN
    weight = torch.rand(4, 4, 3, 3, 3)
    assert _pieces(small, weight, 4) == 2
    assert _pieces(large, weight, 64) == 1
    assert _pieces(small.expand(2, -1, -1, -1, -1), weight, 4) == 1
    assert _pieces(small.double(), weight, 4) == 1
    assert _pieces(small, torch.rand(4, 4, 5, 5, 5), 2) == 1
    with torch.autocast("cpu", torch.bfloat16):
        assert _pieces(small, weight, 4) == 1


def test_zeros_around() -> None:
    torch.manual_seed(0)
    ours, plain = ZeroPaddedConv(3, 4), torch.nn.Conv3d(3, 4, 3, padding=1)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 6, 7, 8)
    torch.testing.assert_close(ours(x), plain(x))


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize(
    ("limit", "slow"),
    [("", False), ("AVX2", True), ("avx512_core", True), ("AVX512_CORE_BF16", False)],
)
def test_half_precision_follows_the_limit_of_onednn(
    name: str, limit: str, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    for either in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(either, raising=False)
    monkeypatch.setenv(name, limit)
    assert faster_in_float32(torch.device("cpu")) == slow
    assert not faster_in_float32(torch.device("cuda"))


@pytest.mark.parametrize("able", [(), ("amx_bf16",), ("avx512_bf16",)])
def test_half_precision_only_where_it_is_fast(
    able: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(able, True))
    convolution = Conv(4, 4, 3)
    for shape in ((1, 4, 8, 8, 8), (2, 4, 8, 8, 8), (1, 4, 72, 72, 8)):
        crop = torch.rand(shape)
        full = convolution(crop)
        with half_precision(torch.device("cpu"), True):
            half = convolution(crop)
        assert half.dtype == (torch.bfloat16 if able else torch.float32)
        torch.testing.assert_close(half.float(), full, rtol=0.02, atol=0.02)
