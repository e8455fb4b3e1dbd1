import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from tenet.errors import TenetError
from tenet.paper.morphology import CELL_COLUMNS, distances_um, label_cells, measure_cells

SIZE = (1.0, 0.5, 0.5)


def ellipsoid(zyx_shape, centre_um, radii_um, size=SIZE):
    grid = np.ogrid[tuple(slice(n) for n in zyx_shape)]
    parts = zip(grid, size, centre_um, radii_um, strict=True)
    return sum((((g + 0.5) * s - c) / r) ** 2 for g, s, c, r in parts) <= 1


def test_a_ball_is_measured_as_a_ball():
    ball = ellipsoid((40, 80, 80), (20, 20, 20), (8, 8, 8))
    labels = label_cells(ball, SIZE)
    assert labels.max() == 1
    cell = measure_cells(labels, SIZE).iloc[0]
    assert tuple(cell.index) == CELL_COLUMNS
    assert cell["volume_um3"] == pytest.approx(4 / 3 * math.pi * 8**3, rel=0.02)
    assert cell["surface_um2"] == pytest.approx(4 * math.pi * 8**2, rel=0.02)
    assert cell["sphericity"] == pytest.approx(1, abs=0.03)
    assert cell["elongation"] == pytest.approx(1, abs=0.02)
    assert cell["flatness"] == pytest.approx(1, abs=0.02)
    assert cell["centre_to_surface_um"] == pytest.approx(8, abs=0.6)
    assert cell["centre_to_surface_max_um"] <= 8
    assert (cell["z_um"], cell["y_um"], cell["x_um"]) == pytest.approx((20, 20, 20), abs=0.3)
    assert not cell["touches_border"]


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 0, 1), (1, 1, 0), (0.5, -0.3, 0.8)])
@pytest.mark.parametrize("radius_um", [1.5, 3.0])
def test_a_thin_process_keeps_its_surface(direction, radius_um):
    """A rod of three voxels across has the surface of a cylinder, whichever way it runs."""
    unit, length_um = np.array(direction) / np.linalg.norm(direction), 30.0
    places = np.stack(np.indices((40, 80, 80)), axis=-1) * SIZE - np.array((20, 20, 20))
    along = places @ unit
    away = np.linalg.norm(places - along[..., None] * unit, axis=-1)
    rod = (away <= radius_um) & (np.abs(along) <= length_um / 2)
    cell = measure_cells(rod.astype(np.int32), SIZE).iloc[0]
    surface = 2 * math.pi * radius_um * (length_um + radius_um)
    assert cell["surface_um2"] == pytest.approx(surface, rel=0.08)


def test_axes_of_an_ellipsoid():
    cell = measure_cells(ellipsoid((40, 80, 80), (20, 20, 20), (4, 8, 16)).astype(np.int32), SIZE)
    assert cell["elongation"].iloc[0] == pytest.approx(0.5, abs=0.02)
    assert cell["flatness"].iloc[0] == pytest.approx(0.5, abs=0.02)


def test_cells_that_touch_are_told_apart_and_their_processes_are_theirs():
    shape = (40, 80, 80)
    first, second = ((20, 20, c) for c in (12, 26))
    cells = ellipsoid(shape, first, (7, 7, 7)) | ellipsoid(shape, second, (7.5, 7.5, 7.5))
    process = np.zeros(shape, dtype=bool)
    process[20, 8:40, 23:25] = True  # along y, from the first soma
    labels = label_cells(cells | process, SIZE)
    assert labels.max() == 2
    assert labels[20, 40, 52] == 1  # the larger comes first
    assert labels[20, 40, 24] == 2
    assert labels[20, 10, 23] == 2
    assert (labels > 0).sum() == (cells | process).sum()


def test_crumbs_are_no_cells_and_cut_cells_are_known():
    mask = ellipsoid((40, 80, 80), (20, 20, 38), (6, 6, 6))
    mask |= ellipsoid((40, 80, 80), (20, 8, 8), (1.5, 1.5, 1.5))
    table = measure_cells(label_cells(mask, SIZE), SIZE)
    assert len(table) == 1
    assert table["touches_border"].all()
    assert measure_cells(label_cells(np.zeros((5, 5, 5)), SIZE), SIZE).empty
    with pytest.raises(TenetError, match="Z, Y, X"):
        label_cells(np.zeros((5, 5)), SIZE)


def test_distance_is_in_micrometres():
    mask = np.zeros((10, 20, 20), dtype=bool)
    mask[:, :, 0] = True
    points = np.array([[5.0, 5.0, 0.25], [5.0, 5.0, 4.25]])
    assert distances_um(points, mask, SIZE) == pytest.approx([0, 4])
    assert np.isinf(distances_um(points, ~mask & mask, SIZE)).all()


def divided_at_once(mask, size, least_volume_um3):
    """The division as it reads, with every step on the whole volume."""
    thickness = ndimage.distance_transform_edt(mask, sampling=size)
    smooth = ndimage.gaussian_filter(thickness, 1 / np.array(size))
    peaks = peak_local_max(
        smooth,
        min_distance=round(8 / max(size)),
        threshold_abs=1.6,
        exclude_border=False,
        labels=mask.astype(np.int32),
    )
    kept = []
    for peak in sorted(peaks, key=lambda at: -smooth[tuple(at)]):
        if all(np.linalg.norm((peak - other) * size) >= 8 for other in kept):
            kept.append(peak)
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(np.transpose(kept))] = np.arange(1, len(kept) + 1)
    labels = watershed(-smooth, markers, mask=mask)
    volumes = np.bincount(labels.ravel())[1:] * math.prod(size)
    order = [i for i in np.argsort(-volumes) if volumes[i] >= least_volume_um3]
    number = np.zeros(len(volumes) + 1, np.int32)
    number[np.array(order) + 1] = np.arange(1, len(order) + 1)
    return number[labels]


@pytest.fixture(scope="module", params=[(1.0, 1.0, 1.0), (1.0, 0.5, 0.5)])
def tangle(request):
    """Random cells of every form, many of which touch, and their division at once."""
    noise = np.random.default_rng(0).standard_normal((36, 56, 50))
    smooth = ndimage.gaussian_filter(noise, (2.5, 3.5, 3.5))
    mask = smooth > np.quantile(smooth, 0.75)
    return mask, request.param, divided_at_once(mask, request.param, 20)


@pytest.mark.parametrize("side", [20, 37, 256])
def test_blocks_of_every_size_give_the_labels_of_the_whole(tangle, side):
    mask, size, expected = tangle
    assert expected.max() > 10
    labels = label_cells(mask, size, least_volume_um3=20, side=side)
    np.testing.assert_array_equal(labels, expected)


def test_a_large_piece_is_divided_on_a_coarser_grid_into_nearly_the_same_cells():
    shape = (60, 80, 80)
    cells = ellipsoid(shape, (15, 20, 10), (7, 7, 7)) | ellipsoid(shape, (15, 20, 25), (8, 8, 8))
    fine = label_cells(cells, SIZE)
    coarse = label_cells(cells, SIZE, most_voxels=cells.size // 30, side=17)
    assert fine.max() == coarse.max() == 2
    np.testing.assert_array_equal(coarse > 0, cells)
    assert np.count_nonzero(coarse != fine) < 0.02 * np.count_nonzero(cells)


def test_distances_agree_with_those_of_the_whole_volume(tangle):
    mask, size, _ = tangle
    points = np.random.default_rng(1).random((300, 3)) * mask.shape * size
    away = ndimage.distance_transform_edt(~mask, sampling=size)
    expected = away[tuple((points / size).astype(int).T)]
    assert distances_um(points, mask, size) == pytest.approx(expected, abs=1e-9)
