import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation

from tenet.data.phantoms.cells import SOMA, VesselLooks, draw_microglia, draw_soma, draw_vessel
from tenet.data.phantoms.kinds import TrainingPhantomSettings
from tenet.data.phantoms.mixture import KINDS, MixturePhantomSettings
from tenet.data.phantoms.neurites import AxonLooks, DendriteLooks, draw_axon, draw_dendrite
from tenet.data.phantoms.objects import Deformation, draw_brightness, object_voxels, paint
from tenet.data.phantoms.paths import smooth_noise, smooth_path
from tenet.data.phantoms.sets import generate_set
from tenet.data.phantoms.tubes import (
    Piece,
    Roughness,
    Tube,
    piece_voxels,
    thinnest_um,
    tube_voxels,
)
from tenet.errors import TenetError
from tenet.settings.schema import PhantomSet, validated
from tenet.tasks.phantoms import training_phantoms

FINE = (0.125, 0.12, 0.12)
FEW = TrainingPhantomSettings(
    zyx_shape=(64, 64, 64), n_objects=(4, 4), line_length=(20, 40), solid_radius=(4, 8)
)


def filled(tubes, size, shape, roughness=None):
    voxels, share = tube_voxels(tubes, size, shape, roughness)
    light = np.zeros(shape, np.float32)
    np.maximum.at(light.reshape(-1), voxels, share)
    return light


def capsule(start, end, radii):
    return Tube(np.array([start, end], float), np.array(radii, float))


# Geometry of tubes


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 1, 0), (1, 1, 1), (0.3, -0.8, 0.5)])
def test_a_capsule_has_its_volume_whatever_its_direction(direction):
    way = 5 * np.array(direction) / np.linalg.norm(direction)
    tube = capsule(4.0 - way / 2, 4.0 + way / 2, (0.6, 0.6))
    volume = filled([tube], FINE, (64, 67, 67)).sum() * math.prod(FINE)
    assert volume == pytest.approx(math.pi * 0.36 * 5 + 4 / 3 * math.pi * 0.216, rel=0.02)


def test_a_tapered_capsule_has_the_volume_of_its_frustum():
    tube = capsule((1, 4, 4), (7, 4, 4), (1.2, 0.6))
    light = filled([tube], (0.1, 0.1, 0.1), (80, 80, 80))[10:70]
    frustum = math.pi * 6 / 3 * (1.2**2 + 1.2 * 0.6 + 0.6**2)
    assert light.sum() * 1e-3 == pytest.approx(frustum, rel=0.02)


def test_a_ball_is_as_long_in_um_along_each_axis_of_an_anisotropic_grid():
    size = (0.25, 0.1, 0.05)
    light = filled([Tube(np.full((1, 3), 3.0), np.array([2.0]))], size, (24, 60, 120))
    extents = [np.ptp(np.flatnonzero(light.any(axis))) * 1.0 for axis in ((1, 2), (0, 2), (0, 1))]
    np.testing.assert_allclose((np.array(extents) + 1) * size, 4.0, atol=0.26)
    moments = np.std(np.argwhere(light) * size, axis=0)
    np.testing.assert_allclose(moments, 2 / math.sqrt(5), rtol=0.02)


def test_a_thin_tube_stays_in_one_piece_and_keeps_its_light():
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(20):
        path = smooth_path(np.full(3, 3.8), rng.normal(size=3), 3.5, 0.2, 0.2, rng)
        light = filled([Tube(path, np.full(len(path), 0.05))], FINE, (64, 64, 64))
        assert ndimage.label(light, np.ones((3, 3, 3)))[1] == 1
        ratios.append(light.sum() * math.prod(FINE) / (math.pi * 0.05**2 * 3.5))
        assert light[light > 0] == pytest.approx((0.05 / thinnest_um(FINE)) ** 2)
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)  # with its two ends


def test_what_lies_outside_of_the_volume_is_left_out():
    tube = capsule((-3, 1, 1), (9, 1, 1), (0.5, 0.5))
    assert filled([tube], (0.1, 0.1, 0.1), (20, 20, 20)).sum(axis=(1, 2)).min() > 60
    assert len(tube_voxels([capsule((5, 5, 5), (6, 6, 6), (1, 1))], FINE, (8, 8, 8))[0]) == 0


def test_roughness_changes_a_radius_by_its_strength_at_most_and_not_on_average():
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 12, (20000, 3))
    factors = [Roughness.draw(0.3, 1.5, rng).factor(points) for _ in range(30)]
    assert 0.7 <= np.min(factors) < 0.8 < 1.2 < np.max(factors) <= 1.3
    assert np.mean(factors) == pytest.approx(1, abs=0.01)


def test_paths_have_their_length_and_wander_as_a_brownian_motion_does():
    rng = np.random.default_rng(2)
    ends = []
    for _ in range(2000):
        path = smooth_path(np.zeros(3), np.array([0.0, 0, 1]), 1.0, 0.1, 0.1, rng)
        steps = np.diff(path, axis=0)
        assert np.linalg.norm(steps, axis=1).sum() == pytest.approx(1.0)
        ends.append(steps[-1] / 0.1)
    np.testing.assert_allclose(np.std(ends, axis=0)[:2], 0.1, rtol=0.06)


def test_smooth_noise_is_normal_and_forgets_after_its_correlation_length():
    noise = smooth_noise(20000, 5, np.random.default_rng(3))
    assert noise.std() == pytest.approx(1, abs=0.05)
    assert np.corrcoef(noise[:-5], noise[5:])[0, 1] == pytest.approx(math.exp(-0.25), abs=0.05)
    assert abs(np.corrcoef(noise[:-25], noise[25:])[0, 1]) < 0.07


# Dendrites and axons

SIZE = np.array([20.0, 20.0, 20.0])


def length_of(path):
    return np.linalg.norm(np.diff(path, axis=0), axis=1).sum()


def test_spines_are_as_many_for_each_um_as_was_asked_for():
    looks = DendriteLooks(spines_per_um=(1.2, 1.2), branching=0.0)
    drawn = [draw_dendrite(SIZE, np.random.default_rng([0, n]), looks) for n in range(60)]
    length = sum(length_of(dendrite.tubes[0].points_um) for dendrite in drawn)
    assert sum(len(dendrite.tips_um) for dendrite in drawn) / length == pytest.approx(1.2, rel=0.1)


def test_a_spine_is_as_long_as_was_drawn_and_its_tip_is_where_it_ends():
    looks = DendriteLooks(shaft_um=(0.5, 0.5), spines_per_um=(1.0, 1.0), branching=0.0)
    for n in range(10):
        dendrite = draw_dendrite(SIZE, np.random.default_rng([1, n]), looks)
        spines = dendrite.tubes[2::2]  # after the shaft, foot and spine in turn
        assert len(spines) == len(dendrite.tips_um)
        for spine, tip, length in zip(
            spines, dendrite.tips_um, dendrite.spine_lengths_um, strict=True
        ):
            assert 0.5 <= length <= 3.5
            reach = np.linalg.norm(tip - spine.points_um[-1])
            assert reach == pytest.approx(spine.radii_um[-1])
            assert length_of(spine.points_um) + reach == pytest.approx(length, abs=0.25)


def test_shafts_heads_and_necks_have_the_diameters_of_their_ranges():
    looks = DendriteLooks(stubby=0.0, headless=0.0, branching=0.0)
    shafts, heads, necks = [], [], []
    for n in range(80):
        dendrite = draw_dendrite(SIZE, np.random.default_rng([2, n]), looks)
        shafts.append(2 * np.median(dendrite.tubes[0].radii_um))
        long = [s for s, um in zip(dendrite.tubes[2::2], dendrite.spine_lengths_um, strict=True)
                if um > 1.5]  # fmt: skip
        heads += [2 * spine.radii_um.max() for spine in long]
        necks += [2 * spine.radii_um.min() for spine in long]
    assert 0.2 < min(shafts) < 0.5
    assert 1.5 < max(shafts) < 2.6
    assert np.mean((np.array(heads) > 0.28) & (np.array(heads) < 1.01)) == 1
    assert np.median(heads) == pytest.approx(0.6, abs=0.05)
    assert np.percentile(necks, [5, 95]) == pytest.approx([0.11, 0.22], abs=0.02)


def test_a_dendrite_is_one_piece_with_its_spines():
    for n in range(4):
        dendrite = draw_dendrite(np.array([8.0, 8, 8]), np.random.default_rng([3, n]))
        shape = (160, 160, 160)  # all around, so that nothing is cut off from its shaft
        moved = [Tube(tube.points_um + 6, tube.radii_um) for tube in dendrite.tubes]
        light = filled(moved, FINE, shape, dendrite.roughness)
        labels, _ = ndimage.label(light, np.ones((3, 3, 3)))
        assert np.bincount(labels.ravel())[1:].max() > 0.99 * np.count_nonzero(light)


def test_boutons_are_3_to_6_um_apart_on_a_thin_axon():
    looks = AxonLooks(thickness_um=(0.2, 0.2))
    gaps, widths = [], []
    for n in range(40):
        (tube,) = draw_axon(SIZE, np.random.default_rng([4, n]), looks).tubes
        swollen, n_boutons = ndimage.label(tube.radii_um > 0.101)
        middles = ndimage.center_of_mass(swollen > 0, swollen, np.arange(1, n_boutons + 1))
        gaps += list(0.2 * np.diff(np.ravel(middles))[1:-1])
        widths += list(2 * ndimage.maximum(tube.radii_um, swollen, np.arange(2, n_boutons)))
        assert tube.radii_um.min() == pytest.approx(0.1)
    assert np.ptp(gaps) < 3.4
    assert np.mean(gaps) == pytest.approx(4.5, abs=0.2)
    assert min(widths) > 0.4
    assert max(widths) <= 1.0


# Mixtures


def test_the_default_is_the_published_mixture_with_the_same_draws():
    section = PhantomSet(image_size=(48, 40, 44), train_object_num_min=3, train_object_num_max=8)
    settings = training_phantoms(section, FINE)
    assert isinstance(settings, TrainingPhantomSettings)
    settings = FEW
    drawn = settings.draw(np.random.default_rng(5)).brightness
    rng, canvas = np.random.default_rng(5), np.zeros(math.prod(settings.zyx_shape), np.float32)
    for _ in range(int(rng.integers(*settings.n_objects, endpoint=True))):
        solid, bend, thick = "box", 0.0, 7.0
        if rng.random() < settings.line_fraction:
            bend = rng.uniform(-math.pi / 2, math.pi / 2)
            extents = np.array([rng.uniform(*settings.line_length), thick, thick])
        else:
            solid = ("ball", "octahedron", "box")[rng.integers(3)]
            extents = np.full(3, 2 * rng.uniform(*settings.solid_radius))
        deformation = Deformation(bend, settings.elastic_sigma, settings.elastic_spacing)
        rotation = Rotation.random(rng=rng).as_matrix()
        centre = rng.uniform(0.0, settings.zyx_shape) - 0.5
        voxels = object_voxels(
            solid, extents / 2, deformation, rotation, centre, settings.zyx_shape, rng
        )
        paint(canvas, voxels, draw_brightness(settings.brightness_log_sd, rng))
    np.testing.assert_array_equal(drawn.ravel(), canvas)


def test_kinds_come_in_their_shares():
    many = TrainingPhantomSettings(zyx_shape=(8, 8, 8), n_objects=(600, 600), solid_radius=(1, 2),
                                   line_length=(2, 3), line_thickness=(1, 1))  # fmt: skip
    shares = {"line": 3.0, "solid": 1.0, "dendrite": 2.0, "axon": 0.0}
    settings = MixturePhantomSettings(many, FINE, shares)
    kinds = settings.draw(np.random.default_rng(6)).attributes["kinds"]
    assert set(kinds) == {"line", "solid", "dendrite"}
    assert sum(kinds.values()) == 600
    assert stats.chisquare(list(kinds.values()), [300, 100, 200]).pvalue > 0.001


def test_brightness_is_uniform_on_a_logarithmic_scale_and_may_be_above_1():
    settings = MixturePhantomSettings(
        FEW, FINE, {"line": 1.0}, brightest=20.0, brightness_decades=1.5
    )
    rng = np.random.default_rng(7)
    drawn = np.log10([settings._brightness(rng) for _ in range(3000)])
    low = math.log10(20) - 1.5
    assert stats.kstest(drawn, stats.uniform(low, 1.5).cdf).pvalue > 0.001


def test_the_brighter_of_two_objects_is_seen_where_they_overlap():
    large = replace(FEW, solid_radius=(25, 30))
    settings = MixturePhantomSettings(large, FINE, {"solid": 1.0}, brightness_decades=1.5)
    drawn = settings.draw(np.random.default_rng(8)).brightness
    rng = np.random.default_rng(8)
    chances = [float(kind == "solid") for kind in KINDS]
    rng.choice(len(KINDS), int(rng.integers(4, 4, endpoint=True)), p=chances)
    each = np.zeros((4, math.prod(large.zyx_shape)), np.float32)
    for light in each:
        voxels, _ = settings._object("solid", [], rng)
        light[voxels] = settings._brightness(rng)
    np.testing.assert_array_equal(drawn.ravel(), each.max(0))
    assert np.any(np.count_nonzero(each, axis=0) > 1)


def test_neuropil_is_light_without_shape():
    settings = MixturePhantomSettings(
        FEW, FINE, {"line": 1.0}, neuropil=0.5, neuropil_brightness=(0.01, 0.02)
    )
    phantom = settings.draw(np.random.default_rng(9))
    plain = MixturePhantomSettings(FEW, FINE, {"line": 1.0}).draw(np.random.default_rng(9))
    np.testing.assert_array_equal(phantom.shape, plain.shape)
    inside = plain.shape > 0
    np.testing.assert_array_equal(phantom.brightness[inside], plain.brightness[inside])
    haze = phantom.brightness[~inside]
    assert haze.max() <= 0.02
    assert 0.002 < np.mean(haze > 0) < 0.5


def test_volumes_are_stored_with_their_brightness_above_1_and_the_tips_of_spines(tmp_path):
    settings = MixturePhantomSettings(
        FEW, FINE, {"dendrite": 1.0}, brightest=30.0, brightness_decades=1.5
    )
    (phantom,) = generate_set(settings, tmp_path, count=1, seed=3)
    shape, brightness = phantom.read(*(slice(0, 64),) * 3)
    drawn = settings.draw(np.random.default_rng([3, 0]))
    np.testing.assert_array_equal(shape, drawn.shape)
    np.testing.assert_allclose(brightness, drawn.brightness, atol=30 / 32767)
    assert phantom.voxel_size_um == FINE
    assert phantom.brightest == 30
    tips = json.loads((tmp_path / "phantoms.json").read_text())["volumes"][0]["spine_tips_zyx"]
    assert tips == drawn.attributes["spine_tips_zyx"]
    assert tips
    near = ndimage.distance_transform_edt(shape == 0, sampling=FINE)
    reached = [near[tuple(np.rint(tip).astype(int))] <= 0.3 for tip in tips]
    assert np.mean(reached) > 0.95


def test_a_section_of_settings_becomes_a_mixture():
    section = PhantomSet.model_validate(
        {"image_size": [40, 40, 40], "train_object_num_min": 2, "train_object_num_max": 2,
         "objects": {"dendrite": 0.4, "axon": 0.2}, "brightness_decades": 1.5}
    )  # fmt: skip
    settings = training_phantoms(section, FINE)
    assert settings.shares == {"dendrite": 0.4, "axon": 0.2}
    assert settings.voxel_size_um == FINE
    assert settings.brightness_decades == 1.5
    bright = training_phantoms(PhantomSet(brightest=5.0), FINE)
    assert bright.shares == pytest.approx({"line": 0.95, "solid": 0.05})


@pytest.mark.parametrize(
    "wrong",
    [
        {"shares": {"neuron": 1.0}},
        {"shares": {"line": 0.0}},
        {"shares": {"line": -1.0}},
        {"voxel_size_um": (0.1, 0.0, 0.1)},
        {"brightest": math.inf},
        {"neuropil": 1e9},
        {"neuropil_brightness": (0.5, 0.1)},
    ],
)
def test_impossible_mixtures_are_refused_in_one_line(wrong):
    with pytest.raises(TenetError) as error:
        MixturePhantomSettings(**{"published": FEW, "voxel_size_um": FINE} | wrong)
    assert "\n" not in str(error.value)


def test_a_lumen_is_empty():
    wall = Tube(np.full((1, 3), 2.0), np.array([1.5]))
    inner = Tube(wall.points_um, np.array([1.0]))
    voxels, _ = piece_voxels(Piece([wall], [inner]), (0.1,) * 3, (40, 40, 40))
    assert len(np.unique(voxels)) * 1e-3 == pytest.approx(4 / 3 * math.pi * (1.5**3 - 1), rel=0.02)


# Vessels and cells


def test_a_hollow_vessel_is_empty_inside_as_thick_as_its_wall_and_closed():
    looks = VesselLooks(hollow=1.0, wall_um=(0.6, 0.6))
    for n in range(4):
        vessel = draw_vessel(SIZE, np.random.default_rng([10, n]), looks)
        trunk = vessel.tubes[0]
        middle = len(trunk.points_um) // 2
        shape, size = (100, 100, 100), (0.2, 0.2, 0.2)
        wall, full = np.zeros(10**6, bool), np.zeros(10**6, bool)
        wall[piece_voxels(vessel, size, shape)[0]] = True
        full[tube_voxels(vessel.tubes, size, shape, vessel.roughness)[0]] = True
        wall, full = wall.reshape(shape), full.reshape(shape)
        assert not wall[tuple((trunk.points_um[middle] / 0.2).astype(int).clip(0, 99))]
        depth = ndimage.distance_transform_edt(np.pad(full, 1, mode="edge"))[1:-1, 1:-1, 1:-1]
        inner = wall & np.pad(np.ones((80, 80, 80), bool), 10)
        assert np.percentile(0.2 * depth[inner], 95) < 0.6 + 0.35
        assert 0.2 * np.median(depth[inner]) == pytest.approx(0.3, abs=0.1)
        empty = full & ~wall
        assert not np.any(ndimage.binary_dilation(empty) & ~full)  # no hole to the outside


def test_vessels_are_4_to_10_um_thick_and_branch():
    rng = np.random.default_rng(11)
    vessels = [draw_vessel(SIZE * 2, rng) for _ in range(100)]
    trunks = [2 * np.median(vessel.tubes[0].radii_um) for vessel in vessels]
    assert 3.8 < min(trunks) < 4.6
    assert 9 < max(trunks) < 10.6
    assert min(tube.radii_um.min() for vessel in vessels for tube in vessel.tubes[1:]) >= 2
    assert np.mean([len(vessel.tubes) for vessel in vessels]) > 3
    assert 0.35 < np.mean([bool(vessel.lumen) for vessel in vessels]) < 0.65


@pytest.mark.parametrize(
    ("draw", "soma", "fine"),
    [(draw_microglia, (6, 10), (0.3, 1.0)), (draw_soma, (8, 15), (0.8, 3))],
)
def test_cells_have_somata_and_processes_of_their_ranges(draw, soma, fine):
    rng = np.random.default_rng(12)
    for _ in range(30):
        cell = draw(SIZE, rng)
        assert soma[0] <= 2 * cell.tubes[0].radii_um[0] <= soma[1]
        processes = [tube for tube in cell.tubes if len(tube.points_um) > 1]
        assert len(processes) >= 2
        radii = np.concatenate([tube.radii_um for tube in processes])
        assert fine[0] - 1e-9 <= 2 * radii.min()
        assert 2 * radii.max() <= fine[1]
        centre, radius = cell.tubes[0].points_um[0], cell.tubes[0].radii_um[0]
        starts = [np.linalg.norm(tube.points_um[0] - centre) for tube in processes]
        assert min(starts) < radius


def test_a_dark_nucleus_is_inside_of_its_soma():
    looks = replace(SOMA, nucleus=1.0)
    soma = draw_soma(SIZE, np.random.default_rng(13), looks)
    (nucleus,) = soma.lumen
    np.testing.assert_array_equal(nucleus.points_um, soma.tubes[0].points_um)
    assert nucleus.radii_um[0] < 0.8 * soma.tubes[0].radii_um[0]


def test_worlds_take_turns() -> None:
    section = PhantomSet(
        image_size=(40, 60, 60), train_object_num_min=3, train_object_num_max=3, object_scale=0.3,
        worlds=({"line_fraction": 0.0}, {"line_fraction": 1.0, "line_thickness": [1.5, 2]}),
    )  # fmt: skip
    settings = training_phantoms(section, FINE)
    assert settings.zyx_shape == (40, 60, 60)
    shares: dict[int, list[float]] = {0: [], 1: []}
    for number in range(12):
        drawn = settings.draw(np.random.default_rng(number), number)
        shares[drawn.attributes["world"]].append(float(drawn.shape.mean()))
    assert len(shares[0]) == len(shares[1]) == 6
    # Solids of 3 to 9 voxels about their centre, and lines of 1.5 to 2.
    assert min(shares[1]) > 0
    assert np.mean(shares[0]) > 3 * np.mean(shares[1])


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        ({"image_size": [10, 10, 10]}, "image_size is one for all"),
        ({"line_fracton": 1}, "did you mean 'line_fraction'"),
        ({"line_thickness": [7, 2]}, "line_thickness: at least 7 but at most 2"),
        ({"worlds": [{}]}, "worlds is one for all"),
    ],
)
def test_a_world_that_cannot_be_is_refused(world: dict[str, Any], expected: str) -> None:
    with pytest.raises(TenetError, match=expected):
        validated(PhantomSet, {"worlds": [{}, world]}, "mine.json")
