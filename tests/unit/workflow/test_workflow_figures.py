"""Which experiments a figure shows, what it reads, and what its notebook and table are told."""

import json
from pathlib import Path

from workflow.lib import figures

ROOT = Path(__file__).parents[3]


def test_figures_show_their_experiments(paper):
    assert figures.shown_in(paper, "fig1") == ["fig2_phantoms"]
    assert figures.shown_in(paper, "fig5") == ["fig5_microglia", "fig5_tumour"]
    assert figures.compared_in(paper, "supp")[0] == "fig3_beads"
    assert len(figures.compared_in(paper, "supp")) == 9
    assert figures.tumour_of(paper, "fig5_microglia") == "fig5_tumour"


def test_the_whole_is_figures_and_tables(paper, demo):
    whole = figures.final_files(paper)
    assert len(whole) == 2 * 8 + 6 + 1
    assert {"<results>/fig1.pdf", "<results>/tables/fig3_beads.csv"} <= set(whole)
    assert figures.final_files(demo) == whole
    for figure, table in figures.TABLES.items():
        assert figures.figure_of(table) == figure


def test_every_figure_has_a_notebook(paper):
    for figure in [*paper.config["figures"], "quality"]:
        assert (ROOT / f"notebooks/{figure}.ipynb").is_file()


def test_measures_and_sweeps(paper):
    cells = "<results>/metrics/fig5_microglia.csv"  # the tumour is measured with the cells
    assert figures.measured(paper, ["fig5"]) == [cells]
    assert figures.sweeps(paper, ["fig5", "fig3"]) == ["<results>/metrics/fig3_beads_sweep.csv"]


def test_inputs_of_figures(demo):
    assert set(figures.figure_inputs(demo, "fig1")) == {"models", "acquisitions"}
    trainings = figures.figure_inputs(demo, "supp_training")["histories"]
    for name in ("models/scale3_align/alignment", "baselines/care/fig3_beads/fold0"):
        assert f"<results>/{name}/history.csv" in trainings
    assert len(trainings) == len(set(trainings)) == (4 + 1 + 16) + (3 + 5) + 10
    beads = figures.figure_inputs(demo, "fig3")
    assert beads["table"] == "<results>/tables/fig3_beads.csv"
    assert len(beads["models"]) == 2 * 4
    assert len(beads["predictions"]) == 11
    assert beads["published"] == []
    motion = figures.figure_inputs(demo, "supp_motion")
    assert motion["alignment"] == ["<results>/models/scale3_align/alignment/history.csv"]


def test_notebooks_are_told_which_stacks_to_show(paper, demo):
    told = figures.figure_parameters(paper, "fig3", acquisitions=["z/beads.sha256"])
    assert json.loads(told) == {
        "results": "results",
        "data": "z/beads",
        "simulated": False,
        "rois": "resources/bead_rois.csv",
    }
    told = figures.figure_parameters(demo, "fig3", acquisitions=["r/beads.sha256"])
    assert json.loads(told)["rois"] == "r/beads/rois.csv"
    told = figures.figure_parameters(paper, "fig5", acquisitions=["z/m.sha256", "z/t.sha256"])
    assert json.loads(told)["tumour_data"] == "z/t"
    told = figures.figure_parameters(paper, "supp_training", histories=["größe.csv"])
    assert "größe.csv" in told


def test_tables_are_told_how_methods_were_trained(demo):
    words = figures.budget_options(demo, "fig3")
    assert words[::2] == ["--budget"] * 7
    said = dict(word.split("=", 1) for word in words[1::2])
    assert said["care"] == "trained for 120 steps of 8"
    assert said["tenet"].startswith(said["pretrained"])
    assert said["rltv"].startswith(f"{demo.config['rltv']['iterations']} iterations")
    assert figures.acquisition_option(demo, "fig3") == [
        *("--acquisition", "results/demo/acquisitions/fig3_beads/acquisition.json")
    ]
    assert figures.acquisition_option(demo, "fig4") == []
    assert figures.psf_tables(demo, "fig3") == [
        f"<results>/models/fig3_beads/fold{n}/psf.csv" for n in (0, 1)
    ]
