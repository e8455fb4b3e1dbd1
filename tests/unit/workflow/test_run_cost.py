"""What a run costs before it runs, by hand from a table of rates."""

from dataclasses import replace
from pathlib import Path

import pytest
from known_rates import ROWS

from tenet.paper.baselines.care import CARESettings
from tenet.paper.baselines.learned import VALIDATION_BATCHES
from tenet.paper.baselines.neuroclear import NeuroclearSettings
from workflow.lib import cost
from workflow.lib.catalogue import Catalogue, resolved
from workflow.lib.cost import Job, cost_of, lines_of
from workflow.lib.planned import described, length
from workflow.lib.rates import SHARED, Rates

ROOT = Path(__file__).parents[3]
RATES = Rates(ROWS, on_gpu=True, origin="a table")
FINETUNE = Job("finetune", {"experiment": "fig3_beads", "fold": "fold3"}, 16000)


def seconds(catalogue, rule, **wildcards):
    return cost_of(catalogue, RATES, Job(rule, wildcards)).seconds


def with_settings(catalogue, **values):
    return Catalogue({**catalogue.config, **values}, {}, catalogue.root)


def test_a_fine_tuning_by_hand(paper):
    settings = resolved(paper, "fig3_beads")
    assert settings.params.network == "coarse"
    assert settings.params.deconvolution_steps == 60
    step = 2 * (0.1 + 0.06)  # a raw crop and a phantom to rehearse on, each deconvolved
    epoch = settings.train_dataset.I * step + settings.val_dataset.I * (0.04 + 0.06)
    by_hand = cost.START_S + settings.train_loop.n_epochs * epoch
    assert cost_of(paper, RATES, FINETUNE).seconds == pytest.approx(by_hand)


def test_a_pre_training_by_hand(paper):
    settings = resolved(paper, "scale10")
    epoch = settings.pretrain_dataset.I * 0.16 + settings.pretrain_val_dataset.I * 0.1
    by_hand = cost.START_S + settings.pretrain_loop.n_epochs * epoch + 100 * 0.16  # Fisher
    assert seconds(paper, "pretrain", model="scale10") == pytest.approx(by_hand)


def test_baselines_by_hand(paper):
    config = {"n_epochs": 3, "steps_per_epoch": 10, "batch_size": 32}
    found = cost.baseline_seconds("care", config, RATES)
    assert found == pytest.approx(cost.START_S + 3 * (10 + 8 / 3) * 0.02)
    config = {"n_epochs": 2, "steps_per_epoch": 10, "attempts": 2}
    found = cost.baseline_seconds("neuroclear", config, RATES)
    assert found == pytest.approx(cost.START_S + 2 * 2 * (10 + 8 / 3) * 0.27)


def test_what_the_configuration_leaves_out_is_as_the_baselines_have_it():
    care, neuroclear = CARESettings(), NeuroclearSettings()
    assert {k: getattr(care, k) for k in cost.CARE_DEFAULTS} == cost.CARE_DEFAULTS
    assert {k: getattr(neuroclear, k) for k in cost.NEUROCLEAR_DEFAULTS} == cost.NEUROCLEAR_DEFAULTS
    assert cost.VALIDATED == VALIDATION_BATCHES


def test_a_restoration_by_hand(paper):
    crops = 1.5625 * 27 * 333 * 1024**2 / (240 * 112 * 112)
    found = seconds(paper, "predict", experiment="fig4_neurons", method="tenet", fold="")
    assert found == pytest.approx(cost.START_S + crops * (0.04 + 0.06))
    found = seconds(paper, "rltv", experiment="fig4_neurons", method="rltv_paper", fold="")
    assert found == pytest.approx(cost.START_S + crops * 1.22 * 0.01)


def test_a_fold_is_restored_in_less_than_all_images(paper):
    fold = {"experiment": "fig3_beads", "method": "tenet", "fold": "/fold0"}
    assert seconds(paper, "predict", **fold) < seconds(paper, "predict", **fold | {"fold": "/all"})


def test_more_steps_cost_more(paper):
    less = with_settings(paper, care={"n_epochs": 1, "steps_per_epoch": 10})
    more = with_settings(paper, care={"n_epochs": 2, "steps_per_epoch": 10})
    training = {"method": "care", "experiment": "fig3_beads", "fold": "fold0"}
    assert seconds(less, "baseline_train", **training) < seconds(more, "baseline_train", **training)
    slower = replace(RATES, seconds={name: 2 * s for name, s in RATES.seconds.items()})
    assert cost_of(paper, slower, FINETUNE).seconds > cost_of(paper, RATES, FINETUNE).seconds


def test_a_rule_without_a_device_takes_none_of_it(paper):
    assert seconds(paper, "table", table="fig3_beads") == 0
    phantoms = cost_of(paper, RATES, Job("phantoms", {"set": "tuning"}))
    assert (phantoms.seconds, phantoms.disk_bytes > 0) == (0, True)


def test_a_run_is_the_sum_of_its_jobs(paper):
    jobs = [FINETUNE, replace(FINETUNE, memory_mb=20000), Job("pretrain", {"model": "scale10"})]
    ablation = Job("finetune", {"experiment": "supp_mrf", "fold": "fold0"})
    lines = lines_of(paper, RATES, [*jobs, ablation])
    assert {line.kind: line.jobs for line in lines} == {
        "finetune (figures)": 2,
        "pretrain": 1,
        "finetune (ablations)": 1,
    }
    by_kind = {line.kind: line for line in lines}
    assert by_kind["finetune (figures)"].memory_mb == 20000
    every = sum(cost_of(paper, RATES, job).seconds for job in [*jobs, ablation])
    assert sum(line.seconds for line in lines) == pytest.approx(every)
    assert [line.seconds for line in lines] == sorted((x.seconds for x in lines), reverse=True)


def test_what_is_said(paper):
    said = described(paper, RATES, [FINETUNE] * 100, 3).splitlines()
    hours = 100 * cost_of(paper, RATES, FINETUNE).seconds / 3600
    assert "a table" in said[0]
    assert said[-2].split() == ["all", "100", f"{hours:.1f}", "7.6", "16"]
    assert said[-1] == f"With 3 jobs on one GPU at once: about {SHARED * hours:.1f} h."
    assert described(paper, RATES, [Job("table", {"table": "fig3_beads"})], 3) == ""


def test_a_short_run_without_a_gpu_is_said_in_hours():
    assert [length(540), length(47 * 3600), length(60 * 86400)] == ["0.1 h", "47.0 h", "60 days"]


# The day of a GPU ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def card():
    """The rates of an H100."""
    return Rates.read(ROOT, "benchmarks/one_h100.csv")


@pytest.mark.parametrize("experiment", ["fig2_phantoms", "fig3_beads", "fig4_neurons"])
@pytest.mark.parametrize("method", ["care", "neuroclear"])
def test_a_baseline_is_trained_for_as_long_as_tenet_is_fine_tuned(paper, card, experiment, method):
    once = dict(paper.config[method]) | {"attempts": 1}
    ours = cost.fine_tuning_seconds(resolved(paper, experiment), card)
    assert cost.baseline_seconds(method, once, card) >= ours
