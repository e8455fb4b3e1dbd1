"""Crops: where they come from, which are taken, how they are turned."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tenet.data.crops import Acceptance, Orientation, PhantomCrops, StackCrops, mask_boxes
from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange, normalise
from tenet.io.open import open_stack
from tenet.io.stack import Stack

EVERYTHING = Acceptance(relative_mean=0)
Triple = tuple[int, int, int]


class ArrayPhantom:
    """A synthetic volume in memory."""

    def __init__(self, shape: np.ndarray, brightness: np.ndarray) -> None:
        self.shape, self.brightness = shape, brightness
        self.zyx_shape: Triple = shape.shape

    def read(self, z: slice, y: slice, x: slice) -> tuple[np.ndarray, np.ndarray]:
        return self.shape[z, y, x], self.brightness[z, y, x]


def ramp(shape: Triple, start: int = 0) -> np.ndarray:
    """Return a volume in which each voxel has its own value."""
    return (start + np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)


def saved(path: Path, image: np.ndarray) -> Stack:
    np.save(path, image)
    return open_stack(path)


def unscaled(crop: np.ndarray, range_: IntensityRange) -> np.ndarray:
    return np.rint(crop.astype(np.float64) * (range_.high - range_.low) + range_.low).astype(int)


# Orientations


def all_orientations() -> list[Orientation]:
    return [Orientation((z, y, x), turn) for z, y, x, turn in product((False, True), repeat=4)]


def test_orientations_are_the_16_symmetries_that_keep_z() -> None:
    volume = ramp((3, 4, 4))
    turned = {o.apply(volume).tobytes() for o in all_orientations()}
    assert len(turned) == 16
    named = [
        volume,
        volume[::-1],  # flip along z
        volume[:, ::-1, :],  # flip along y
        np.rot90(volume, 1, axes=(1, 2)),
        np.rot90(volume, 2, axes=(1, 2)),
        np.rot90(volume, 3, axes=(1, 2)),
        volume[::-1, ::-1],  # half a turn about x, through z
        volume[::-1, :, ::-1],  # half a turn about y, through z
    ]
    for expected in named:
        assert np.ascontiguousarray(expected).tobytes() in turned
    # z stays an axis of its own: a plane is a plane still.
    for orientation in all_orientations():
        planes = orientation.apply(volume)
        assert {frozenset(p.ravel()) for p in planes} == {frozenset(p.ravel()) for p in volume}


def test_all_orientations_are_drawn_equally() -> None:
    rng = np.random.default_rng(0)
    drawn = [Orientation.draw(rng, (3, 4, 4)) for _ in range(3200)]
    counts = [drawn.count(o) for o in all_orientations()]
    assert sum(counts) == 3200
    assert min(counts) > 140  # 200 expected, standard deviation 14
    assert max(counts) < 260


def test_no_quarter_turn_where_y_and_x_differ() -> None:
    rng = np.random.default_rng(0)
    volume = ramp((3, 4, 6))
    drawn = [Orientation.draw(rng, volume.shape) for _ in range(200)]
    assert not any(o.quarter_turn for o in drawn)
    assert {o.apply(volume).shape for o in drawn} == {(3, 4, 6)}
    assert len(set(drawn)) == 8


def test_channels_are_turned_alike() -> None:
    volume = ramp((3, 4, 4))
    for orientation in all_orientations():
        both = orientation.apply(np.stack([volume, -volume]))
        np.testing.assert_array_equal(both[0], orientation.apply(volume))
        np.testing.assert_array_equal(both[1], -both[0])


# Crops of stacks


def test_crop_is_the_normalised_stack_at_its_place(tmp_path: Path) -> None:
    image = ramp((6, 9, 10))
    range_ = IntensityRange(-60, 1000, "minmax")
    crops = StackCrops(
        [saved(tmp_path / "a.npy", image)],
        [range_],
        (3, 4, 5),
        acceptance=EVERYTHING,
        augment=False,
    )
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(600):
        crop = crops.draw(rng)
        assert crop.dtype == np.float32
        z, y, x = np.unravel_index(unscaled(crop, range_)[0, 0, 0], image.shape)
        place = (slice(z, z + 3), slice(y, y + 4), slice(x, x + 5))
        np.testing.assert_array_equal(crop, normalise(image[place], range_))
        starts.add((int(z), int(y), int(x)))
    # Every place is reached, the last ones too.
    assert starts == set(product(range(4), range(6), range(6)))


def test_crop_as_large_as_the_stack(tmp_path: Path) -> None:
    image = ramp((3, 8, 8))
    range_ = IntensityRange(0, 200, "minmax")
    stack = saved(tmp_path / "a.npy", image)
    crops = StackCrops([stack], [range_], (3, 8, 8), acceptance=Acceptance(), augment=False)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(crops.draw(rng), normalise(image, range_))
    # Its mean is the stack's own: taken at once, with one draw of a place and one of luck.
    other = np.random.default_rng(0)
    StackCrops([stack], [range_], (3, 8, 8), acceptance=EVERYTHING, augment=False).draw(other)
    assert rng.bit_generator.state == other.bit_generator.state


def test_augmented_crop_is_a_turned_crop(tmp_path: Path) -> None:
    image = ramp((6, 10, 10))
    range_ = IntensityRange(0, 600, "minmax")
    crops = StackCrops(
        [saved(tmp_path / "a.npy", image)], [range_], (3, 4, 4), acceptance=EVERYTHING, augment=True
    )
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        values = unscaled(crops.draw(rng), range_)
        z, y, x = np.unravel_index(values.min(), image.shape)
        place = image[z : z + 3, y : y + 4, x : x + 4].astype(int)
        matches = [o for o in all_orientations() if np.array_equal(o.apply(place), values)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 16


def test_stacks_weigh_by_their_number_of_crops(tmp_path: Path) -> None:
    small, large = ramp((4, 8, 8)), ramp((4, 8, 26), start=10_000)
    stacks = [saved(tmp_path / "a.npy", small), saved(tmp_path / "b.npy", large)]
    range_ = IntensityRange(0, 20_000, "minmax")
    crops = StackCrops(stacks, [range_] * 2, (4, 8, 7), acceptance=EVERYTHING, augment=False)
    rng = np.random.default_rng(0)
    from_small = sum(crops.draw(rng).max() < 0.5 for _ in range(1100))
    # 2 of 22 places: 100 expected, standard deviation 9.5
    assert 65 < from_small < 135


def sparse(tmp_path: Path) -> tuple[Stack, IntensityRange]:
    """Return a stack with one bright corner of 1/64 of it."""
    image = np.random.default_rng(0).integers(0, 20, (16, 64, 64)).astype(np.uint16)
    image[:, :8, :8] += 1000
    return saved(tmp_path / "sparse.npy", image), IntensityRange(0, 1020, "minmax")


def test_background_is_mostly_rejected(tmp_path: Path) -> None:
    stack, range_ = sparse(tmp_path)
    bright = {}
    for name, acceptance in (
        ("all", EVERYTHING),
        ("some", Acceptance(background_probability=0.02, max_tries=1000)),
        ("none", Acceptance(background_probability=0, max_tries=1000)),
    ):
        crops = StackCrops([stack], [range_], (8, 16, 16), acceptance=acceptance, augment=False)
        rng = np.random.default_rng(1)
        drawn = [crops.draw(rng) for _ in range(150)]
        bright[name] = np.mean([crop.max() > 0.5 for crop in drawn])
        if name == "none":
            mean = normalise(stack.read(), range_).mean()
            assert all(crop.mean() >= mean * 0.9999 for crop in drawn)
    # 8 of 49 starts along y, and along x, touch the corner.
    assert bright["all"] < 0.08
    assert 0.4 < bright["some"] < 0.9
    assert bright["none"] == 1


def test_brightest_of_the_tries_is_taken(tmp_path: Path) -> None:
    image = ramp((4, 16, 16))
    range_ = IntensityRange(0, 1024, "minmax")
    stack = saved(tmp_path / "a.npy", image)
    never = Acceptance(relative_mean=100, background_probability=0, max_tries=20)
    best = StackCrops([stack], [range_], (2, 4, 4), acceptance=never, augment=False)
    single = StackCrops([stack], [range_], (2, 4, 4), acceptance=EVERYTHING, augment=False)
    rng, same = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(5):
        tried = [single.draw(same) for _ in range(20)]
        np.testing.assert_array_equal(best.draw(rng), max(tried, key=lambda crop: crop.mean()))


def test_draws_are_a_function_of_the_generator(tmp_path: Path) -> None:
    stack, range_ = sparse(tmp_path)
    crops = StackCrops([stack], [range_], (8, 16, 16), augment=True)
    rng = np.random.default_rng(5)
    for _ in range(3):
        crops.draw(rng)
    state = rng.bit_generator.state
    first = [crops.draw(rng) for _ in range(4)]
    resumed = np.random.default_rng()
    resumed.bit_generator.state = state
    again = StackCrops([stack], [range_], (8, 16, 16), augment=True)
    for crop in first:
        np.testing.assert_array_equal(again.draw(resumed), crop)
    assert not np.array_equal(first[0], first[1])


def test_stack_smaller_than_the_crop(tmp_path: Path) -> None:
    path = tmp_path / "small.tif"
    tifffile.imwrite(path, np.ones((4, 8, 8), np.uint8), photometric="minisblack")
    range_ = IntensityRange(0, 1, "minmax")
    with pytest.raises(TenetError) as error:
        StackCrops([open_stack(path)], [range_], (5, 8, 8), augment=False)
    for said in (str(path), "(4, 8, 8)", "(5, 8, 8)", "smaller crop"):
        assert said in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(TenetError, match="no volumes"):
        StackCrops([], [], (5, 8, 8), augment=False)
    with pytest.raises(TenetError, match="one for each"):
        StackCrops([open_stack(path)], [], (4, 8, 8), augment=False)


@pytest.mark.parametrize(
    "values",
    [
        {"relative_mean": -1},
        {"background_probability": 1.1},
        {"background_probability": -0.1},
        {"max_tries": 0},
    ],
)
def test_bad_acceptance(values: dict[str, float]) -> None:
    with pytest.raises(TenetError, match="acceptance"):
        Acceptance(**values)  # type: ignore[arg-type]


# Crops of phantoms


def phantom(seed: int = 0) -> ArrayPhantom:
    """Return a volume with one filled corner; the brightness tells each voxel's place."""
    shape = np.zeros((8, 24, 24), np.uint8)
    shape[:, :6, :6] = 1
    return ArrayPhantom(shape, ramp((8, 24, 24), start=seed))


@pytest.mark.parametrize("augment", [False, True])
def test_shape_and_brightness_belong_together(augment: bool) -> None:
    volume = phantom()
    crops = PhantomCrops([volume], (4, 6, 6), min_foreground=0, augment=augment)
    rng = np.random.default_rng(0)
    for _ in range(50):
        shape, brightness = crops.draw(rng)
        assert shape.dtype == brightness.dtype == np.float32
        assert shape.shape == brightness.shape == (4, 6, 6)
        # Each voxel's brightness is its index: the shape must be that voxel's own.
        np.testing.assert_array_equal(shape, volume.shape.ravel()[brightness.astype(int)])


def test_foreground_is_as_much_as_asked_for() -> None:
    crops = PhantomCrops([phantom()], (8, 6, 6), min_foreground=0.25, augment=False)
    rng = np.random.default_rng(0)
    foreground = [crops.draw(rng)[0].mean() for _ in range(100)]
    # 20 of the 19 × 19 starts will do: in 32 tries one is found with a probability of 84 %.
    assert np.mean(np.array(foreground) >= 0.25) > 0.7
    anywhere = PhantomCrops([phantom()], (8, 6, 6), min_foreground=0, augment=False)
    assert np.mean([anywhere.draw(rng)[0].mean() >= 0.25 for _ in range(100)]) < 0.15


def test_empty_phantom_does_not_hang() -> None:
    empty = ArrayPhantom(np.zeros((4, 8, 8), np.uint8), np.zeros((4, 8, 8), np.float32))
    crops = PhantomCrops([empty], (2, 4, 4), min_foreground=0.5, augment=True)
    shape, _ = crops.draw(np.random.default_rng(0))
    assert shape.sum() == 0


def test_phantom_crops_refuse_what_cannot_be() -> None:
    with pytest.raises(TenetError, match="phantom 0"):
        PhantomCrops([phantom()], (9, 6, 6), min_foreground=0, augment=False)
    with pytest.raises(TenetError, match="no volumes"):
        PhantomCrops([], (9, 6, 6), min_foreground=0, augment=False)
    with pytest.raises(TenetError, match="min_foreground"):
        PhantomCrops([phantom()], (4, 6, 6), min_foreground=2, augment=False)


# Masks


def test_mask_is_zero_in_its_boxes_alone() -> None:
    rng = np.random.default_rng(0)
    covered = np.zeros((6, 10, 12))
    for _ in range(4000):
        mask = mask_boxes(rng, (6, 10, 12), 1, (2, 3, 4))
        assert mask.dtype == np.float32
        assert (mask == 0).sum() == 24
        assert (mask == 1).sum() == mask.size - 24
        places = np.argwhere(mask == 0)
        np.testing.assert_array_equal(np.ptp(places, axis=0), (1, 2, 3))  # one solid box
        covered += 1 - mask
    assert covered.min() > 0  # corners too
    several = mask_boxes(rng, (6, 10, 12), 5, (2, 3, 4))
    assert 24 < (several == 0).sum() <= 120
    assert mask_boxes(rng, (6, 10, 12), 0, (2, 3, 4)).all()
    assert not mask_boxes(rng, (2, 3, 4), 1, (2, 3, 4)).any()
    with pytest.raises(TenetError, match="do not fit"):
        mask_boxes(rng, (6, 10, 12), 1, (7, 3, 4))
