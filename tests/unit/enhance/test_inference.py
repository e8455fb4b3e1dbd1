"""Tiled inference: nothing moves, no seams, bounded memory."""

import math
import threading
import tracemalloc
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from small_models import GAIN, experiment, random_model, stack_of, trained, transparent_model
from torch import Tensor, nn

from tenet.enhance.enhance import _Tiled, enhance_array, enhance_stack
from tenet.enhance.memory import context_of, default_overlap, default_tile
from tenet.enhance.restore import restore_array
from tenet.enhance.tiles import Tile, halves, tile_plan
from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange
from tenet.io.open import open_stack
from tenet.model.store import Calibration

UNIT = IntensityRange(0.0, 1.0, "none")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    """Small convolutions are fastest on one thread, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seen_through(image: np.ndarray, scale: int, gain: float = GAIN) -> np.ndarray:
    """What the transparent network must make of an image, computed without torch."""
    planes = image.shape[0]
    position = (np.arange(planes * scale) + 0.5) / scale - 0.5
    position = np.clip(position, 0, planes - 1)
    below = np.floor(position).astype(int)
    above = np.minimum(below + 1, planes - 1)
    part = (position - below)[:, None, None]
    root = np.sqrt(image.astype(np.float64))
    lifted = 2 * root / (1 + root)
    fine = (1 - part) * lifted[below] + part * lifted[above]
    return 1 / (1 + np.exp(-gain * (fine - 0.5)))


def offset_of(path: Path) -> int:
    """Where the voxels of an uncompressed TIFF begin."""
    with tifffile.TiffFile(path) as tiff:
        return int(tiff.series[0].dataoffset)


# Tiles


def test_uncertainty_is_a_third_channel(tmp_path: Path) -> None:
    image = np.random.default_rng(4).random((6, 40, 40), dtype=np.float32)
    calibration = Calibration(threshold=0.4, inside=tuple(np.linspace(0, 1, 50) ** 2))
    model = trained(random_model(), calibration)
    certainty = model.certainty
    path = enhance_stack(
        model, stack_of(tmp_path, image), UNIT, tmp_path / "out.ome.tif", uncertainty=True
    )
    shape, _, uncertainty = tifffile.imread(path)
    with tifffile.TiffFile(path) as file:
        assert 'Name="uncertainty"' in str(file.ome_metadata)
    np.testing.assert_allclose(uncertainty, certainty.wrong(shape), atol=0.01)
    assert uncertainty.std() > 0.01


def test_levels_keep_the_shape_alone_to_half_a_level_through_all_tiles(tmp_path: Path) -> None:
    image = np.random.default_rng(5).random((8, 40, 40), dtype=np.float32)
    model, stack = trained(random_model()), stack_of(tmp_path, image)
    tiles = {"tile_zyx_shape": (8, 24, 24), "overlap_zyx": (2, 8, 8)}
    whole = enhance_stack(model, stack, UNIT, tmp_path / "whole.ome.tif", **tiles)
    small = enhance_stack(model, stack, UNIT, tmp_path / "small.ome.tif", levels=255, **tiles)
    shape, _ = tifffile.imread(whole)
    stored = open_stack(small)
    assert stored.zyx_shape == shape.shape
    assert stored.dtype == np.uint8
    assert np.abs(stored.read() - shape).max() <= 0.5001 / 255
    with tifffile.TiffFile(small) as file:
        assert 'Name="shape"' in str(file.ome_metadata)


def test_weights_of_all_tiles_add_up_to_one_for_any_shape() -> None:
    rng = np.random.default_rng(1)
    for _ in range(150):
        alignment = tuple(int(n) for n in 2 ** rng.integers(0, 4, 3))
        overlap = tuple(int(n) for n in rng.integers(0, 12, 3))
        tile = tuple(
            o + max(-(-o // a) * a, a) + int(rng.integers(0, 20))
            for o, a in zip(overlap, alignment, strict=True)
        )
        shape = tuple(int(n) for n in rng.integers(1, 60, 3))
        factor = int(rng.integers(1, 5))
        plan = tile_plan(shape, tile, overlap, alignment)
        total = [np.zeros(n * factor) for n in shape]
        for axis in range(3):
            for span in {t[axis] for t in plan}:
                assert 0 <= span.start < span.stop <= shape[axis]
                assert span.start % alignment[axis] == 0
                assert span.stop - span.start <= tile[axis]
                weights = span.weights(factor)
                assert weights.min() >= 0
                total[axis][span.start * factor : span.stop * factor] += weights
            np.testing.assert_allclose(total[axis], 1, atol=1e-6)
        # All combinations of the axes' spans, each once.
        assert len(set(plan)) == len(plan) == np.prod([len({t[a] for t in plan}) for a in range(3)])


def test_weights_leave_out_what_the_border_disturbs_and_rise_smoothly() -> None:
    spans = [tile[1] for tile in tile_plan((4, 200, 10), (4, 80, 16), (0, 32, 0), (1, 8, 8))]
    first, second = spans[0].weights(), spans[1].weights()
    assert first[0] == 1  # the stack's own border is no seam
    assert np.all(second[:12] == 0)
    assert np.all(first[-12:] == 0)
    assert np.all(np.diff(second[12:20]) > 0)
    assert np.abs(np.diff(second[:32])).max() < 1.5 / 8  # the slope of 3t² - 2t³ over 8 voxels


def test_tile_too_small_for_its_overlap_is_refused_with_the_size_that_does() -> None:
    with pytest.raises(TenetError, match="at least 48"):
        tile_plan((8, 200, 200), (8, 40, 64), (0, 24, 24), (1, 8, 8))
    tile_plan((8, 200, 200), (8, 48, 64), (0, 24, 24), (1, 8, 8))


@pytest.mark.parametrize("network", ["jnet", "coarse"])
@pytest.mark.parametrize(
    "shape", [(24, 128, 128), (300, 2000, 2000), (2, 4000, 30), (400, 17, 900), (1, 1, 1)]
)
def test_default_tile_fits_the_memory_and_can_be_laid(shape: Any, network: str) -> None:
    params = experiment(network=network, hidden_channels_list=[4, 8, 8, 8], scale=4).params
    overlap, alignment = default_overlap(params), params.coarse_divisor_zyx
    for voxels in (3e6, 3e7, 1e9):
        tile = default_tile(params, shape, overlap, voxels)
        plan = tile_plan(shape, tile, overlap, alignment)
        largest = max(
            np.prod(
                [-(-(s.stop - s.start) // a) * a for s, a in zip(spans, alignment, strict=True)]
            )
            for spans in plan
        )
        assert largest * params.scale <= voxels * 1.01
        if np.prod(shape) * params.scale * 1.5 < voxels and min(shape) > 16:
            assert len(plan) == 1


# Enhancing


@pytest.mark.parametrize(
    ("shape", "tile", "overlap"),
    [
        ((9, 37, 50), (4, 16, 24), (2, 6, 8)),
        ((13, 21, 19), (6, 12, 19), (2, 4, 0)),
        ((2, 90, 5), (2, 20, 5), (2, 8, 2)),
        ((1, 3, 4), (1, 16, 16), (0, 4, 4)),
    ],
)
@pytest.mark.parametrize("scale", [3, 4])
def test_tiles_move_nothing_and_leave_no_seam(
    tmp_path: Path, shape: Any, tile: Any, overlap: Any, scale: int
) -> None:
    image = np.random.default_rng(2).random(shape, dtype=np.float32)
    model = transparent_model(scale=scale, size_z=21 + scale % 2)
    expected = seen_through(image, scale)
    shape_, brightness = enhance_array(model, image, tile_zyx_shape=tile, overlap_zyx=overlap)
    assert shape_.dtype == brightness.dtype == np.float32
    np.testing.assert_allclose(shape_, expected, atol=2e-5)
    np.testing.assert_allclose(brightness, seen_through(image, scale, GAIN / 2), atol=2e-5)
    if shape[0] > 1:
        stack = stack_of(tmp_path, image)
        out = tmp_path / "out.ome.tif"
        enhance_stack(trained(model), stack, UNIT, out, tile_zyx_shape=tile, overlap_zyx=overlap)
        np.testing.assert_array_equal(tifffile.imread(out), [shape_, brightness])


@pytest.mark.parametrize("network", ["jnet", "coarse"])
@pytest.mark.parametrize("axis", [0, 1])
def test_tiles_with_four_receptive_radii_of_overlap_change_nothing(network: str, axis: int) -> None:
    # nblocks 1, two levels: at most 22 fine voxels around (for the coarse network: coarse ones).
    model = random_model(scale=2, network=network)
    size, overlap = (200, 88) if axis or network == "coarse" else (100, 44)
    shape, tiles, overlaps = [6, 12, 12], [6, 12, 12], [0, 0, 0]
    shape[axis], tiles[axis], overlaps[axis] = size, 2 * overlap, overlap
    image = np.random.default_rng(3).random(shape, dtype=np.float32) ** 3
    whole = enhance_array(model, image, tile_zyx_shape=tuple(shape))
    tiled = enhance_array(model, image, tile_zyx_shape=tuple(tiles), overlap_zyx=tuple(overlaps))
    for one, other in zip(whole, tiled, strict=True):
        assert one.std() > 1e-3
        np.testing.assert_allclose(other, one, atol=2e-5)


def test_default_overlap_leaves_seams_far_below_the_signal() -> None:
    model = random_model(scale=2)
    overlap = default_overlap(model.params)
    image = np.random.default_rng(4).random((6, 150, 40), dtype=np.float32) ** 3
    whole, _ = enhance_array(model, image, tile_zyx_shape=image.shape)
    tiled, _ = enhance_array(model, image, tile_zyx_shape=(6, 64, 40), overlap_zyx=overlap)
    assert np.abs(whole - tiled).max() < 0.02 * whole.std()


def test_default_overlap_hides_where_tiles_were_deconvolved() -> None:
    """Each tile is deconvolved on its own, with a PSF's width around it."""
    model = random_model(scale=2, deconvolution_steps=10)
    overlap = default_overlap(model.params)
    assert overlap[0] * 2 >= model.params.size_z
    image = np.random.default_rng(4).random((6, 150, 40), dtype=np.float32) ** 3
    whole, _ = enhance_array(model, image, tile_zyx_shape=image.shape)
    tiled, _ = enhance_array(model, image, tile_zyx_shape=(6, 96, 40), overlap_zyx=overlap)
    assert np.abs(whole - tiled).max() < 0.001


def test_tiles_and_parts_of_them_are_shown_their_surroundings() -> None:
    """As far as the stack goes; and tiles are what they are without."""
    place = np.arange(200)
    alignment, context = (1, 4, 4), (0, 16, 0)
    sizes: Any = ((4, 200, 10), (4, 96, 10), (0, 24, 0), alignment)
    for tile, alone in zip(tile_plan(*sizes, context), tile_plan(*sizes), strict=True):
        y = tile[1]
        assert (y.start, y.stop, y.before, y.after) == astuple(alone[1])[:4]
        shown = place[y.shown]
        np.testing.assert_array_equal(shown[y.own], place[y.start : y.stop])
        assert (shown[0], shown[-1]) == (max(y.start - 16, 0), min(y.stop + 16, 200) - 1)
        parts = halves(tile, (0, 24, 0), alignment, context)
        assert parts is not None
        for part in parts:
            seen = shown[part[1].shown_of(y)]
            own = place[y.start + part[1].start : y.start + part[1].stop]
            np.testing.assert_array_equal(seen[part[1].own], own)
            assert (seen[0], seen[-1]) == (max(own[0] - 16, shown[0]), min(own[-1] + 16, shown[-1]))
            assert own[0] % 4 == 0


def test_halves_of_a_tile_are_deconvolved_with_what_is_around_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = random_model(scale=2, deconvolution_steps=10)
    image = np.random.default_rng(4).random((6, 160, 40), dtype=np.float32) ** 3
    whole, _ = enhance_array(model, image, tile_zyx_shape=image.shape)
    forward, seen = model.encoder.forward, []

    def with_little_memory(stack: Tensor, estimate: Tensor) -> Any:
        if stack.numel() > 6 * 110 * 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append(stack.shape[3])
        return forward(stack, estimate)

    monkeypatch.setattr(model.encoder, "forward", with_little_memory)
    halved, _ = enhance_array(model, image, tile_zyx_shape=image.shape)
    assert len(seen) == 2
    assert np.abs(whole - halved).max() < 0.001


def test_what_is_around_a_tile_does_not_count_when_it_is_halved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Halves of a tile in the middle have all its context, so hardly less is shown of them."""
    model = random_model(scale=2, deconvolution_steps=1, size_y=51, size_x=51)
    image = np.zeros((2, 400, 400), dtype=np.float32)
    tile = 168
    most = int(0.8 * 2 * tile**2)
    sizes: list[int] = []

    def with_little_memory(_: Any, shown: Any, spans: Tile) -> Any:
        shape = [span.stop - span.start for span in spans]
        sizes.append(math.prod(shape))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return np.zeros((2, 2 * shape[0], *shape[1:]), np.float32)

    tiled = _Tiled(model, (2, tile, tile), None, [torch.device("cpu")])
    monkeypatch.setattr(tiled, "_whole", with_little_memory)
    restore_array(tiled, image)
    assert min(sizes) > most / 2  # halves, no quarters


def test_default_tile_has_room_for_what_is_around_it() -> None:
    params = experiment(scale=4, deconvolution_steps=5, size_y=51, size_x=51).params
    _, y, x = context_of(params)
    assert y == x == 52
    for shape in ((10, 3000, 2000), (40, 200, 3000), (300, 2000, 2000)):
        for voxels in (1e7, 1e8):
            tile = default_tile(params, shape, default_overlap(params), 1e9, voxels)
            shown = [min(n + 2 * c, m) for n, c, m in zip(tile, (0, y, x), shape, strict=True)]
            assert 0.3 * voxels < 4 * math.prod(shown) <= voxels


def test_unaligned_tiles_would_be_seen() -> None:
    # Were starts not multiples of the pooling, the same network would give other values.
    model = random_model(scale=2)
    image = np.random.default_rng(5).random((4, 65, 16), dtype=np.float32)
    whole, _ = enhance_array(model, image)
    moved, _ = enhance_array(model, image[:, 1:])
    assert np.abs(whole[:, 30:40] - moved[:, 29:39]).max() > 1e-3


def test_half_precision_is_near_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenet.networks.convolution.faster_in_float32", lambda device: False)
    model = random_model(scale=2)
    image = np.random.default_rng(6).random((4, 20, 20), dtype=np.float32)
    full, _ = enhance_array(model, image)
    model.half_precision = True
    half, _ = enhance_array(model, image)
    assert half.dtype == np.float32
    assert 0 < np.abs(full - half).max() < 0.02


def test_output_is_probability_with_channels_and_the_fine_voxel_size(tmp_path: Path) -> None:
    raw = 100 + 50 * np.random.default_rng(7).random((5, 11, 13), dtype=np.float32)
    stack = stack_of(tmp_path, raw, (1.2, 0.31, 0.29))
    range_ = IntensityRange(100.0, 150.0, "given")
    out = enhance_stack(
        trained(transparent_model()), stack, range_, tmp_path / "new" / "out.ome.tif"
    )
    shape = open_stack(out, channel=0)
    assert shape.voxel_size_um == pytest.approx((0.3, 0.31, 0.29))
    np.testing.assert_allclose(shape.read(), seen_through((raw - 100) / 50, 4), atol=1e-4)
    with tifffile.TiffFile(out) as tiff:
        assert 'Name="shape"' in str(tiff.ome_metadata)
        assert 'Name="brightness"' in str(tiff.ome_metadata)
    given = enhance_stack(
        trained(transparent_model()),
        stack,
        range_,
        tmp_path / "b.tif",
        voxel_size_um=(2.0, 0.5, 0.5),
    )
    assert open_stack(given, channel=1).voxel_size_um == pytest.approx((0.5, 0.5, 0.5))


def test_memory_is_that_of_a_tile(tmp_path: Path) -> None:
    model = random_model(scale=4)
    tile, overlap = (8, 32, 32), (2, 8, 8)
    voxels: list[int] = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: voxels.append(inputs[0].numel()))
    peaks = []
    for rows in (60, 240):
        np.save(tmp_path / f"{rows}.npy", np.ones((8, rows, 40), dtype=np.uint16))
        stack = open_stack(tmp_path / f"{rows}.npy")
        tracemalloc.start()
        enhance_stack(
            trained(model),
            stack,
            IntensityRange(0, 2, "given"),
            tmp_path / "out.tif",
            voxel_size_um=(0.4, 0.1, 0.1),
            tile_zyx_shape=tile,
            overlap_zyx=overlap,
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(voxels) <= np.prod(tile)
    whole = 2 * 4 * 4 * 8 * 240 * 40  # the larger result in bytes
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < whole / 4


def test_a_tile_too_large_for_the_memory_is_done_in_halves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Again and again, until it fits; nothing of it is seen in the result."""
    model = transparent_model()
    image = np.random.default_rng(7).random((9, 60, 40), dtype=np.float32)
    forward = model.encoder.forward
    sizes, most = [], [5000]

    def with_little_memory(*inputs: Any) -> Any:
        sizes.append(inputs[0].numel())
        if sizes[-1] > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*inputs)

    monkeypatch.setattr(model.encoder, "forward", with_little_memory)
    overlap = (2, 8, 8)
    shape, brightness = enhance_array(model, image, tile_zyx_shape=image.shape, overlap_zyx=overlap)
    np.testing.assert_allclose(shape, seen_through(image, 4), atol=2e-5)
    np.testing.assert_allclose(brightness, seen_through(image, 4, GAIN / 2), atol=2e-5)
    # What did not fit once is not tried again.
    failed = [size for size in sizes if size > most[0]]
    assert failed == sorted(set(failed), reverse=True)
    most[0] = 100
    stack = stack_of(tmp_path, image)
    with pytest.raises(TenetError, match="no memory for a tile of"):
        enhance_stack(trained(model), stack, UNIT, tmp_path / "out.ome.tif", overlap_zyx=overlap)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00.ome.tif"]


def test_several_devices_share_the_tiles() -> None:
    """Each has a copy of the model, and the result is that of one."""
    model = random_model(scale=2)
    image = np.random.default_rng(8).random((6, 90, 40), dtype=np.float32)
    tile, overlap = (6, 32, 40), (2, 8, 8)
    cpu = torch.device("cpu")
    one, two = (_Tiled(model, tile, overlap, [cpu] * n) for n in (1, 2))
    busy: list[int] = []
    together = threading.Barrier(2, timeout=60)

    def meet(module: nn.Module, _: Any) -> None:
        busy.append(id(module))
        if len(busy) < 3:  # the first tile of each waits for that of the other
            together.wait()

    copies = [two.idle.get(), two.idle.get()]
    for copy_ in copies:
        copy_.encoder.register_forward_pre_hook(meet)
        two.idle.put(copy_)
    np.testing.assert_array_equal(restore_array(two, image), restore_array(one, image))
    assert set(busy) >= {id(copy_.encoder) for copy_ in copies}


def test_the_next_tile_is_read_while_one_is_computed(tmp_path: Path) -> None:
    model = random_model(scale=2)
    stack = stack_of(tmp_path, np.random.default_rng(9).random((6, 90, 20), dtype=np.float32))
    events: list[str] = []
    lock = threading.Lock()
    read = stack.read
    second = threading.Event()

    def noted(*window: Any) -> Any:
        with lock:
            events.append("read")
            if events.count("read") == 2:
                second.set()
        return read(*window)

    def wait(*_: Any) -> None:
        with lock:
            events.append("compute")
        assert second.wait(60)

    model.encoder.register_forward_pre_hook(wait)
    object.__setattr__(stack, "read", noted)
    tile, overlap = (6, 32, 20), (2, 8, 8)
    enhance_stack(
        trained(model), stack, UNIT, tmp_path / "o.tif", tile_zyx_shape=tile, overlap_zyx=overlap
    )
    assert events.count("read") == events.count("compute") == 4
    # Never far ahead: memory is that of a few tiles.
    for position in range(len(events)):
        seen = events[: position + 1]
        assert seen.count("read") - seen.count("compute") <= 2


def test_bad_input_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    model, image = transparent_model(), np.zeros((4, 20, 20), dtype=np.float32)
    stack = stack_of(tmp_path, image)
    image[2, 3, 3] = np.nan
    np.memmap(stack.path, np.float32, "r+", offset_of(stack.path), image.shape)[:] = image
    with pytest.raises(TenetError, match="NaN"):
        enhance_stack(trained(model), stack, UNIT, tmp_path / "out.ome.tif")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00.ome.tif"]
    np.save(tmp_path / "bare.npy", image)
    with pytest.raises(TenetError, match="no voxel size"):
        enhance_stack(
            trained(model), open_stack(tmp_path / "bare.npy"), UNIT, tmp_path / "out.ome.tif"
        )
    with pytest.raises(TenetError, match="cannot be written"):
        enhance_stack(trained(model), stack, UNIT, tmp_path / "bare.npy" / "out.ome.tif")
    with pytest.raises(TenetError, match="from 0 to 1"):
        enhance_array(model, np.full((2, 4, 4), 2.0))
    with pytest.raises(TenetError, match="no stack"):
        enhance_array(model, np.zeros((4, 4)))
