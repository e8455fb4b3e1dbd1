"""The figures, drawn from small results whose quality is known."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import ndimage

from tenet.data.phantoms.kinds import (
    AnglePhantomSettings,
    BeadsPhantomSettings,
    TrainingPhantomSettings,
)
from tenet.data.phantoms.store import save_phantom
from tenet.data.simulate import simulate_acquisitions
from tenet.errors import TenetError
from tenet.io.atomic import save_json, save_table
from tenet.io.open import open_stack
from tenet.io.writing import write_ome_tiff
from tenet.model.store import save_model
from tenet.model.tenet import TENET
from tenet.paper.evaluate.beads import evaluate_beads
from tenet.paper.evaluate.segmentation import evaluate_segmentation
from tenet.paper.evaluate.summary import summary_table
from tenet.paper.figures import fig2, fig3
from tenet.paper.figures.notes import budget_note, winners
from tenet.paper.figures.page import save_figure
from tenet.paper.figures.strips import published_value, wide_axis
from tenet.paper.figures.style import METHODS
from tenet.physics.optics import psf_volume
from tenet.settings.load import load_experiment
from tenet.settings.schema import Experiment

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "resources/published_values.csv"
#: Blur of each method's scores in voxels (z, xy): the less, the better.
BLUR = {
    "tenet": (1.5, 0.7), "tenet_published": (2.5, 0.9), "pretrained": (3, 1), "rltv": (2, 0.8),
    "rltv_paper": (5, 1.5), "care": (3, 0.7), "neuroclear": (4, 1.2),
}  # fmt: skip


def experiment(name: str, **params: object) -> Experiment:
    """An experiment at demo scale, with a small network and PSF, and other optics if given."""
    small = {"hidden_channels_list": [2, 4], **params}
    return load_experiment(
        name,
        overlays=["demo"],
        settings={"params": small},
        folder=ROOT / "config/experiments",
    )


def write_levels(path: Path, truth: np.ndarray, method: str, size_um: tuple, seed: int) -> None:
    """Blurred truth in place of a prediction; RLTV has another range of intensities."""
    z, xy = BLUR[method]
    rng = np.random.default_rng(seed)
    score = ndimage.gaussian_filter(truth.astype(np.float32), (z, xy, xy))
    path.parent.mkdir(parents=True, exist_ok=True)
    if method.startswith("rltv"):
        score = np.clip(2 * score + rng.normal(0, 0.05, score.shape), 0, None)
        write_ome_tiff(path, score.astype(np.float32), size_um, ["intensity"])
    else:
        channels = np.stack([score, np.ones_like(score)])
        write_ome_tiff(path, channels, size_um, ["shape", "brightness"])


def settings_of(folder: Path, method: str) -> None:
    threshold = 0.8 if method.startswith("rltv") else 0.4
    save_json(folder / "settings.json", {"threshold": threshold, "method": method})


def segmentation_results(root: Path, name: str, drawn: list) -> None:
    """Phantoms, acquisitions by a microscope of another NA, predictions and their values."""
    phantoms = root / f"phantoms/{name}"
    phantoms.mkdir(parents=True)
    settings = experiment(name)
    hidden = experiment(name, NA=0.25)
    for index, phantom in enumerate(drawn):
        path = phantoms / f"{index:02d}.zarr.zip"
        save_phantom(path, phantom.shape, phantom.brightness)
    out = root / f"acquisitions/{name}"
    simulate_acquisitions(hidden, phantoms, out, motion_px=0.2, no_noise_part=True)
    for method in BLUR:
        for part in ("noise", "no_noise"):
            for index, phantom in enumerate(drawn):
                path = f"predictions/{name}/{method}/{part}/{index:02d}.ome.tif"
                truth = phantom.shape[: phantom.shape.shape[0] // 3 * 3]
                size_um = settings.params.fine_voxel_size_um
                write_levels(root / path, truth, method, size_um, index)
        settings_of(root / f"predictions/{name}/{method}", method)
    save_json(root / f"models/{name}/all/experiment.json", settings.model_dump(mode="json"))
    tables = evaluate_segmentation(name, root / f"predictions/{name}", phantoms)
    write_tables(root, name, tables)


def write_tables(root: Path, experiment: str, tables: tuple) -> None:
    (root / "metrics").mkdir(exist_ok=True)
    for suffix, table in zip(("", "_sweep"), tables, strict=True):
        table.to_csv(root / f"metrics/{experiment}{suffix}.csv", index=False)


def summarise(root: Path, figure: str, name: str, **more: object) -> None:
    metrics = [
        pd.read_csv(path)
        for path in sorted((root / "metrics").glob(f"{figure}_*.csv"))
        if not path.stem.endswith("sweep")
    ]
    rng = np.random.default_rng(0)
    table = summary_table(figure, metrics, PUBLISHED, rng, **more)
    (root / "tables").mkdir(exist_ok=True)
    table.to_csv(root / f"tables/{name}.csv", index=False)


def make_fig2(root: Path, size: int = 48, count: int = 2) -> Path:
    rng = np.random.default_rng(1)
    lines = TrainingPhantomSettings(
        zyx_shape=(size + 13, size, size),
        n_objects=(6, 10),
        line_length=(40, 90),
        line_thickness=(4, 4),
        solid_radius=(5, 10),
    )
    phantoms = [lines.draw(rng) for _ in range(count)]
    segmentation_results(root, "fig2_phantoms", phantoms)
    for angle in (0, 45, 90):
        settings = AnglePhantomSettings(zyx_shape=(size, size, size), n_lines=10, angle_deg=angle)
        segmentation_results(root, f"fig2_angle{angle:02d}", [settings.draw(rng)])
    summarise(root, "fig2", "fig2_iou")
    return root


def make_fig3(root: Path, size: tuple = (70, 88, 88), count: int = 3, folds: int = 2) -> Path:
    rng = np.random.default_rng(2)
    phantoms = root / "phantoms/fig3_beads"
    phantoms.mkdir(parents=True)
    beads = BeadsPhantomSettings(zyx_shape=size, n_beads=1, margin_um=0.5, brightness_log_sd=0)
    model = TENET(experiment("fig3_beads").params)
    hidden = experiment("fig3_beads", NA=0.6)
    drawn = [beads.draw(rng) for _ in range(count)]
    for index, phantom in enumerate(drawn):
        save_phantom(
            phantoms / f"{index:02d}.zarr.zip",
            phantom.shape,
            phantom.brightness,
            attributes=phantom.attributes,
        )
    out = root / "acquisitions/fig3_beads"
    simulate_acquisitions(hidden, phantoms, out, folds=folds)
    top = root / "predictions/fig3_beads"
    for index, phantom in enumerate(drawn):
        for method in BLUR:
            part = f"fold{index * folds // count}" if method.startswith("tenet") else "all"
            path = top / method / part / f"{index:02d}.ome.tif"
            write_levels(path, phantom.shape, method, (0.05,) * 3, index)
            settings_of(path.parent, method)
    tables = evaluate_beads("fig3_beads", top, out / "rois.csv", 10)
    write_tables(root, "fig3_beads", tables)
    torch.manual_seed(0)
    model.initialise(np.random.default_rng(0))
    for fold in range(folds):
        folder = root / f"models/fig3_beads/fold{fold}"
        save_model(folder, model, experiment("fig3_beads"), {})
        save_table(
            folder / "psf.csv",
            [
                {"which": "initial", "axis": "axial", "fwhm_um": 3.9},
                {"which": "learned", "axis": "axial", "fwhm_um": 4.4 + 0.1 * fold},
            ],
        )
    psfs = sorted((root / "models/fig3_beads").glob("*/psf.csv"))
    acquisition = out / "acquisition.json"
    summarise(root, "fig3", "fig3_beads", psfs=psfs, acquisition=acquisition)
    return root


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    return make_fig3(make_fig2(root))


def words(figure: Figure) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(Text) if t.get_visible())


def no_empty_axes(figure: Figure) -> None:
    for axes in figure.axes:
        assert axes.has_data(), axes.get_title()


def fits_the_page(figure: Figure) -> None:
    """Titles, labels, legends and notes lie on the page, apart, at 6.5 points or larger."""
    figure.set_dpi(100)
    figure.draw_without_rendering()
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label] if axes.axison else [axes.title]
    for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
        texts += legend.get_texts() if legend else []
    texts = [text for text in texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert text.get_fontsize() >= 6.5, text.get_text()
        inside = figure.bbox.padded(1).contains
        assert inside(box.x0, box.y0), text.get_text()
        assert inside(box.x1, box.y1), text.get_text()
    for i, (text, box) in enumerate(zip(texts, boxes, strict=True)):
        for other, beside in zip(texts[:i], boxes[:i], strict=True):
            assert not box.padded(-1).overlaps(beside.padded(-1)), (text, other)


def test_figure_2_shows_every_method_and_says_it_is_simulated(results: Path) -> None:
    figure = fig2.figure2(results)
    shown = words(figure)
    names = [METHODS[method].label for method in BLUR]
    for label in ("Input", "Truth", "TENET\n(published)", *names, "0°", "45°", "90°", "µm"):
        assert label in shown
    assert "TENET,\nnot fine-tuned" in shown
    assert "chosen on held-out phantoms; that of TENET (published) is fixed): with" in shown
    assert "Simulated acquisitions, demo scale: 2 volumes of 61 × 48 × 48 voxels" in shown
    assert "NA 0.25 (nominal NA 0.3)" in shown
    assert {"a", "b", "c", "d", "e"} <= set(shown.splitlines())
    no_empty_axes(figure)
    fits_the_page(figure)
    assert figure.get_figwidth() == pytest.approx(7.2)


def test_views_side_by_side_have_one_physical_scale(results: Path) -> None:
    figure = fig2.figure2(results)
    count = 2 + len(BLUR)
    views = [axes for axes in figure.axes if axes.images][: 2 * count]
    for whole, zoom in zip(views[:count], views[count:], strict=True):
        for axes, width_um in ((whole, 48 * 0.31), (zoom, fig2._ZOOM * 48 * 0.31)):
            box = axes.get_position()
            inches = box.width * figure.get_figwidth(), box.height * figure.get_figheight()
            left, right = axes.get_xlim()
            bottom, top = axes.get_ylim()
            # Alike along both axes and from panel to panel; 61 planes are cut to 60 in acquisition.
            scale = (right - left) / inches[0]
            assert scale == pytest.approx((bottom - top) / inches[1], rel=0.03)
            assert right - left == pytest.approx(width_um)


def test_the_best_method_is_named_whichever_it_is(results: Path, tmp_path: Path) -> None:
    table = pd.read_csv(results / "tables/fig2_iou.csv")
    noise = table[(table["condition"] == "phantoms_noise") & (table["quantity"] == "iou")]
    best = noise.set_index("method")["value"].idxmax()
    assert best == "tenet"
    line = next(iter(winners(table, "iou")))
    assert f": with noise TENET {noise['value'].max():.2f}" in line
    row = noise.index[noise["method"] == "rltv"][0]
    table.loc[row, "value"] = 0.99
    line = next(iter(winners(table, "iou")))
    assert ": with noise RLTV (tuned) 0.99 (TENET" in line
    assert "place 2 of" in line
    beads = pd.read_csv(results / "tables/fig3_beads.csv")
    loss = beads[(beads["quantity"] == "total_loss") & (beads["condition"] == "beads")]
    best = loss.set_index("method")["value"].idxmin()
    assert METHODS[best].label in next(iter(winners(beads, "total_loss")))


def test_figure_3_compares_shape_with_theory_and_the_true_psf(results: Path) -> None:
    figure = fig3.figure3(results)
    shown = words(figure)
    for label in ("Raw", "Sphericity", "z/xy ratio", "Volume (µm³)", "before", "after", "true"):
        assert label in shown
    assert "4.19 µm³" in shown
    assert "after: FWHM 4.45 µm" in shown  # the mean of both folds
    assert "NA 0.6 (nominal NA 0.7)" in shown
    assert "Simulated acquisitions, demo scale: 3 volumes of 70 × 88 × 88 voxels" in shown
    no_empty_axes(figure)
    fits_the_page(figure)


def test_budgets_of_baselines_are_told(tmp_path: Path) -> None:
    words = "pre-trained on up to 100 crops of phantoms"
    methods = {"method": ["tenet", "tenet_published", "care"], "budget": ["pre-trained", words, ""]}
    table = pd.DataFrame(methods)
    published = [f"TENET (published): {words}."]
    assert budget_note(tmp_path, "fig3_beads", table[::2]) == []
    assert budget_note(tmp_path, "fig3_beads", table) == published
    for method, registered in (("care", True), ("neuroclear", False)):
        folder = tmp_path / f"baselines/{method}/fig3_beads/fold0"
        folder.mkdir(parents=True)
        settings = {"n_epochs": 3, "steps_per_epoch": 20, "batch_size": 4}
        (folder / "settings.json").write_text(
            json.dumps({"settings": settings, "registered": registered})
        )
    assert budget_note(tmp_path, "fig3_beads", table) == [
        "Trained: CARE for 60 steps (batch size 4), Neuroclear for 60 steps (batch size 4).",
        *published,
        "Neuroclear could not be registered: more training is needed.",
    ]


def test_circle_lies_around_the_bead(results: Path) -> None:
    roi = fig3._typical_roi(results, results / "acquisitions/fig3_beads/rois.csv")
    sections = fig3._bead_sections(
        results,
        results / "acquisitions/fig3_beads/noise",
        results / "acquisitions/fig3_beads/rois.csv",
        results / "phantoms/fig3_beads",
        list(BLUR),
    )
    truth = open_stack(
        results / f"predictions/fig3_beads/rltv/all/{roi['image']:02d}.ome.tif", channel=0
    )
    assert truth.voxel_size_um == pytest.approx((0.05,) * 3)
    for section in sections:
        image = section.view.image
        mass = np.where(image > 0.5 * image.max(), image, 0).astype(float)
        centroid = (np.asarray(ndimage.center_of_mass(mass)) + 0.5) * section.view.pixel_um
        # The centre is known to half a coarse plane (0.25 µm) and half a pixel.
        assert centroid == pytest.approx(section.centre_um, abs=0.3)
    raw, *others = (section.view.size_um for section in sections)
    assert all(size == pytest.approx(raw) for size in others)


def test_published_numbers_are_marked_beside_their_method(results: Path) -> None:
    table = pd.read_csv(results / "tables/fig2_iou.csv")
    for method in ("tenet", "tenet_published"):
        assert published_value(table, "phantoms_noise", method) == pytest.approx(0.351897)
    assert published_value(table, "phantoms_noise", "rltv_paper") == pytest.approx(0.225576)
    assert published_value(table, "phantoms_noise", "rltv") is None


def test_true_psf_is_that_of_the_hidden_microscope(results: Path) -> None:
    psfs = fig3._psfs(results)
    params = experiment("fig3_beads", NA=0.6).params
    expected = psf_volume(params.model_psf(), psfs["true"].volume.shape, params.fine_voxel_size_um)
    found = psfs["true"].volume
    z = int(found.sum((1, 2)).argmax())
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(found.max(), expected.max(), rtol=0.02)
    assert found[z].max() < psfs["initial"].volume.max()  # a smaller NA spreads the light


def test_without_an_acquisition_nothing_is_called_simulated(results: Path) -> None:
    assert "Simulated" not in words(fig2.figure2(results, simulated=False))


def test_files_are_the_same_whenever_written(results: Path, tmp_path: Path) -> None:
    first = save_figure(fig3.figure3(results), tmp_path / "a/fig3")
    second = save_figure(fig3.figure3(results), tmp_path / "b/fig3")
    assert [path.name for path in first] == ["fig3.pdf", "fig3.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert first[1].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_missing_results_are_named(results: Path, tmp_path: Path) -> None:
    with pytest.raises(TenetError, match=r"fig2_iou\.csv"):
        fig2.figure2(tmp_path)
    with pytest.raises(TenetError, match=r"fig3_beads\.csv"):
        fig3.figure3(tmp_path)


def test_colours_can_be_told_apart() -> None:
    assert len({method.colour for method in METHODS.values()}) == len(METHODS)
    assert len({method.marker for method in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize("name", ["fig2", "fig3"])
def test_notebooks_are_committed_without_outputs(name: str) -> None:
    notebook = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    tagged = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert 'results = "results"' in "".join(tagged[0]["source"])


@pytest.mark.parametrize("volumes", [(3.5, 4.2, 5.0), (0.0, 3.5, 160.0), (0.0, 0.0)])
def test_wide_axis_shows_every_value_in_order(volumes: tuple[float, ...]) -> None:
    axes = Figure().add_subplot()
    axes.plot(volumes, range(len(volumes)), "o")
    wide_axis(axes)
    places = axes.transAxes.inverted().transform(
        axes.transData.transform([(volume, 0) for volume in (0.0, *volumes)])
    )[:, 0]
    assert places[0] == pytest.approx(0)  # the axis begins at 0
    assert (np.diff(places) >= 0).all()
    assert places[-1] < 1 or volumes[-1] == 0
    logarithmic = axes.get_xscale() != "linear"
    assert logarithmic == (max(volumes) > 10 * min((v for v in volumes if v), default=np.inf))
