"""Seconds of a step, from tables of `tenet bench`."""

from pathlib import Path

import pytest
from known_rates import ROWS
from snakemake.exceptions import WorkflowError

from tenet.paper import bench
from workflow.lib import rates
from workflow.lib.rates import GPU_CROP, Rates

ROOT = Path(__file__).parents[3]


@pytest.fixture
def params(paper):
    from workflow.lib.catalogue import resolved

    return resolved(paper, "fig3_beads").params


def on(device):
    return Rates(ROWS, on_gpu=device == "cuda", origin="here")


def changed(params, **values):
    return params.model_copy(update={"deconvolution_steps": 0} | values)


def test_crops_are_those_of_the_bench():
    assert bench.GPU_CROP[0] * bench.GPU_CROP[1] * bench.GPU_CROP[2] == rates.GPU_CROP
    assert bench.CROP[0] * bench.CROP[1] * bench.CROP[2] == rates.CPU_CROP
    assert set(rates.NEEDED) <= set(bench.ROWS)


def test_a_step_is_that_of_its_network_and_precision(params):
    step = on("cuda").training_step
    light, published = changed(params, network="coarse"), changed(params, network="jnet")
    assert step(light, "bfloat16", GPU_CROP) == 0.1
    assert step(changed(params, network="cells"), "bfloat16", GPU_CROP) == 0.1
    assert step(published, "bfloat16", GPU_CROP) == 0.5
    assert step(published, "float32", GPU_CROP) == 1.0
    assert step(light, "float32", GPU_CROP) == pytest.approx(0.2)
    assert on("cuda").forward(published, "float32", GPU_CROP) == pytest.approx(0.3)


def test_deconvolution_comes_on_top(params):
    light = changed(params, network="coarse", deconvolution_steps=30)
    assert on("cuda").training_step(light, "bfloat16", GPU_CROP) == pytest.approx(0.1 + 0.03)


def test_small_crops_take_as_long_on_a_gpu_and_less_on_a_cpu(params):
    light = changed(params, network="coarse")
    assert on("cuda").training_step(light, "bfloat16", GPU_CROP / 4) == 0.1
    assert on("cuda").training_step(light, "bfloat16", 3 * GPU_CROP) == pytest.approx(0.3)
    assert on("cpu").training_step(light, "bfloat16", 240 * 48 * 24) == pytest.approx(0.05)


def test_neuroclear_is_counted_at_the_rate_of_large_convolutions_on_a_gpu():
    assert on("cuda").neuroclear_step(36**3) == 0.02
    assert on("cuda").neuroclear_step(108**3) == pytest.approx(27 * 0.01)
    assert on("cpu").neuroclear_step(108**3) == pytest.approx(27 * 0.02)


def test_the_tables_of_the_repository_are_read():
    card = Rates.read(ROOT, "benchmarks/one_h100.csv")
    assert card.on_gpu
    assert card.seconds["train_step_coarse"] == 0.066628  # recorded, as trainings are
    assert card.seconds["train_step_float32"] == 0.232361
    assert card.seconds["deconvolve"] == 0.010269
    cores = Rates.read(ROOT, "benchmarks/two_cpu_cores.csv")
    assert not cores.on_gpu
    assert cores.seconds["train_step_coarse"] == 0.334762


def test_of_a_table_of_ones_own_the_gpu_counts(tmp_path):
    rows = [f"{name},{2 * value},cpu" for name, value in ROWS.items()]
    rows += [f"{name},{value},cuda" for name, value in ROWS.items()]
    (tmp_path / "bench.csv").write_text("\n".join(["name,median_s,device", *rows]))
    own = Rates.read(tmp_path, "bench.csv")
    assert (own.on_gpu, own.seconds, own.origin) == (True, ROWS, "bench.csv")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no table of tenet bench"),
        ("a,b\n1,2\n", "no table of tenet bench"),
        ("name,median_s\nblur,fast\n", "no table of tenet bench"),
        ("name,median_s\nblur,0.1\n", "lacks the row train_step"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path, content, said):
    if content is not None:
        (tmp_path / "bench.csv").write_text(content)
    with pytest.raises(WorkflowError, match=said) as error:
        Rates.read(tmp_path, "bench.csv")
    assert len(str(error.value).splitlines()) == 1
