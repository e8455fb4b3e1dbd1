"""A run says what it costs before it starts; the paper is a day of a GPU, figure 3 a quarter."""

import re

import pytest
from support import ROOT, copy_repository, snakemake

from workflow.lib.rates import SHARED

#: What must hold: hours of one H100 with several jobs on it, GB of disk, GB of memory of a job.
DAY, WITHOUT_PUBLISHED, FIGURE_3, DISK_GB, MEMORY_GB = 24, 12, 6, 300, 32
OURS = "methods=[tenet,pretrained,rltv,rltv_paper,care,neuroclear]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return copy_repository(tmp_path_factory.mktemp("cost") / "copy")


def planned(folder, *arguments, **settings):
    """Jobs, GPU hours, GB of disk and GB of memory that a dry run says, by line of its table."""
    said = snakemake(folder, *arguments, "--dry-run", "--quiet", **settings)
    rows = re.findall(r"^(\S.*?)  +(\d+) +([\d.]+) +([\d.]+) +(\d+)$", said, re.MULTILINE)
    assert rows, said
    return said, {name: [*map(float, numbers)] for name, *numbers in rows}


def hours_on_a_shared_gpu(said):
    """Hours that a dry run says for the several jobs a GPU that the configuration has."""
    (hours,) = re.findall(r"jobs on one GPU at once: about ([\d.]+) h", said)
    return float(hours)


def test_the_paper_is_a_day_of_one_gpu(folder):
    said, rows = planned(folder, "all")
    jobs, hours, disk, memory = rows["all"]
    assert hours_on_a_shared_gpu(said) == pytest.approx(SHARED * hours, abs=0.1)
    assert "by benchmarks/one_h100.csv" in said
    assert "No GPU is used here" in said
    assert hours_on_a_shared_gpu(said) <= DAY
    assert disk <= DISK_GB
    assert memory <= MEMORY_GB
    for column, total in enumerate((jobs, hours, disk)):
        parts = [row[column] for name, row in rows.items() if name != "all"]
        assert sum(parts) == pytest.approx(total, abs=0.06 * len(parts))


def test_without_the_published_method_it_is_half_a_day(folder):
    said, _ = planned(folder, "all", "--config", OURS)
    assert hours_on_a_shared_gpu(said) <= WITHOUT_PUBLISHED


def test_figure_3_is_a_quarter_of_a_day(folder):
    said, _ = planned(folder, "results/fig3.pdf", "--config", OURS)
    assert hours_on_a_shared_gpu(said) <= FIGURE_3


def test_the_paper_on_a_hundred_nodes(folder):
    """What the docs say; a plan by hand is in `tests/unit/workflow/test_nodes.py`."""
    said, rows = planned(folder, "all", environment={"TENET_NODES": "100"})
    hours = float(re.search(r"^On 100 nodes .* 10 min: about ([\d.]+) h\.$", said, re.MULTILINE)[1])
    chain, use = re.search(r"chain of jobs takes ([\d.]+) h\. The GPUs work (\d+)%", said).groups()
    assert hours == float(chain)  # more nodes are of no use
    assert float(use) == pytest.approx(100 * rows["all"][1] / (100 * hours), abs=1.5)
    assert f"{rows['all'][0] - 1:.0f} jobs write" in said  # without the rule that only collects
    assert f"| 100 | {hours} |" in (ROOT / "docs/cluster.md").read_text()


def test_other_rates_are_taken_where_they_are_named(folder):
    rates = {"TENET_RATES": "benchmarks/two_cpu_cores.csv"}
    said, rows = planned(folder, "results/fig3.pdf", environment=rates)
    assert "by benchmarks/two_cpu_cores.csv" in said
    assert "CPU h" in said
    assert rows["all"][1] > 24


def test_a_table_that_is_missing_is_named_in_one_line(folder):
    said = snakemake(
        folder, "all", "--dry-run", check=False, environment={"TENET_RATES": "mine.csv"}
    )
    assert "rates: mine.csv is no table of tenet bench" in said
    assert "Traceback" not in said


def test_the_demo_says_nothing_of_it(folder):
    said = snakemake(folder, "--configfile", "config/demo.yaml", "--dry-run", "--quiet")
    assert "What this takes" not in said


@pytest.mark.parametrize(
    "words",
    [
        ["all", "--resources", "gpu=1"],
        ["--resources", "gpu=1", "--", "all"],
        ["--resources=gpu=1", "all"],
    ],
    ids=" ".join,
)
def test_the_forms_that_the_docs_give(folder, words):
    assert "What this takes" in snakemake(folder, "--dry-run", "--quiet", *words)
