import json
import math
import multiprocessing
import pickle
import zipfile
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation

from tenet.data.phantoms.kinds import (
    AnglePhantomSettings,
    BeadsPhantomSettings,
    TrainingPhantomSettings,
    draw_angle_phantom,
    draw_beads_phantom,
    draw_training_phantom,
)
from tenet.data.phantoms.objects import (
    Deformation,
    _control_points,
    _cubic_b_splines,
    object_voxels,
    paint,
)
from tenet.data.phantoms.sets import generate_set
from tenet.data.phantoms.store import import_phantoms, open_phantom, open_phantoms, save_phantom
from tenet.errors import TenetError
from tenet.settings.schema import PhantomSet
from tenet.tasks.phantoms import training_phantoms

SMALL = TrainingPhantomSettings(
    zyx_shape=(48, 40, 44),
    n_objects=(3, 8),
    line_length=(20, 40),
    solid_radius=(4, 8),
    elastic_sigma=1.5,
    elastic_spacing=10,
)


def drawn_object(solid, extents, rng, *, bend=0.0, sigma=0.0, rotation=None, size=300):
    """Mask of one object about the middle of a cube."""
    rotation = Rotation.random(rng=rng) if rotation is None else rotation
    voxels = object_voxels(
        solid,
        np.asarray(extents) / 2,
        Deformation(bend, sigma, 30.0),
        rotation.as_matrix(),
        size / 2 + rng.uniform(-0.5, 0.5, 3),
        (size, size, size),
        rng,
    )
    mask = np.zeros((size, size, size), dtype=bool)
    mask.reshape(-1)[voxels] = True
    return np.pad(mask[ndimage.find_objects(mask.astype(np.uint8))[0]], 1)


def line_direction(mask):
    points = np.argwhere(mask)
    return np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][0]


# Objects


def test_a_straight_line_along_an_axis_has_exactly_7_by_7_voxels_across():
    rng = np.random.default_rng(0)
    for _ in range(10):
        mask = drawn_object("box", (60, 7, 7), rng, rotation=Rotation.identity(), size=80)
        areas = mask.sum(axis=(1, 2))[1:-1]
        assert set(areas) == {49}
        assert len(areas) == 60


@pytest.mark.parametrize(
    ("solid", "extents", "volume"),
    [
        ("box", (181, 7, 7), 181 * 49),
        ("box", (30, 30, 30), 30**3),
        ("ball", (31, 31, 31), math.pi / 6 * 31**3),
        ("octahedron", (40, 40, 40), 40**3 / 6),
    ],
)
def test_undeformed_objects_have_their_volume_whatever_their_orientation(solid, extents, volume):
    rng = np.random.default_rng(1)
    counts = [drawn_object(solid, extents, rng, size=200).sum() for _ in range(8)]
    assert np.mean(counts) == pytest.approx(volume, rel=0.005)
    assert np.std(counts) < 0.01 * volume


@pytest.mark.parametrize("sigma", [0.0, 6.0])
def test_lines_have_no_holes_and_stay_in_one_piece(sigma):
    rng = np.random.default_rng(2)
    per_length = []
    for _ in range(12):
        length = rng.uniform(120, 240)
        bend = rng.uniform(-math.pi / 2, math.pi / 2)
        mask = drawn_object("box", (length, 7, 7), rng, bend=bend, sigma=sigma)
        np.testing.assert_array_equal(ndimage.binary_fill_holes(mask), mask)
        assert ndimage.label(mask, structure=np.ones((3, 3, 3)))[1] == 1
        # A hole as deep as the surface would be an empty voxel enclosed from nearly all sides.
        neighbours = ndimage.convolve(mask.astype(int), np.ones((3, 3, 3), dtype=int))
        assert not np.any((neighbours >= 22) & ~mask)
        per_length.append(mask.sum() / length)
    assert np.mean(per_length) == pytest.approx(49, abs=0.5 if sigma == 0 else 5)


def test_a_bent_line_follows_an_arc():
    rng = np.random.default_rng(3)
    # Half a circle of length 157 has a diameter of 100.
    mask = drawn_object(
        "box", (50 * math.pi, 7, 7), rng, bend=math.pi, rotation=Rotation.identity()
    )
    z, y, x = (extent - 2 for extent in mask.shape)
    assert z == pytest.approx(100 + 7, abs=2)
    assert y == pytest.approx(50 + 3.5, abs=2)
    assert x in (7, 8)


def test_elastic_deformation_moves_the_control_points_by_sigma():
    rng = np.random.default_rng(4)
    middles = []
    for _ in range(150):
        voxels = object_voxels(
            "box",
            np.full(3, 2.0),
            Deformation(0.0, 5.0, 30.0),
            np.eye(3),
            np.full(3, 50.0),
            (100, 100, 100),
            rng,
        )
        middles.append(np.mean(np.unravel_index(np.unique(voxels), (100, 100, 100)), axis=1))
    # Each axis contributes the sum of its squared B-spline weights to the variance.
    weights = _cubic_b_splines(np.zeros(1), _control_points(4, 30.0), 30.0)
    expected = 5 * float(np.sum(weights**2)) ** 1.5
    assert np.std(middles) == pytest.approx(expected, rel=0.1)
    assert np.mean(middles) == pytest.approx(50, abs=4 * expected / math.sqrt(450))


def test_b_splines_reproduce_straight_lines():
    positions = np.linspace(-50, 50, 37)
    nodes = _control_points(100.0, 30.0)
    weights = _cubic_b_splines(positions, nodes, 30.0)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(weights @ nodes, positions, atol=1e-4)


def test_where_objects_overlap_the_brighter_one_counts():
    canvas = np.zeros(4, dtype=np.float32)
    paint(canvas, np.array([0, 1, 1, 2]), np.float32(0.5))
    paint(canvas, np.array([1, 1]), np.float32(0.75))
    paint(canvas, np.array([2, 3]), np.float32(0.25))
    assert canvas.tolist() == [0.5, 0.75, 0.5, 0.25]


# Phantoms


def test_training_phantoms_have_the_number_of_objects_and_brightness_that_is_asked_for():
    counts = set()
    for seed in range(25):
        drawn = draw_training_phantom(SMALL, np.random.default_rng(seed))
        counts.add(drawn.attributes["n_objects"])
        assert drawn.shape.dtype == np.uint8
        assert drawn.brightness.dtype == np.float32
        np.testing.assert_array_equal(drawn.shape, drawn.brightness > 0)
        assert drawn.brightness.max() <= 1
        values = np.unique(drawn.brightness[drawn.shape == 1])
        assert 1 <= len(values) <= drawn.attributes["n_objects"]
        assert 0.01 < drawn.shape.mean() < 0.6
    assert counts == {3, 4, 5, 6, 7, 8}


#: A single object; lines are 40 long.
ONE = replace(
    SMALL, zyx_shape=(80, 80, 80), n_objects=(1, 1), line_length=(40, 40), elastic_sigma=0
)


def test_lines_make_up_their_fraction():
    # A line of 40 × 3 × 3 and a solid of radius 6 to 7 differ in volume by far.
    settings = replace(ONE, line_thickness=(3, 3), solid_radius=(6, 7), line_fraction=0.7)
    volumes = [
        int(draw_training_phantom(settings, np.random.default_rng(seed)).shape.sum())
        for seed in range(300)
    ]
    whole = [v for v in volumes if v > 250]  # less: cut by the border
    lines = sum(v < 420 and v > 320 for v in whole)
    cubes = sum(v > 1500 for v in whole)
    balls = sum(870 < v < 1500 for v in whole)
    assert lines / (lines + cubes * 3) == pytest.approx(0.7, abs=0.15)
    assert cubes > 5
    assert balls > 5


def test_lines_are_as_thick_as_drawn():
    settings = replace(ONE, line_thickness=(2, 8), line_fraction=1, line_bend_deg=0)
    volumes = [
        int(draw_training_phantom(settings, np.random.default_rng(seed)).shape.sum())
        for seed in range(60)
    ]
    whole = sorted(volumes)[20:]  # others are cut by the border
    assert 40 * 7**2 < max(whole) < 1.05 * 40 * 8**2
    assert min(whole) < 40 * 4.5**2


@pytest.mark.parametrize("angle", [0.0, 45.0, 90.0])
def test_lines_stand_at_their_angle_to_z_at_any_azimuth(angle):
    settings = AnglePhantomSettings(
        (70, 70, 70), n_lines=1, line_length=(30, 40), line_thickness=5, angle_deg=angle
    )
    azimuths = []
    for seed in range(40):
        drawn = draw_angle_phantom(settings, np.random.default_rng(seed))
        if drawn.shape.sum() < 25 * 30 * 0.95:
            continue  # cut by the border
        direction = line_direction(drawn.shape)
        measured = math.degrees(math.acos(min(1.0, abs(direction[0]))))
        assert measured == pytest.approx(angle, abs=3)
        azimuths.append(math.atan2(direction[1], direction[2]))
    assert len(azimuths) > 10
    if angle > 0:
        assert np.ptp(azimuths) > 2


def test_random_angles_are_uniform_and_brightness_is_log_normal_cut_at_1():
    settings = AnglePhantomSettings((80, 80, 80), 1, (40, 40), 3, "random")
    angles, brightness = [], []
    for seed in range(300):
        drawn = draw_angle_phantom(settings, np.random.default_rng(seed))
        if drawn.shape.sum() < 300:
            continue
        angles.append(math.degrees(math.acos(min(1.0, abs(line_direction(drawn.shape)[0])))))
        brightness.append(drawn.brightness.max())
    assert len(angles) > 100
    assert stats.kstest(angles, stats.uniform(0, 90).cdf).pvalue > 1e-3
    # Half are cut; below that the log is half a normal distribution.
    n = len(brightness)
    below = np.log([b for b in brightness if b < 1])
    assert stats.binomtest(len(below), n, 0.5).pvalue > 1e-3
    assert stats.kstest(-below, stats.halfnorm(scale=0.5).cdf).pvalue > 1e-3


def test_beads_are_whole_spheres_where_they_are_said_to_be():
    settings = BeadsPhantomSettings(
        (60, 200, 210), (0.2, 0.05, 0.05), 6, gap_um=0.2, margin_um=0.3, brightness_log_sd=0.3
    )
    drawn = draw_beads_phantom(settings, np.random.default_rng(7))
    labels, n = ndimage.label(drawn.shape)
    centres = np.array(drawn.attributes["centres_zyx"])
    assert n == len(centres) == 6
    size = np.array(settings.voxel_size_um)
    radius = settings.diameter_um / 2
    for centre in centres:
        label = labels[tuple(np.rint(centre).astype(int))]
        mask = labels == label
        assert label > 0
        assert mask.sum() * size.prod() == pytest.approx(4 / 3 * math.pi, rel=0.01)
        np.testing.assert_allclose(np.argwhere(mask).mean(axis=0), centre, atol=0.15)
        assert len(np.unique(drawn.brightness[mask])) == 1
        assert np.all((centre + 0.5) * size >= radius + 0.3 - 1e-9)
        assert np.all((np.array(settings.zyx_shape) - 0.5 - centre) * size >= radius + 0.3 - 1e-9)
    distances = [np.linalg.norm((a - b) * size) for i, a in enumerate(centres) for b in centres[:i]]
    assert min(distances) >= 2.2


def test_beads_that_do_not_fit_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(TenetError, match="does not fit"):
        draw_beads_phantom(BeadsPhantomSettings((30, 200, 200)), rng)
    with pytest.raises(TenetError, match="no place for 50 beads"):
        draw_beads_phantom(BeadsPhantomSettings((100, 100, 100), n_beads=50), rng)


def test_the_generator_alone_decides():
    for settings in (
        SMALL,
        AnglePhantomSettings((40, 40, 40), 5),
        BeadsPhantomSettings((100, 100, 100), n_beads=1),
    ):
        first, again, other = (settings.draw(np.random.default_rng(seed)) for seed in (5, 5, 6))
        np.testing.assert_array_equal(first.brightness, again.brightness)
        assert first.attributes == again.attributes
        assert np.any(first.brightness != other.brightness)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (TrainingPhantomSettings, {"zyx_shape": (0, 5, 5)}),
        (TrainingPhantomSettings, {"zyx_shape": (10**6, 10**6, 10**6)}),
        (TrainingPhantomSettings, {"n_objects": (5, 3)}),
        (TrainingPhantomSettings, {"n_objects": (5, 10**9)}),
        (AnglePhantomSettings, {"n_lines": 10**9}),
        (BeadsPhantomSettings, {"n_beads": 10**9}),
        (TrainingPhantomSettings, {"line_fraction": 1.5}),
        (TrainingPhantomSettings, {"line_length": (math.nan, 20)}),
        (TrainingPhantomSettings, {"elastic_sigma": 7.0}),
        (AnglePhantomSettings, {"angle_deg": 120.0}),
        (AnglePhantomSettings, {"angle_deg": "any"}),
        (BeadsPhantomSettings, {"voxel_size_um": (0.05, 0.0, 0.05)}),
        (BeadsPhantomSettings, {"diameter_um": -1.0}),
    ],
)
def test_settings_out_of_range_are_refused_by_name(kind, change):
    with pytest.raises(TenetError, match=next(iter(change))):
        kind(**change)


# Files


@pytest.fixture
def volumes():
    rng = np.random.default_rng(11)
    shape = (rng.random((130, 70, 66)) < 0.3).astype(np.uint8)
    brightness = rng.random(shape.shape, dtype=np.float32)  # outside the objects too
    brightness[:2] = [[[0.0]], [[1.0]]]
    return shape, brightness


def test_a_stored_phantom_is_read_by_crops(tmp_path, volumes):
    shape, brightness = volumes
    path = tmp_path / "sub" / "00.zarr.zip"
    saved = save_phantom(
        path, shape, brightness, voxel_size_um=(0.3, 0.31, 0.32), attributes={"a": [1, 2]}
    )
    phantom = open_phantom(path)
    assert phantom.path == saved.path == path
    assert phantom.zyx_shape == (130, 70, 66)
    assert phantom.voxel_size_um == (0.3, 0.31, 0.32)
    assert phantom.attributes == {"a": [1, 2]}
    for crop in [
        (slice(None),) * 3,
        (slice(100, 130), slice(50, 70), slice(1, 66)),
        (slice(119, 121), slice(63, 65), slice(63, 65)),
    ]:
        read_shape, read_brightness = phantom.read(*crop)
        assert read_shape.dtype == np.uint8
        assert read_brightness.dtype == np.float32
        np.testing.assert_array_equal(read_shape, shape[crop])
        np.testing.assert_allclose(read_brightness, brightness[crop], rtol=0, atol=1.6e-5)
    np.testing.assert_array_equal(phantom.read(slice(0, 2), slice(None), slice(None))[1][0], 0)
    np.testing.assert_array_equal(phantom.read(slice(0, 2), slice(None), slice(None))[1][1], 1)
    assert [p.name for p in path.parent.iterdir()] == ["00.zarr.zip"]


def _sum_of_crop(job):
    phantom, start = job
    shape, brightness = phantom.read(slice(start, start + 20), slice(None), slice(None))
    return int(shape.sum()), float(brightness.sum(dtype=float))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_open_phantom_can_be_read_by_other_processes(tmp_path, volumes, method):
    phantom = save_phantom(tmp_path / "00.zarr.zip", *volumes)
    jobs = [(phantom, start) for start in range(0, 110, 5)]
    expected = [_sum_of_crop(job) for job in jobs]  # opens the file here
    pickle.dumps(phantom)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_sum_of_crop, jobs, chunksize=1) == expected


def test_a_failed_save_leaves_nothing_behind_and_an_older_file_as_it_was(tmp_path, volumes):
    path = tmp_path / "00.zarr.zip"
    save_phantom(path, *volumes)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_phantom(path, *volumes, attributes={"not for JSON": object()})
    with pytest.raises(TenetError, match="differ in size"):
        save_phantom(path, volumes[0], volumes[1][1:])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["00.zarr.zip"]


def test_files_that_are_no_phantoms_are_refused(tmp_path):
    with pytest.raises(TenetError, match="not found"):
        open_phantom(tmp_path / "00.zarr.zip")
    (tmp_path / "00.zarr.zip").write_bytes(b"not a zip")
    with pytest.raises(TenetError, match="cannot read"):
        open_phantom(tmp_path / "00.zarr.zip")
    with pytest.raises(TenetError, match=r"must end in \.zarr\.zip"):
        save_phantom(tmp_path / "00.tif", np.ones((2, 2, 2), np.uint8), np.ones((2, 2, 2)))


def test_a_damaged_phantom_is_named_where_it_is_read(tmp_path, volumes):
    path = tmp_path / "00.zarr.zip"
    save_phantom(path, *volumes)
    damaged = bytearray(path.read_bytes())
    damaged[1000:1100] = bytes(100)
    path.write_bytes(damaged)
    with pytest.raises(TenetError, match=r"00\.zarr\.zip is damaged") as error:
        open_phantom(path).read(slice(None), slice(None), slice(None))
    assert "\n" not in str(error.value)


def test_equal_phantoms_are_equal_files_whatever_the_time(tmp_path, volumes, monkeypatch):
    """The pipeline follows phantoms by the checksums of their files."""
    save_phantom(tmp_path / "a.zarr.zip", *volumes)
    monkeypatch.setattr("time.time", lambda: 1e9)
    save_phantom(tmp_path / "b.zarr.zip", *volumes)
    assert (tmp_path / "a.zarr.zip").read_bytes() == (tmp_path / "b.zarr.zip").read_bytes()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"blocksize": 0', '"blocksize": 0.5'),
        ('"clevel": 5', '"clevel": 1e3'),
        ('"fill_value": 0', '"fill_value": -1'),
        ('"shape": [', '"shape": [0.5, '),
        ('"voxel_size_um": null', '"voxel_size_um": [1, 0, 1]'),
        ('"voxel_size_um": null', '"brightest": 0'),
        ('"attributes": {}', '"attributes": 3'),
        ('"chunk_shape": [', '"chunk_shape": [99999999999'),
    ],
)
def test_a_phantom_that_describes_itself_wrongly_is_refused(tmp_path, volumes, old, new):
    """Each of these once ended in an error of another package (found by fuzzing)."""
    path = tmp_path / "00.zarr.zip"
    save_phantom(path, *volumes)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.dumps(json.loads(members["zarr.json"]))
    assert old in metadata
    members["zarr.json"] = metadata.replace(old, new).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(TenetError, match=r"00\.zarr\.zip") as error:
        open_phantom(path)
    assert "\n" not in str(error.value)


def test_phantoms_of_a_folder_come_sorted(tmp_path, volumes):
    with pytest.raises(TenetError, match="no phantoms"):
        open_phantoms(tmp_path)
    np.savez(tmp_path / "a.npz", shape=volumes[0], brightness=volumes[1])
    with pytest.raises(TenetError, match="import them"):
        open_phantoms(tmp_path)
    for name in ("10", "02", "00"):
        save_phantom(tmp_path / f"{name}.zarr.zip", volumes[0][:4], volumes[1][:4])
    (tmp_path / ".05.zarr.zip.77.partial").write_bytes(b"")
    names = [p.path.name for p in open_phantoms(tmp_path)]
    assert names == ["00.zarr.zip", "02.zarr.zip", "10.zarr.zip"]


def test_a_users_phantoms_are_imported(tmp_path, volumes):
    source = tmp_path / "npz"
    source.mkdir()
    with pytest.raises(TenetError, match=r"no \.npz files"):
        import_phantoms(source, tmp_path / "out")
    np.savez_compressed(source / "b.npz", shape=volumes[0] > 0, brightness=volumes[1].astype(float))
    np.savez(source / "a.npz", shape=volumes[0][:9], brightness=volumes[1][:9])
    phantoms_ = import_phantoms(source, tmp_path / "out", voxel_size_um=(1.0, 0.5, 0.5))
    assert [p.path.name for p in phantoms_] == ["a.zarr.zip", "b.zarr.zip"]
    assert phantoms_[1].voxel_size_um == (1.0, 0.5, 0.5)
    shape, brightness = phantoms_[1].read(slice(None), slice(None), slice(None))
    np.testing.assert_array_equal(shape, volumes[0])
    np.testing.assert_allclose(brightness, volumes[0] * volumes[1], rtol=0, atol=1.6e-5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"shape": np.ones((2, 2, 2), np.uint8)}, "lacks the array brightness"),
        ({"shape": np.ones((2, 2), np.uint8), "brightness": np.ones((2, 2))}, "must be Z, Y, X"),
        ({"shape": np.ones((2, 2, 2), int), "brightness": np.ones((2, 2, 3))}, "differ in size"),
        ({"shape": np.full((2, 2, 2), 2), "brightness": np.ones((2, 2, 2))}, "0 and 1 only"),
        ({"shape": np.full((2, 2, 2), 0.5), "brightness": np.ones((2, 2, 2))}, "0 and 1 only"),
        ({"shape": np.ones((2, 2, 2), int), "brightness": np.full((2, 2, 2), np.nan)}, "0 to 1"),
        ({"shape": np.ones((2, 2, 2), int), "brightness": np.full((2, 2, 2), 1.1)}, "0 to 1"),
        ({"shape": np.ones((2, 2, 2), int), "brightness": np.ones((2, 2, 2), int)}, "0 to 1"),
        ({"shape": np.array([None]), "brightness": np.ones((2, 2, 2))}, "without pickles"),
    ],
)
def test_an_import_that_is_wrong_names_the_file_and_the_fault(tmp_path, arrays, message):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(TenetError, match=rf"mine\.npz.*{message}"):
        import_phantoms(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Sets


def contents(phantom):
    return phantom.read(slice(None), slice(None), slice(None))[1]


def test_a_set_depends_on_its_seed_and_not_on_its_workers_or_size(tmp_path):
    progress = []
    alone = generate_set(
        SMALL, tmp_path / "a", count=3, seed=4, progress=lambda *p: progress.append(p)
    )
    assert progress == [(1, 3), (2, 3), (3, 3)]
    together = generate_set(
        SMALL, tmp_path / "b", count=2, seed=4, workers=2, progress=lambda *p: progress.append(p)
    )
    assert progress[3:] == [(1, 2), (2, 2)]
    assert [p.path.name for p in alone] == ["00.zarr.zip", "01.zarr.zip", "02.zarr.zip"]
    for one, other in zip(alone, together, strict=False):
        np.testing.assert_array_equal(contents(one), contents(other))
    for one, other in pairwise(alone):
        assert np.any(contents(one) != contents(other))
    other_seed = generate_set(SMALL, tmp_path / "c", count=1, seed=5)
    assert np.any(contents(other_seed[0]) != contents(alone[0]))

    # Each can be drawn again from what is noted.
    record = json.loads((tmp_path / "a" / "phantoms.json").read_text())
    assert record["kind"] == "TrainingPhantomSettings"
    assert record["settings"] == json.loads(json.dumps(asdict(SMALL)))
    volume = record["volumes"][2]
    assert volume["file"] == "02.zarr.zip"
    drawn = draw_training_phantom(SMALL, np.random.default_rng(volume["seed"]))
    assert drawn.attributes["n_objects"] == volume["n_objects"]
    np.testing.assert_allclose(drawn.brightness, contents(alone[2]), atol=1.6e-5, rtol=0)


def test_a_set_of_beads_knows_its_centres_and_its_grid(tmp_path):
    settings = BeadsPhantomSettings((70, 90, 90), (0.1, 0.05, 0.05), n_beads=1)
    (phantom,) = generate_set(settings, tmp_path, count=1, seed=0)
    assert phantom.voxel_size_um == (0.1, 0.05, 0.05)
    z, y, x = (round(c) for c in phantom.attributes["centres_zyx"][0])
    shape, _ = phantom.read(slice(z, z + 1), slice(y, y + 1), slice(x, x + 1))
    assert shape.item() == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_volume_that_fails_fails_the_set(tmp_path, workers):
    impossible = BeadsPhantomSettings((60, 60, 60), n_beads=20, gap_um=0, margin_um=0)
    with pytest.raises(TenetError, match="no place for"):
        generate_set(impossible, tmp_path, count=2, seed=0, workers=workers)
    assert list(tmp_path.iterdir()) == []


def test_a_set_does_not_mix_with_another(tmp_path):
    generate_set(SMALL, tmp_path, count=3, seed=0)
    with pytest.raises(TenetError, match=r"02\.zarr\.zip"):
        generate_set(SMALL, tmp_path, count=2, seed=0)
    with pytest.raises(TenetError, match="count"):
        generate_set(SMALL, tmp_path, count=0, seed=0)


def test_an_experiment_scales_the_objects_of_its_phantoms():
    section = PhantomSet(
        image_size=(48, 40, 44), train_object_num_min=3, train_object_num_max=8, object_scale=0.5
    )
    settings, base = training_phantoms(section, (1.0, 1.0, 1.0)), TrainingPhantomSettings()
    assert settings.zyx_shape == (48, 40, 44)
    assert settings.n_objects == (3, 8)
    assert settings.line_length == tuple(length / 2 for length in base.line_length)
    assert settings.solid_radius == tuple(radius / 2 for radius in base.solid_radius)
    assert settings.line_thickness == base.line_thickness
    many = training_phantoms(PhantomSet(line_thickness=(2, 14)), (1.0, 1.0, 1.0))
    assert many.line_thickness == (2, 14)
