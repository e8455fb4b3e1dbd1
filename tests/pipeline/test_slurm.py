"""Figure 3 of the demo on a real Slurm of two workers, one of which is lost in the middle.

Slurm, its accounting, Snakemake, its plugin and the profile are the real ones. The commands are
those of `test_workflow.py`, which write their own words to where the results would be. So equal
results are equal commands, and the run takes two minutes. Phantoms and pre-training are there
already.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from slurm_cluster import missing, plugin, slurm, wait_for
from support import copy_repository, snakemake
from test_workflow import COMMAND_LINE

pytestmark = pytest.mark.pipeline

#: Two models, so that there are two measures to group; and the tables of both.
FEW = "methods: [tenet]\nablations: [supp_mrf]\nexperiments: {fig3_beads: {folds: [0]}}\n"
TABLES = [f"results/demo/tables/{name}.csv" for name in ("fig3_beads", "supp_ablations")]
DEMO = (*TABLES, "--configfile", "config/demo.yaml", "few.yaml")
#: Each command says what it was, once it has written all. The first fine-tuning never ends: it is
#: on a worker that is lost. The second time it finds that it had begun, and ends. Numbers of cores
#: are left out: within a job Snakemake counts those of the machine, and workers say that they have
#: more.
KEEPS_A_LIST = """
import os, time
CORES = ("--threads", "--workers")
words = [word for before, word in zip(["", *words], words) if not {before, word} & set(CORES)]
if kind == "finetune" and "fig3_beads" in words and "SLURM_JOB_ID" in os.environ:
    begun = Path("begun")
    if not begun.exists():
        begun.write_text(os.environ["SLURM_JOB_ID"])
        time.sleep(600)
"""
LISTS = """
with Path("commands.txt").open("a") as listed:
    listed.write(" ".join(words) + "\\n")
"""
#: What each kind of job asks for: cores, MB, minutes, GPUs. The group is of two measures at once,
#: then of two tables: it takes the cores and the memory of two, and the time of one and one.
ASKED = {
    "finetune": (4, 16000, 1440, 1),
    "predict": (4, 16000, 480, 1),
    "drawn": (2, 8000, 270, 0),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if why := missing():
        pytest.skip(why)
    try:
        where = plugin(tmp_path_factory.mktemp("plugin"))
    except LookupError as why:
        pytest.skip(str(why))
    with slurm() as running:
        path = os.pathsep.join(filter(None, [where, os.environ.get("PYTHONPATH", "")]))
        running.environment |= {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
        yield running


def copy_with_stand_ins(folder):
    copy_repository(folder)
    first, last = COMMAND_LINE.split("for path in files:")
    (folder / "tenet/__main__.py").write_text(
        f"{first}{KEEPS_A_LIST}for path in files:{last}{LISTS}"
    )
    (folder / "few.yaml").write_text(FEW)
    return folder


def results(folder):
    """Contents of all that is in the folder of results, but logs and times."""
    found = folder / "results/demo"
    return {
        str(path.relative_to(found)): path.read_bytes()
        for path in sorted(found.rglob("*"))
        if path.is_file() and path.relative_to(found).parts[0] not in ("logs", "benchmarks")
    }


def commands(folder):
    return Counter((folder / "commands.txt").read_text().splitlines())


def kind_of(job):
    """The entry of `ASKED` for a job; its comment is its rule or group, and its wildcards."""
    (kind,) = (kind for kind in ASKED if job["Comment"].startswith(f"rule_{kind}"))
    return kind


def asked_of(job):
    """Cores, MB, minutes and GPUs that `sacct` says a job asked for."""
    asked = dict(part.split("=") for part in job["ReqTRES"].split(","))
    days, hours, minutes = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):00", job["Timelimit"]).groups()
    time = 60 * (24 * int(days or 0) + int(hours)) + int(minutes)
    units = {"M": 1, "G": 1024}
    memory = int(float(asked["mem"][:-1]) * units[asked["mem"][-1]])
    return int(asked["cpu"]), memory, time, int(asked.get("gres/gpu", 0))


@pytest.mark.timeout(900)
def test_a_worker_is_lost_and_comes_back_and_the_tables_are_those_of_one_machine(cluster, tmp_path):
    here, there = copy_with_stand_ins(tmp_path / "here"), tmp_path / "there"
    snakemake(here, *DEMO, "--until", "pretrain", "simulate")
    shutil.copytree(here, there, copy_function=shutil.copy2)
    snakemake(here, *DEMO)
    command = [sys.executable, "-m", "snakemake", *DEMO, "--workflow-profile", "profiles/slurm",
               "--slurm-init-seconds-before-status-checks", "4"]  # fmt: skip
    log = there / "snakemake.txt"
    with log.open("w") as said:
        run = subprocess.Popen(
            command, cwd=there, env=cluster.environment, stdin=subprocess.DEVNULL,
            stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
        begun = there / "begun"
        wait_for("a fine-tuning", lambda: run.poll() is not None or begun.is_file(), 300)
        assert run.poll() is None, log.read_text()
        (lost,) = wait_for("a job", begun.read_text).split()
        (worker,) = cluster.run("squeue", "--noheader", "--job", lost, "--format=%N").split()
        cluster.kill_worker(worker)
        wait_for("its loss", lambda: cluster.states().get(worker, "").startswith("down"), 90)
        cluster.start_worker(worker)
        assert run.wait(timeout=400) == 0, log.read_text()

    assert results(there) == results(here)
    assert commands(there) == commands(here)
    assert set(commands(there).values()) == {1}  # no work was lost and none was done twice
    again = snakemake(there, "--dry-run", *DEMO, "--cores", "8")
    assert "Nothing to be done" in again

    jobs = cluster.jobs("JobID", "State", "ReqTRES", "Timelimit", "Comment")
    ends = {job["JobID"]: job["State"] for job in jobs}
    assert ends.pop(lost) == "NODE_FAIL"
    assert set(ends.values()) == {"COMPLETED"}
    kinds = {job["JobID"]: kind_of(job) for job in jobs}
    assert Counter(kinds.values()) == {"finetune": 3, "predict": 2, "drawn": 1}
    for job in jobs:
        assert asked_of(job) == ASKED[kinds[job["JobID"]]], job
