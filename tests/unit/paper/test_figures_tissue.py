"""Figures 1, 4 and 5 and the supplement, drawn from small results whose quality is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_figures import fits_the_page, no_empty_axes, words
from test_structures import COARSE, FINE, SCALE, fibres, write_ome_tiff_at

from tenet.data.phantoms.sets import generate_set
from tenet.data.simulate import simulate_acquisitions
from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.io.open import open_stack
from tenet.io.writing import write_ome_tiff
from tenet.model.store import save_model
from tenet.model.tenet import TENET
from tenet.paper.evaluate.segmentation import evaluate_segmentation
from tenet.paper.evaluate.structures import evaluate_cells, evaluate_profiles
from tenet.paper.evaluate.summary import summary_table
from tenet.paper.figures.fig1 import figure1
from tenet.paper.figures.fig4 import figure4
from tenet.paper.figures.fig5 import figure5
from tenet.paper.figures.quality import quality_figure
from tenet.paper.figures.style import METHODS
from tenet.paper.figures.supp import supplement
from tenet.paper.figures.supp_motion import motion_figure
from tenet.paper.figures.supp_training import training_figure
from tenet.paper.published import published_vs_run
from tenet.paper.registration import register_folder
from tenet.paper.tissue import TissuePhantomSettings
from tenet.settings.load import load_experiment

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "resources/published_values.csv"
EXPERIMENTS = ROOT / "config/experiments"


def table_of(results, figure, name, tables):
    summary = summary_table(figure, tables, PUBLISHED, np.random.default_rng(0))
    (results / "tables").mkdir(exist_ok=True)
    summary.to_csv(results / f"tables/{name}.csv", index=False)
    return summary


def test_figure_1_draws_the_method_from_a_model(tmp_path):
    small = {
        "params": {"hidden_channels_list": [2, 4], "nblocks": 1, "deconvolution_steps": 2},
        "train_dataset": {"cropsize": [24, 16, 16]},
    }
    experiment = load_experiment(
        "fig2_phantoms", overlays=["demo"], settings=small, folder=EXPERIMENTS
    )
    model = TENET(experiment.params)
    model.initialise(np.random.default_rng(0))
    save_model(tmp_path / "models/fig2_phantoms/all", model, experiment, {})
    neurons = TissuePhantomSettings("neurons", (60, 48, 48), (1, 1, 1), 1)
    phantoms = tmp_path / "phantoms/fig2_phantoms"
    generate_set(neurons, phantoms, count=1, seed=0)
    simulate_acquisitions(experiment, phantoms, tmp_path / "acquisitions/fig2_phantoms")
    figure = figure1(tmp_path)
    shown = words(figure)
    for label in ("Raw stack", "3-D U-Net", "Shape", "Brightness", "PSF", "Reconstruction"):
        assert label in shown
    assert "Simulated acquisitions" in shown
    fits_the_page(figure)
    views = [axes for axes in figure.axes if axes.images]
    assert len(views) == 7
    shape, light = (
        next(axes.images[0] for axes in views if axes.get_title() == title)
        for title in ("Shape", "Brightness of the shape")
    )
    outside = shape.get_array() < 0.5
    assert 0 < outside.sum() < outside.size
    assert (np.ma.getmaskarray(np.ma.masked_invalid(light.get_array())) == outside).all()
    assert light.get_cmap().get_bad()[:3].max() < 0.5  # what is masked is dark


def test_figure_4_measures_what_it_shows(tmp_path):
    raw = fibres((3.0, 1.0))[1::SCALE]
    write_ome_tiff_at(tmp_path / "acquisitions/fig4_neurons/noise/00.ome.tif", raw, COARSE)
    methods = {
        name: (1.0, 1.0) if name == "tenet" else (2.0 + 0.1 * level, 1.0)
        for level, name in enumerate(METHODS)
    }
    top = tmp_path / "predictions/fig4_neurons"
    for method, sigma in methods.items():
        write_ome_tiff_at(top / f"{method}/noise/00.ome.tif", fibres(sigma), FINE)
        save_json(top / method / "settings.json", {"threshold": 0.5})
    data = tmp_path / "acquisitions/fig4_neurons"
    table = evaluate_profiles("fig4_neurons", top, data, list(methods), points=9)
    (tmp_path / "metrics").mkdir()
    table.to_csv(tmp_path / "metrics/fig4_neurons.csv", index=False)
    table_of(tmp_path, "fig4", "fig4_neurons", [table])
    figure = figure4(tmp_path)
    shown = words(figure)
    assert "Axial over lateral width nearest to 1: TENET 1.0" in shown
    assert "Simulated" not in shown
    for label in ("Input", "Raw stack", "TENET (published)", "Axial width (µm)", "µm"):
        assert label in shown
    no_empty_axes(figure)
    fits_the_page(figure)


@pytest.fixture
def tumour(tmp_path):
    """Cells and tumour, blurred and sampled; predicted as they are, for TENET."""
    masks = {}
    for kind in ("microglia", "tumour"):
        settings = TissuePhantomSettings(kind, (72, 72, 72), (1, 1, 1), 4)
        shape = settings.draw(np.random.default_rng(1)).shape.astype(np.float32)
        masks[kind] = shape
        name = f"fig5_{kind}"
        raw = shape.reshape(6, 12, 72, 72).mean(axis=1)
        path = tmp_path / f"acquisitions/{name}/noise/00.ome.tif"
        write_ome_tiff_at(path, raw, (12.0, 1.0, 1.0))
        moved = np.roll(shape, 3, axis=1)
        found = (("tenet", shape), ("tenet_published", moved), ("rltv", moved))
        for method, score in found:
            top = tmp_path / f"predictions/{name}/{method}"
            write_ome_tiff_at(top / "noise/00.ome.tif", score, (1, 1, 1))
            save_json(top / "settings.json", {"threshold": 0.5})
    return tmp_path


def test_figure_5_shows_cells_and_their_shapes(tumour):
    predictions = tumour / "predictions"
    table, cells, projections = evaluate_cells(
        "fig5_microglia",
        predictions / "fig5_microglia",
        predictions / "fig5_tumour/tenet",
        ["tenet", "rltv", "tenet_published"],
    )
    cells = pd.concat([cells, cells[cells["method"] == "tenet"].assign(method="truth")])
    (tumour / "metrics").mkdir()
    table.to_csv(tumour / "metrics/fig5_microglia.csv", index=False)
    np.savez(tumour / "metrics/fig5_microglia_projections.npz", **projections)
    (tumour / "tables").mkdir()
    cells.to_csv(tumour / "tables/fig5_microglia_cells.csv", index=False)
    table_of(tumour, "fig5", "fig5_cells", [table])
    figure = figure5(tumour)
    shown = words(figure)
    number = int(table.set_index(["method", "quantity"])["value"]["tenet", "cells"])
    assert f"Cells found: TENET {number}" in shown
    assert f"{number} cells" in shown
    shapes = ("Volume (µm³)", "Flatness (1: round)")
    for label in ("Raw", "TENET, shape", "TENET (published)", *shapes):
        assert label in shown
    fits_the_page(figure)


@pytest.mark.parametrize(
    ("sphericity", "said"),
    [
        (0.8, "Processes are lost: sphericity of TENET's cells 0.80, of the true cells 0.45"),
        (0.5, "Sphericity of TENET's cells 0.50, of the true cells 0.45"),
    ],
)
def test_figure_5_says_when_cells_lost_their_processes(tumour, sphericity, said):
    predictions = tumour / "predictions"
    table, cells, projections = evaluate_cells(
        "fig5_microglia",
        predictions / "fig5_microglia",
        predictions / "fig5_tumour/tenet",
        ["tenet"],
    )
    truth = table.assign(method="truth")
    table = pd.concat([table, truth], ignore_index=True)
    for method, value in (("tenet", sphericity), ("truth", 0.45)):
        where = (table["method"] == method) & (table["quantity"] == "sphericity")
        table.loc[where, "value"] = value
    for folder in ("metrics", "tables"):
        (tumour / folder).mkdir()
    np.savez(tumour / "metrics/fig5_microglia_projections.npz", **projections)
    cells.to_csv(tumour / "tables/fig5_microglia_cells.csv", index=False)
    table_of(tumour, "fig5", "fig5_cells", [table])
    assert said in words(figure5(tumour))


def test_supplement_shows_every_ablation_with_what_was_published(tmp_path):
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    names = ("no_ewc", "x2_psf", "mine")
    tables = []
    # The one that is called mine differs from the reference by chance alone.
    # What they are compared with has other methods and another fold, which no ablation has.
    levels = dict(zip(names, (1, 2, 4), strict=True))
    experiments = [(f"supp_{name}", "fold0", "tenet", levels[name]) for name in names]
    for part, method, level in (
        ("fold0", "tenet", 4),
        ("fold0", "tenet_published", 9),
        ("fold1", "tenet", 50),
        ("all", "rltv", 50),
    ):
        experiments.append(("fig3_beads", part, method, level))
    for experiment, part, method, level in experiments:
        about = {"experiment": experiment, "part": part, "method": method}
        rows, sweep = [], []
        for image in range(6) if part == "fold0" else (6, 7):
            for quantity in ("total_loss", "volume_um3", "sphericity", "z_xy_ratio"):
                for ending in ("", "_published_thr0.5"):
                    row = about | {"image": image, "roi": image, "quantity": quantity + ending}
                    chance = 0.2 * (-1) ** image if experiment == "supp_mine" else 0
                    rows.append(row | {"value": level + 0.1 * image + chance})
                    for at in np.arange(1, 20) / 20:
                        sweep.append(row | {"threshold": at, "value": level + at})
        tables.append(pd.DataFrame(rows))
        for kind, table in (("", tables[-1]), ("_sweep", pd.DataFrame(sweep))):
            file = metrics / f"{experiment}{kind}.csv"
            table.to_csv(file, index=False, mode="a", header=not file.exists())
        folder = tmp_path / f"models/{experiment}/{part}"
        folder.mkdir(parents=True, exist_ok=True)
        history = pd.DataFrame({"epoch": [1, 2], "validation": [2.0, 1.0]})
        history.to_csv(folder / "history.csv", index=False)
        save_json(folder / "provenance.json", {"mode": "old"})
    table = table_of(tmp_path, "supp", "supp_ablations", tables)
    losses = table[table["quantity"] == "total_loss"].set_index("condition")
    as_published = losses[losses["method"] == "tenet_published"]
    assert as_published.loc["reference", ["value", "n"]].tolist() == [pytest.approx(9.25), 6]
    losses = losses[losses["method"] == "tenet"]
    assert losses.loc["reference", ["value", "n"]].tolist() == [pytest.approx(4.25), 6]
    assert losses["published"]["reference"] == pytest.approx(1.146329)
    assert losses["published"]["no_ewc"] == pytest.approx(1.724248)
    assert np.isnan(losses["published"]["mine"])
    sweeps = sorted(metrics.glob("*_sweep.csv"))
    measures = sorted(set(metrics.glob("*.csv")) - set(sweeps))
    published = published_vs_run(PUBLISHED, measures, np.random.default_rng(0))
    published.to_csv(tmp_path / "tables/published_vs_run.csv", index=False)
    row = published[published["method"] == "without_ewc"].iloc[0]
    assert row["run"] == pytest.approx(1.25)
    assert row["fair"] == pytest.approx(1.25)
    beads = ROOT / "resources/bead_metrics_per_roi.csv"
    figure = supplement(tmp_path, published_beads=beads)
    shown = words(figure)
    assert "grey points its beads" in shown
    volumes = [line.get_xdata() for line in figure.axes[1].lines if line.get_color() == "0.6"]
    # Of "mine" nothing is published; the published method has one bar more.
    assert [len(points) for points in volumes] == [30, 30, 30, 30, 0]
    assert np.mean(volumes[0]) == pytest.approx(4.003383, rel=1e-4)
    told = "Of 3 changes 2 differ from 'nothing changed' beyond chance: without EWC, PSF loss × 2."
    assert told in shown
    assert "-3.000 (-3.000 to -3.000): better" in shown
    assert shown.count("no difference found at this scale") == 1
    assert "9.25 →" in shown  # the published method's volume, beyond the axis of the ablations
    for label in (
        "nothing changed",
        "TENET (published)",
        "PSF loss × 2",
        "mine",
        "Threshold",
        "Epoch",
    ):
        assert label in shown
    no_empty_axes(figure)
    fits_the_page(figure)
    few = table.assign(low=np.nan, high=np.nan)
    few.to_csv(tmp_path / "tables/supp_ablations.csv", index=False)
    shown = words(supplement(tmp_path))
    assert shown.count("fewer than 6 images, too few to tell") == 3
    assert "None of 3 changes" in shown
    for name in names:  # where the network stood still, its losses cannot matter
        save_json(tmp_path / f"models/supp_{name}/fold0/provenance.json", {"mode": "decoder"})
    shown = words(supplement(tmp_path))
    assert "beyond chance" not in shown
    assert "PSF and noise alone were fine-tuned here" in shown


def test_every_training_has_its_panel_and_every_fold_its_line(tmp_path):
    histories = [
        "models/scale10",
        "models/scale3_align",
        "models/scale3_align/alignment",
        "models/fig3_beads/fold0",
        "models/fig3_beads/fold1",
        "models/published/scale10",
        "models/published/fig3_beads/fold0",
        "baselines/care/fig3_beads/fold0",
        "baselines/neuroclear/fig3_beads/fold0",
    ]
    for level, name in enumerate(histories):
        (tmp_path / name).mkdir(parents=True)
        rows = {"epoch": [1, 2], "training": [level + 2, level + 1], "validation": [level, level]}
        pd.DataFrame(rows).to_csv(tmp_path / name / "history.csv", index=False)
    paths = [tmp_path / name / "history.csv" for name in histories]
    figure = training_figure(tmp_path, paths)
    titles = {axes.get_title(): axes for axes in figure.axes}
    assert set(titles) == {
        "scale10\npre-training",
        "scale3_align\npre-training",
        "scale3_align\nalignment",
        "fig3_beads\nTENET",
        "scale10\npre-training, published",
        "fig3_beads\nTENET (published)",
        "fig3_beads\nCARE",
        "fig3_beads\nNeuroclear",
    }
    drawn = [list(line.get_ydata()) for line in titles["fig3_beads\nTENET"].lines]
    assert drawn == [[5, 4], [3, 3], [6, 5], [4, 4]]
    fits_the_page(figure)
    # Without a list: all that there are, but only those listed otherwise.
    assert len(training_figure(tmp_path).axes) == 8
    assert len(training_figure(tmp_path, paths[:1]).axes) == 1
    with pytest.raises(TenetError, match="no history"):
        training_figure(tmp_path / "elsewhere")
    with pytest.raises(TenetError, match="outside"):
        training_figure(tmp_path / "models", paths[:1])


def test_motion_is_shown_as_taken_registered_and_aligned(tmp_path):
    """Three treatments of one stack, whose quality is known: IoU 1, one half and one fifth."""
    phantoms = tmp_path / "phantoms/fig2_phantoms"
    settings = TissuePhantomSettings("neurons", (60, 48, 48), FINE, 4)
    truth = generate_set(settings, phantoms, count=1, seed=0)[0]
    shape, _ = truth.read(slice(None), slice(None), slice(None))
    experiment = load_experiment("supp_motion_none", overlays=["demo"], folder=EXPERIMENTS)
    taken = tmp_path / "acquisitions/supp_motion_none"
    simulate_acquisitions(experiment, phantoms, taken, motion_px=1.5)
    register_folder(taken, tmp_path / "registered/supp_motion_registered", motion="translation")
    (tmp_path / "metrics").mkdir()
    tables = []
    shares = {"none": 0.2, "registered": 0.5, "aligned": 1.0}
    for treatment, share in shares.items():
        name = f"supp_motion_{treatment}"
        for method in ("tenet", "pretrained"):
            top = tmp_path / f"predictions/{name}/{method}"
            found = shape.astype(np.float32)
            places = np.flatnonzero(found)
            found.flat[places[round(share * len(places)) :]] = 0
            write_ome_tiff_at(top / "noise/00.ome.tif", found, FINE)
            save_json(top / "settings.json", {"threshold": 0.5})
        table, _ = evaluate_segmentation(name, tmp_path / f"predictions/{name}", phantoms)
        table.to_csv(tmp_path / f"metrics/{name}.csv", index=False)
        tables.append(table)
    table_of(tmp_path, "supp_motion", "supp_motion_iou", tables)
    history = {"epoch": [1, 2], "training_pixelwise": [1, 0.8], "validation_pixelwise": [1, 0.9]}
    folder = tmp_path / "models/scale3_align/alignment"
    folder.mkdir(parents=True)
    pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
    figure = motion_figure(tmp_path)
    shown = words(figure)
    flat = " ".join(shown.split())
    for words_, value in (("aligned by a network", 1), ("registered by correlation", 0.5)):
        assert f"{words_} {value:.2f} (not fine-tuned {value:.2f}); " in flat
    assert "as it is 0.20 (not fine-tuned 0.20)." in flat
    assert "planes shifted by 1.5 px" in shown
    assert "demo scale" in shown
    no_empty_axes(figure)
    fits_the_page(figure)


def test_the_quality_bench_shows_what_tenet_gains(tmp_path):
    """TENET finds all of two phantoms, and RLTV one half and one fifth of them."""
    phantoms = tmp_path / "phantoms/quality"
    settings = TissuePhantomSettings("neurons", (60, 48, 48), FINE, 4)
    truths = generate_set(settings, phantoms, count=2, seed=0)
    experiment = load_experiment("quality_matched", overlays=["demo"], folder=EXPERIMENTS)
    (tmp_path / "metrics").mkdir()
    tables = []
    for condition, share in {"matched": 0.5, "na_low": 0.2}.items():
        name = f"quality_{condition}"
        simulate_acquisitions(experiment, phantoms, tmp_path / f"acquisitions/{name}")
        for method, kept in {"tenet": 1.0, "rltv": share}.items():
            top = tmp_path / f"predictions/{name}/{method}"
            for index, truth in enumerate(truths):
                shape, _ = truth.read(slice(None), slice(None), slice(None))
                found = shape.astype(np.float32)
                places = np.flatnonzero(found)
                found.flat[places[round(kept * len(places)) :]] = 0
                write_ome_tiff_at(top / f"noise/{index:02d}.ome.tif", found, FINE)
            save_json(top / "settings.json", {"threshold": 0.5})
        table, _ = evaluate_segmentation(name, tmp_path / f"predictions/{name}", phantoms)
        table.to_csv(tmp_path / f"metrics/{name}.csv", index=False)
        tables.append(table)
    summary = table_of(tmp_path, "quality", "quality", tables)
    gains = summary[summary["quantity"] == "iou_gain"].set_index("condition")["value"]
    assert gains.to_dict() == pytest.approx({"matched": 0.5, "na_low": 0.8, "all": 0.65}, abs=1e-3)
    figure = quality_figure(tmp_path)
    shown = " ".join(words(figure).split())
    assert "over all conditions: RLTV (tuned) +0.65" in shown
    assert "aperture − 20 % TENET 1.00" in shown
    stack, truth = (
        next(axes.images[0] for axes in figure.axes if axes.get_title() == title)
        for title in ("Stack", "Truth")
    )
    assert truth.get_extent() == pytest.approx(stack.get_extent())  # in µm
    no_empty_axes(figure)
    fits_the_page(figure)


def test_stacks_of_several_channels_are_read_by_channel(tmp_path):
    path = tmp_path / "data/00.ome.tif"
    path.parent.mkdir()
    both = np.stack([np.zeros((3, 8, 8), np.float32), np.ones((3, 8, 8), np.float32)])
    write_ome_tiff(path, both, (1, 1, 1), ["microglia", "tumour"])
    assert open_stack(path, channel=1).read().min() == 1
