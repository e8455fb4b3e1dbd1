"""Tiled inference: nothing moves, no seams, bounded memory; and the classes for folders."""

import json
import math
import threading
import tracemalloc
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from torch import Tensor, nn

from tenet.data.phantoms.store import save_phantom
from tenet.enhance.enhance import _Tiled, enhance_array, enhance_stack
from tenet.enhance.memory import context_of, default_overlap, default_tile
from tenet.enhance.restore import restore_array
from tenet.enhance.tiles import Tile, halves, tile_plan
from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.io.writing import write_ome_tiff
from tenet.model.store import Calibration, save_model
from tenet.model.tenet import TENET
from tenet.model.trained import TrainedModel
from tenet.paper.legacy.models import find_model, model_label
from tenet.paper.legacy.subjects import BeadsInference, MicrogliaInference, SimulationInference
from tenet.settings.schema import parse_experiment

UNIT = IntensityRange(0.0, 1.0, "none")
GAIN = 12.0
MICROSCOPE: dict[str, Any] = {
    "NA": 0.7,
    "wavelength": 0.9,
    "res_lateral": 0.1,
    "res_axial": 0.4,
    "blur_mode": "gaussian",
    "bet_z": 1.5,
    "bet_xy": 2.0,
    "size_z": 24,
    "size_y": 9,
    "size_x": 9,
    "psf_sampling": "continuous",
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    """Small convolutions are fastest on one thread, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def experiment(**params: Any) -> Any:
    settings = {"scale": 4, "hidden_channels_list": [4, 8], "nblocks": 1, **MICROSCOPE, **params}
    crop = {"cropsize": [48, 16, 16]}
    sections = ("pretrain_dataset", "pretrain_val_dataset", "train_dataset", "val_dataset")
    return parse_experiment(
        {
            "name": "tiny",
            "params": settings,
            **dict.fromkeys(sections, crop),
            "visualization": {"z_stack": 4, "x_slice": 20, "mip": 3},
        }
    )


def random_model(**params: Any) -> TENET:
    torch.manual_seed(0)
    model = TENET(experiment(**params).params).eval()
    with torch.no_grad():
        for name, weight in model.encoder.named_parameters():
            if weight.ndim > 1 and "head" not in name:
                weight.mul_(1.5)  # livelier than the initialisation, so that seams would show
    return model


def transparent_model(**params: Any) -> TENET:
    """A network that shows its own input: shape = sigmoid(GAIN (hill(upsampled) - ½))."""
    model = TENET(experiment(**params).params).eval()
    encoder = model.encoder
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.zero_()
                assert module.bias is not None
                module.bias.zero_()
        encoder.stem.weight[0, 0, 3, 3, 3] = 1
        for head, gain in ((encoder.shape_head, GAIN), (encoder.brightness_head, GAIN / 2)):
            head[-1].weight[0, 0, 1, 1, 1] = gain
            head[-1].bias.fill_(-gain / 2)
    return model


def trained(network: TENET, calibration: Calibration | None = None) -> TrainedModel:
    return TrainedModel(Path("model"), network, experiment(), calibration)


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


def stack_of(
    folder: Path, image: np.ndarray, voxel_size_um=(0.4, 0.1, 0.1), name="00.ome.tif"
) -> Stack:
    write_ome_tiff(folder / name, image.astype(np.float32), voxel_size_um)
    return open_stack(folder / name)


def offset_of(path: Path) -> int:
    """Where the voxels of an uncompressed TIFF begin."""
    with tifffile.TiffFile(path) as tiff:
        return int(tiff.series[0].dataoffset)


# Tiles


def test_mean_over_mirror_images_has_no_preferred_side() -> None:
    model = random_model()
    image = np.random.default_rng(3).random((6, 24, 24), dtype=np.float32)
    for flips, axes in ((4, (1, 2)), (8, (0, 1, 2))):
        for axis in axes:
            plain = np.stack(enhance_array(model, image, flips=flips))
            mirrored = np.stack(enhance_array(model, np.flip(image, axis), flips=flips))
            np.testing.assert_allclose(np.flip(mirrored, axis + 1), plain, atol=2e-5)
    once = np.stack(enhance_array(model, image))
    assert np.abs(once - plain).max() > 1e-3
    with pytest.raises(TenetError, match="flips is 3; it must be one of 1, 4, 8"):
        enhance_array(model, image, flips=3)


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


# Classes


def bead_image(shape: Any, centres: Any, radius_um: float = 1.0) -> np.ndarray:
    """Gaussian spots that the transparent network sees as ½ at a radius from the centre."""
    half_level = 1 / 9  # hill(1/9) = ½
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    image = np.zeros(shape, dtype=np.float32)
    for c in centres:
        r2 = ((z - c[0]) * 0.4) ** 2 + ((y - c[1]) * 0.1) ** 2 + ((x - c[2]) * 0.1) ** 2
        image += np.exp(np.log(half_level) * r2 / radius_um**2).astype(np.float32)
    return np.clip(image, 0, 1)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    settings = experiment().model_copy(
        update={
            "pretrained_model": "scale4",
            "train_dataset": experiment().train_dataset.model_copy(
                update={"folderpath": str(tmp_path / "data")}
            ),
        }
    )
    fine_tuned, pretrained = transparent_model(), random_model()
    fine_tuned.psf.fit(
        settings.params.model_psf(), np.random.default_rng(0), target_error=1e-4, steps=200
    )
    save_model(folder / "tiny" / "fold0", fine_tuned, settings, {})
    save_model(folder / "tiny" / "fold1", fine_tuned, settings, {})
    save_model(folder / "single" / "all", fine_tuned, settings, {})
    save_model(folder / "scale4", pretrained, experiment(), {})
    (folder / "tiny" / "fold1" / "threshold.json").write_text(json.dumps({"threshold": 0.35}))
    (tmp_path / "data").mkdir()
    return folder


def test_model_is_found_by_folder_or_name(models: Path) -> None:
    assert find_model("tiny/fold0", models) == models / "tiny" / "fold0"
    assert find_model(models / "tiny" / "fold0") == models / "tiny" / "fold0"
    assert find_model("single", models) == models / "single" / "all"
    assert find_model("tiny/fold0", models, pretrained=True) == models / "scale4"
    assert find_model("scale4", models, pretrained=True) == models / "scale4"
    assert model_label(models / "tiny" / "fold0") == "tiny_fold0"
    assert model_label(models / "scale4") == "scale4"
    with pytest.raises(TenetError, match="fold0, fold1: choose one"):
        find_model("tiny", models)
    with pytest.raises(TenetError, match=r"no model 'tyni'.*scale4"):
        find_model("tyni", models)


def test_threshold_comes_from_argument_model_or_settings(models: Path, tmp_path: Path) -> None:
    def threshold(name: str, asked: float) -> float:
        return BeadsInference(name, threshold=asked, models=models, out=tmp_path).threshold

    assert threshold("tiny/fold1", -1) == 0.35
    assert threshold("tiny/fold0", -1) == 0.5
    assert threshold("tiny/fold1", 0.7) == 0.7
    with pytest.raises(TenetError, match="threshold is 3"):
        threshold("tiny/fold1", 3)
    (models / "tiny" / "fold1" / "threshold.json").write_text('{"threshold": null}')
    with pytest.raises(TenetError, match=r"threshold\.json"):
        threshold("tiny/fold1", -1)


def test_alignment_needs_a_network_for_it(models: Path) -> None:
    with pytest.raises(TenetError, match="align_params"):
        MicrogliaInference("single", with_align=True, models=models)


def test_bead_volumes_and_centres_in_their_own_stacks(models: Path, tmp_path: Path) -> None:
    shape = (9, 39, 41)
    for number, radius in ((0, 1.0), (1, 0.8)):
        image = bead_image(shape, [(4, 19, 20)], radius)
        stack_of(tmp_path / "data", image, name=f"{number:02}.ome.tif")
    beads = BeadsInference("tiny/fold0", models=models, out=tmp_path / "out", device="cpu")
    results = beads.get_result(tmp_path / "data", tile_zyx_shape=(9, 24, 24), overlap_zyx=(2, 8, 8))
    metrics = beads.evaluate(results)
    # Robust normalisation and the interpolation of four coarse planes per µm cost some per cent.
    volumes = metrics["table"]["volume_um3"].to_numpy()
    np.testing.assert_allclose(volumes, 4 / 3 * np.pi * np.array([1.0, 0.8]) ** 3, rtol=0.12)
    assert metrics["mean"] == pytest.approx(volumes.mean())
    assert metrics["sd"] == pytest.approx(volumes.std(ddof=1))
    assert metrics["n"] == 2
    offsets = metrics["table"][["offset_z", "offset_y", "offset_x"]].to_numpy()
    assert np.abs(offsets).max() < 0.1


def test_beads_of_one_stack_are_measured_where_the_rois_say(models: Path, tmp_path: Path) -> None:
    centres = [(14, 30, 40), (9, 90, 150)]
    stack_of(tmp_path / "data", bead_image((20, 130, 200), centres), name="image_07.ome.tif")
    rois = pd.DataFrame(
        [{"roi": k, "image": 7, "z": z, "y": y, "x": x} for k, (z, y, x) in enumerate(centres)]
        + [{"roi": 9, "image": 3, "z": 1, "y": 1, "x": 1}]
    )
    beads = BeadsInference("tiny/fold0", models=models, out=tmp_path / "out", device="cpu")
    metrics = beads.evaluate(beads.get_result(tmp_path / "data"), rois)
    assert list(metrics["table"]["roi"]) == [0, 1]
    np.testing.assert_allclose(metrics["table"]["volume_um3"], 4 / 3 * np.pi, rtol=0.12)
    offsets = metrics["table"][["offset_z", "offset_y", "offset_x"]].to_numpy()
    assert np.abs(offsets).max() < 0.1
    with pytest.raises(TenetError, match="no bead"):
        beads.evaluate([])


def test_simulation_is_compared_with_its_phantom(models: Path, tmp_path: Path) -> None:
    image = bead_image((8, 40, 40), [(3, 12, 12), (5, 28, 27)])
    stack_of(tmp_path / "data", image)
    simulation = SimulationInference("tiny/fold0", models=models, out=tmp_path / "out")
    results = simulation.get_result(tmp_path / "data")
    truth = (results[0].read("shape") >= 0.5).astype(np.uint8)
    save_phantom(tmp_path / "00.zarr.zip", truth, truth.astype(np.float32))
    assert simulation.evaluate(results, tmp_path)["mean"] == 1
    shifted = np.roll(truth, 3, axis=1)
    save_phantom(tmp_path / "00.zarr.zip", shifted, shifted.astype(np.float32))
    scores = simulation.evaluate(results, tmp_path)
    both = np.count_nonzero(truth & shifted) / np.count_nonzero(truth | shifted)
    assert scores["mean"] == pytest.approx(both)
    assert scores["table"]["dice"].iloc[0] == pytest.approx(2 * both / (1 + both))
    save_phantom(tmp_path / "00.zarr.zip", truth[1:], truth[1:].astype(np.float32))
    with pytest.raises(TenetError, match="simulated from"):
        simulation.evaluate(results, tmp_path)


def test_microglia_pictures_and_pretrained_weights(models: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    for name in ("a", "b"):
        stack_of(tmp_path / "data", rng.random((6, 30, 24)), name=f"{name}.ome.tif")
    tuned = MicrogliaInference("single", models=models, out=tmp_path / "out", device="cpu")
    results = tuned.get_result(num_results=1)
    assert [r.name for r in results] == ["a"]
    written = [*tuned.visualize(results), tuned.psf_visualize()]
    assert [p.name for p in written] == ["a_mip.png", "a_depth.png", "a_heatmap.png", "psf.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in written)
    assert all(p.parent == tmp_path / "out" / "single_all" for p in written)
    before = MicrogliaInference("single", is_finetuning=False, models=models, out=tmp_path / "out")
    assert before.out.name == "scale4"
    assert not np.array_equal(
        before.get_result(num_results=1)[0].read("shape"), results[0].read("shape")
    )


def test_stacks_without_voxel_size_take_the_models_and_others_are_warned_of(
    models: Path, tmp_path: Path
) -> None:
    image = bead_image((6, 20, 20), [(3, 10, 10)])
    np.save(tmp_path / "data" / "0.npy", image)
    beads = BeadsInference("single", models=models, out=tmp_path / "out")
    (result,) = beads.get_result(tmp_path / "data")
    assert result.fine_voxel_size_um == pytest.approx((0.1, 0.1, 0.1))
    stack_of(tmp_path, image, (0.4, 0.3, 0.3))
    with pytest.warns(UserWarning, match="was trained for"):
        beads.get_result(tmp_path / "00.ome.tif")
