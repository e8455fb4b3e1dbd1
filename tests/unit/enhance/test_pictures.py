"""Picture elements: projections, physical aspect ratio, scale bars, widths of PSFs."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tenet.enhance import views
from tenet.enhance.pictures import psf_widths, sheet, show_psf, width_label
from tenet.enhance.views import (
    _read,
    _slabs,
    bar_length_um,
    mips,
    orthogonal_views,
    save,
    show_view,
)
from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.writing import write_ome_tiff
from tenet.physics.optics import gaussian, psf_volume

SIZE_UM = (2.0, 0.5, 0.25)


def volume(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((2, 7, 20, 31), dtype=np.float32)


def test_projections_of_files_and_arrays_are_the_maxima(tmp_path: Path) -> None:
    channels = volume()
    write_ome_tiff(tmp_path / "a.ome.tif", channels, SIZE_UM, ("shape", "brightness"))
    product = channels[0] * channels[1]
    for source, chosen, expected in (
        (tmp_path / "a.ome.tif", (0,), channels[0]),
        (tmp_path / "a.ome.tif", (0, 1), product),
        (open_stack(tmp_path / "a.ome.tif", channel=1), (), channels[1]),
        (channels, (0, 1), product),
        (channels[0], (), channels[0]),
    ):
        found = mips(source, chosen, voxel_size_um=SIZE_UM)
        np.testing.assert_array_equal(found.xy, expected.max(0))
        np.testing.assert_array_equal(found.xz, expected.max(1))
        np.testing.assert_array_equal(found.yz, expected.max(2))
    some = mips(channels[0], voxel_size_um=SIZE_UM, planes=slice(2, 4))
    np.testing.assert_array_equal(some.xy, channels[0, 2:4].max(0))
    assert some.xz.shape == (2, 31)
    assert mips(tmp_path / "a.ome.tif", (0,)).voxel_size_um == SIZE_UM


def test_projection_reads_slab_by_slab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    image = np.random.default_rng(1).random((40, 64, 64), dtype=np.float32)
    np.save(tmp_path / "a.npy", image)
    planes: list[int] = []
    read = _read

    def counted(reader, z):  # type: ignore[no-untyped-def]
        planes.append(z.stop - z.start)
        return read(reader, z)

    monkeypatch.setattr(views, "_read", counted)
    slabs = _slabs([open_stack(tmp_path / "a.npy")], 0, 40, image.shape, 6 * 64 * 64 * 4)
    np.testing.assert_array_equal(np.concatenate([slab for _, slab in slabs]), image)
    assert max(planes) == 6


def test_unknown_voxel_size_and_planes_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", volume()[0])
    with pytest.raises(TenetError, match="voxel size"):
        mips(tmp_path / "a.npy")
    with pytest.raises(TenetError, match="no planes"):
        mips(volume()[0], voxel_size_um=SIZE_UM, planes=slice(9, 12))


def test_views_keep_the_physical_aspect_ratio() -> None:
    figure = Figure(figsize=(6, 6))
    axes = figure.add_subplot()
    projections = mips(volume()[0], voxel_size_um=SIZE_UM)
    orthogonal_views(axes, projections)
    xy, xz, yz = (np.reshape(image.get_extent(), (2, 2)) for image in axes.images)
    sizes = [np.abs(np.diff(extent)).ravel() for extent in (xy, xz, yz)]  # width, height in µm
    np.testing.assert_allclose(sizes, [(31 * 0.25, 10), (31 * 0.25, 14), (14, 10)])
    assert axes.get_aspect() == 1
    # xz stands under xy, yz beside it, and nothing overlaps.
    assert xz[1].min() > xy[1].max()
    assert yz[0].min() > xy[0].max()


@pytest.mark.parametrize(
    ("width", "length"), [(30, 10), (29, 5), (100, 20), (0.7, 0.2), (1972, 500), (3, 1)]
)
def test_scale_bar_is_a_round_length_within_a_third(width: float, length: float) -> None:
    assert bar_length_um(width) == pytest.approx(length)


def test_scale_bar_is_drawn_as_long_as_it_says() -> None:
    for rows in (40, 3):
        axes = Figure().add_subplot()
        show_view(axes, np.zeros((rows, 120)), (0.5, 0.5), bar=True)
        (line,) = axes.lines
        assert np.ptp(line.get_xdata()) == pytest.approx(20)
        assert axes.texts[0].get_text() == "20 µm"
        assert axes.get_xlim() == (0, 60)
        assert axes.get_ylim() == (rows / 2, 0)


def test_psf_widths_are_those_of_the_gaussian() -> None:
    size_um = (0.1, 0.05, 0.05)
    psf = psf_volume(gaussian(1.0, 0.3), (61, 41, 41), size_um)
    expected = 2 * np.sqrt(np.log(2)) * np.array([1.0, 0.3])
    np.testing.assert_allclose(psf_widths(psf, size_um), expected, rtol=0.01)
    assert width_label(1.664, 0.5) == "FWHM z 1.66, x 0.50 µm"
    cut = psf_volume(gaussian(1.0, 0.3), (7, 41, 41), size_um)
    assert "wider than shown" in width_label(*psf_widths(cut, size_um))


def test_a_narrow_psf_has_a_bar_along_z_as_long_as_it_says() -> None:
    size_um = (1 / 3, 0.31, 0.31)
    psf = psf_volume(gaussian(0.6, 3.0), (91, 15, 15), size_um)
    axes = Figure().add_subplot()
    show_psf(axes, psf, size_um, "PSF")
    (bar,) = axes.lines
    assert np.ptp(bar.get_ydata()) == pytest.approx(10)
    assert np.ptp(bar.get_xdata()) == 0
    assert [text.get_text() for text in axes.texts] == ["10 µm"]
    assert len(axes.get_xticks()) == 0  # a few µm across have no room for their numbers
    assert axes.get_xlim() == pytest.approx((-15 * 0.31 / 2, 15 * 0.31 / 2))


def test_sheet_is_the_same_file_each_time_and_leaves_nothing_else(tmp_path: Path) -> None:
    psf = psf_volume(gaussian(1.0, 0.5), (9, 9, 9), (0.4, 0.25, 0.25))
    after = np.repeat(volume(), 2, axis=1)
    written = [
        sheet(
            tmp_path / name,
            volume()[0],
            after,
            voxel_size_um=SIZE_UM,
            fine_voxel_size_um=(1.0, 0.5, 0.25),
            psf_before=psf,
            psf_after=psf,
            psf_voxel_size_um=(0.4, 0.25, 0.25),
            title="a stack",
        ).read_bytes()
        for name in ("1.pdf", "2.pdf")
    ]
    assert written[0] == written[1]
    assert written[0].startswith(b"%PDF")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.pdf", "2.pdf"]
    with pytest.raises(TenetError, match="cannot be written"):
        save(Figure(), tmp_path / "1.pdf" / "x.png")
