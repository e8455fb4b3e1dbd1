"""The rules' bench of real structures: its conditions, and files that are not there."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from snakemake.exceptions import WorkflowError

from tenet.paper.real.beams import BEAMS
from tenet.paper.real.methods import METHODS
from tenet.settings.load import load_experiment
from workflow.lib import real

ROOT = Path(__file__).parents[3]
BENCH = yaml.safe_load((ROOT / "config/real.yaml").read_text())["real"]


def catalogue(**changed):
    return SimpleNamespace(config={"real": BENCH | changed})


def test_the_configuration_names_beams_and_methods_that_there_are() -> None:
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    allowed = schema["properties"]["real"]["properties"]
    assert set(allowed["beams"]["items"]["enum"]) == set(BEAMS) == set(BENCH["beams"])
    assert set(allowed["methods"]["items"]["enum"]) == set(METHODS) > set(BENCH["methods"])


def test_every_kind_meets_every_beam() -> None:
    assert len(real.results(catalogue())) == 12
    quick = catalogue(kinds=["dendrites"], beams=["fill07"])
    assert real.results(quick) == ["<results>/real/dendrites_fill07/results.csv"]
    with pytest.raises(WorkflowError, match="make real"):
        real.results(SimpleNamespace(config={}))


def test_a_missing_file_is_named_before_anything_runs(tmp_path) -> None:
    for name in real.STRUCTURES["dendrites"]:
        (tmp_path / name).touch()
    bench = catalogue(folder=str(tmp_path), kinds=["dendrites"])
    real.check_asked(bench, ["results/real/real.pdf"])
    assert [Path(file).name for file in real.structures(bench, "dendrites")] == [
        "em_dendrites.npz",
        "em_spine_tips.csv",
    ]
    both = catalogue(folder=str(tmp_path))
    real.check_asked(both, ["results/fig2.pdf"])
    with pytest.raises(WorkflowError, match=r"vessels_label\.nii\.gz is missing.*DATA=FOLDER"):
        real.check_asked(both, ["results/real/real.pdf"])


def test_options_are_those_of_the_command() -> None:
    words = real.options(catalogue(methods=["tenet", "raw"], seeds=2, folder="there"))
    assert words == ["--data", "there", "--seeds", "2", "--method", "tenet", "--method", "raw"]


def test_each_kind_of_structure_meets_a_model_that_the_bench_trains() -> None:
    made = yaml.safe_load((ROOT / "config/real.yaml").read_text())["pretrained"]
    assert set(real.MODELS) == set(real.STRUCTURES)
    assert set(real.MODELS.values()) == set(made)


def test_the_model_of_thin_structures_has_seen_no_thick_ones() -> None:
    usual, thin = (load_experiment(name) for name in ("sample", "sample_thin"))
    least, most = thin.simulation_data_generation.line_thickness
    assert 1 <= least < most < usual.simulation_data_generation.line_thickness[1]
    assert thin.simulation_data_generation.line_fraction == 1  # solids are thick
    assert thin.params == usual.params
