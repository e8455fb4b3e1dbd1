"""The pipeline as a whole: what would run, when, and where. Snakemake itself is run throughout.

What reruns is tested on a copy of the repository whose command line only puts files where the real
one would. So every record of Snakemake's is real, and a whole run takes seconds.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support import copy_repository, snakemake
from tifffile import imwrite

from tenet.io.open import open_stack

DEMO = ("--configfile", "config/demo.yaml")

pytestmark = pytest.mark.pipeline

# Writes what a command is asked to write, to where it is asked to.
COMMAND_LINE = """
import sys
from pathlib import Path

MODEL = ("model.pt", "experiment.json", "provenance.json", "history.csv", "threshold.json")
MODEL += ("psf.csv", "optimiser.pt", "fisher.pt", "alignment/history.csv")
words = sys.argv[1:]
option = lambda name: Path(words[words.index(name) + 1])
out = option("--out")
kind = words[0] if words[0] not in ("rltv", "samples", "baseline") else words[1]
if kind in ("pretrain", "align", "finetune"):
    files = [out / name for name in MODEL]
elif kind == "train":
    files = [out / name for name in ("model.pt", "settings.json", "history.csv")]
elif kind == "enhance" and "--name" in words:
    files = [out / f"{option('--name')}.{suffix}" for suffix in ("ome.tif", "png", "html", "json")]
elif kind in ("phantoms", "simulate", "register", "predict", "run", "enhance"):
    files = [out / "00"]
else:
    more = ("--sweep", "--cells", "--projections") if kind == "evaluate" else ()
    files = [out] + [option(name) for name in more if name in words]
for path in files:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(" ".join(words))
"""
PAPERMILL = """
import json
import sys
from pathlib import Path

figure, results = Path(sys.argv[6]).stem, Path(json.loads(sys.argv[-1])["results"])
for suffix in ("pdf", "png"):
    (results / f"{figure}.{suffix}").write_text("drawn")
Path(sys.argv[7]).write_text("executed")
"""


def jobs(folder, *arguments, **options):
    """Numbers of jobs by rule that a dry run announces; without the rule that only collects."""
    output = snakemake(folder, "--dry-run", *arguments, **options)
    table = re.search(r"^Job stats:\njob .*\n-.*\n((?:\S+ +\d+\n)+)", output, flags=re.MULTILINE)
    if table is None:
        assert "Nothing to be done" in output, output
        return {}
    counts = {rule: int(count) for rule, count in map(str.split, table[1].splitlines())}
    return {rule: n for rule, n in counts.items() if rule not in ("all", "total")}


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """A copy of the repository in which nothing has run."""
    return copy_repository(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory):
    folder = copy_repository(tmp_path_factory.mktemp("finished"))
    (folder / "tenet/__main__.py").write_text(COMMAND_LINE)
    (folder / "papermill.py").write_text(PAPERMILL)
    snakemake(folder, "--quiet", "all", *DEMO)
    return folder


@pytest.fixture
def finished(finished_once, tmp_path):
    """A copy of its own of a repository in which the demo has run, dates and records included."""
    folder = tmp_path / "finished"
    shutil.copytree(finished_once, folder, copy_function=shutil.copy2)
    return folder


# What runs ----------------------------------------------------------------------------------------


def test_demo_runs_the_same_rules_as_the_paper(fresh):
    demo, paper = jobs(fresh, *DEMO), jobs(fresh)
    ablations = 8
    assert demo == {
        "phantoms": 14,  # training and tuning for three kinds, and one for each set of images
        "simulate": 9,
        "register": 1,
        "pretrain": 4 + 3,  # TENET's, and those with the published settings
        "align": 1,
        # The angles use the model of the phantoms.
        "finetune": 2 * (1 + 2 + 1 + 1) + ablations + 3,
        "predict": 4 * 3 + (2 * 2 + 1) + 3 + 3 + 1 + ablations + 3 * 2,
        "rltv_tune": 3,
        "rltv": 7 * 2,
        "baseline_train": 2 * (1 + 2 + 1 + 1),
        "baseline": 2 * (4 + 2 + 2),
        "evaluate_segmentation": 4 + 3,
        "evaluate_beads": 1 + ablations,
        "evaluate_profiles": 1,
        "evaluate_cells": 1,
        "published": 1,
        "table": 6,
        "figure": 8,
    }
    assert paper == {
        **demo,
        "phantoms": 6,
        "simulate": 5,  # all else comes from Zenodo
        "zenodo_manifest": 1,
        "source": 4,
        "finetune": 2 * (1 + 10 + 1 + 1) + 10 * ablations + 3,
        "predict": 4 * 3 + (2 * 10 + 1) + 3 + 3 + 1 + 10 * ablations + 3 * 2,
        # Of microglia the methods in the configuration alone.
        "rltv": 6 * 2 + 1,
        "baseline_train": 2 * (1 + 10 + 1),
        "baseline": 2 * (4 + 10 + 1),
    }


def test_the_quality_bench_compares_every_method_under_every_condition(fresh):
    configs = [*DEMO, "config/quality.yaml"]
    bench = jobs(fresh, "results/quality/quality.pdf", *configs)
    conditions, published, lines, bead_folds = 5, 2, 3, 2
    expected = {
        "finetune": conditions + published + bead_folds,
        "learn": conditions + 1,  # beads have a microscope of their own
        "predict": 3 * (conditions + lines) + published + bead_folds + 2,
        "rltv": 2 * (conditions + lines + 1),
        "baseline": 2 * (conditions + lines + bead_folds),
        "evaluate_segmentation": conditions + lines,
        "evaluate_beads": 1,
        "figure": 1,
    }
    assert expected.items() <= bench.items()
    on_gpu = jobs(fresh, "results/quality_gpu/quality.pdf", *configs, "config/quality_gpu.yaml")
    assert on_gpu == bench
    configs.append("config/quality_quick.yaml")
    quick = jobs(fresh, "results/quality_quick/quality.pdf", *configs)
    assert quick["evaluate_segmentation"] == 2
    assert "baseline_train" not in quick


def test_a_figure_alone_asks_for_its_own_experiments_only(fresh):
    counts = jobs(fresh, "results/fig3.pdf")
    assert counts["finetune"] == 2 * 10
    assert "evaluate_segmentation" not in counts
    counts = jobs(fresh, "results/demo/fig2.pdf", *DEMO)
    assert counts["finetune"] == 2
    assert "evaluate_beads" not in counts


def test_each_set_of_phantoms_has_a_seed_of_its_own(fresh):
    output = snakemake(fresh, "--dry-run", *DEMO)
    seeds = re.findall(r"tenet phantoms .*--seed (\d+)", output)
    assert len(seeds) == 14
    assert len(set(seeds)) == 14


def test_beads_folds_are_trained_without_their_own_images(fresh):
    output = snakemake(fresh, "--dry-run", "results/models/fig3_beads/fold7/model.pt")
    command = next(line for line in output.splitlines() if "tenet finetune" in line)
    assert "--data resources/zenodo/beads --rois resources/bead_rois.csv --fold 7" in command


def test_beads_of_folds_that_are_not_trained_are_not_measured(fresh):
    output = snakemake(fresh, "--dry-run", "results/demo/tables/supp_ablations.csv", *DEMO)
    commands = [line for line in output.splitlines() if "tenet evaluate beads supp" in line]
    assert len(commands) == 8
    assert all("--fold 0 --predictions" in line for line in commands)


def test_what_runs_is_chosen_in_the_configuration(fresh, tmp_path):
    """Figures, methods, folds, seeds, ablations, and experiments left out."""
    few = tmp_path / "few.yaml"
    few.write_text(
        "{figures: [fig3], methods: [tenet, rltv], ablations: [], "
        "experiments: {fig3_beads: {folds: [1]}}}"
    )
    counts = jobs(fresh, *DEMO, few)
    assert (counts["finetune"], counts["predict"], counts["rltv"]) == (1, 1, 1)
    assert "baseline" not in counts
    one = ("ablations=[supp_mrf]", "figures=[supp]")
    # The ablation, and what it is compared with: two folds of figure 3, ours and as published.
    assert jobs(fresh, *DEMO, "--config", *one)["finetune"] == 1 + 2 * 2
    left_out = tmp_path / "left_out.yaml"
    left_out.write_text("{figures: [fig2], experiments: {fig2_angle45: null}}")
    assert jobs(fresh, *DEMO, left_out)["evaluate_segmentation"] == 3
    angle = "results/demo/phantoms/fig2_angle00.sha256"
    seeds = tmp_path / "seeds.yaml"
    seeds.write_text("seeds: [3, 8]")
    output = snakemake(fresh, "--dry-run", angle, *DEMO, seeds)
    assert "--draw 3 --draw 8" in output


def told(folder, figure, *arguments):
    """What a dry run would tell the notebook of a figure."""
    output = snakemake(folder, "--dry-run", f"{figure}.pdf", *arguments)
    papermill = (
        f"python -m papermill -k python3 -l python --no-progress-bar notebooks/{Path(figure).name}"
    )
    command = next(line for line in output.splitlines() if papermill in line)
    words = shlex.split(command.split(" > ")[0])
    return json.loads(words[words.index("-y") + 1])


def test_figures_are_told_which_stacks_they_show(fresh):
    """Those of the record where the configuration names it, never simulated ones left over."""
    left_over = fresh / "results/acquisitions/fig3_beads/acquisition.json"
    left_over.parent.mkdir(parents=True)
    left_over.touch()
    assert told(fresh, "results/fig3") == {
        "results": "results",
        "data": "resources/zenodo/beads",
        "rois": "resources/bead_rois.csv",
        "simulated": False,
    }
    assert told(fresh, "results/fig5") == {
        "results": "results",
        "data": "resources/zenodo/microglia",
        "tumour_data": "resources/zenodo/tumour",
        "simulated": False,
    }
    assert told(fresh, "results/supp") == {
        "results": "results",
        "simulated": False,
        "published_beads": "resources/bead_metrics_per_roi.csv",
    }
    shown = told(fresh, "results/demo/supp_training", *DEMO)["histories"]
    for name in (
        "models/scale3_align/alignment",
        "models/supp_mrf/fold0",
        "models/fig4_neurons/all",
    ):
        assert f"results/demo/{name}/history.csv" in shown
    assert "results/demo/baselines/neuroclear/fig3_beads/fold0/history.csv" in shown
    beads = "results/demo/acquisitions/fig3_beads"
    assert told(fresh, "results/demo/fig3", *DEMO) == {
        "results": "results/demo",
        "data": f"{beads}/noise",
        "rois": f"{beads}/rois.csv",
        "simulated": True,
    }
    shutil.rmtree(left_over.parents[1])


def test_own_stacks_of_equal_optics_share_a_pretraining(fresh, tmp_path):
    stack = np.arange(60 * 48 * 48, dtype=np.float32).reshape(60, 48, 48)
    (tmp_path / "a folder").mkdir()
    for name in ("a stack.tif", "a folder/0.tif", "a folder/1.tif"):
        imwrite(tmp_path / name, np.stack([stack, stack], axis=1), imagej=True)
    table = tmp_path / "samples.tsv"
    table.write_text(
        "name\tfile\tvoxel_z_um\tvoxel_y_um\tvoxel_x_um\tchannel\texperiment\tNA\twavelength\tni\n"
        f"mine\t{tmp_path}/a stack.tif\t1\t0.12\t0.12\t1\t\t0.8\t0.92\t1.33\n"
        f"theirs\t{tmp_path}/a stack.tif\t1\t0.1\t0.1\t0\tfig3_beads\n"
        f"equal\t{tmp_path}/a folder\t1\t0.12\t0.1200001\tall\t\t0.80\t0.92\t1.33\n"
        f"other\t{tmp_path}/a stack.tif\t1\t0.12\t0.12\t0\t\t0.9\t0.92\t1.33\n"
    )
    samples = (*DEMO, "--config", f"samples={table}", 'sample={pretrained: ""}')
    folder = "results/demo/enhanced"
    mine, other = (f"{folder}/{name}.ome.tif" for name in ("mine", "other"))
    one = {
        "sample_check": 1,
        "shared_settings": 1,
        "phantoms": 2,
        "pretrain": 1,
        "finetune": 1,
        "enhance": 1,
    }
    assert jobs(fresh, mine, *samples) == one
    both = {**one, "sample_check": 2, "finetune": 2, "enhance_several": 1}
    assert jobs(fresh, mine, f"{folder}/equal", *samples) == both
    two = {**one, "sample_check": 2, "shared_settings": 2, "pretrain": 2, "finetune": 2}
    assert jobs(fresh, mine, other, *samples) == {**two, "enhance": 2}
    assert jobs(fresh, "samples", *samples) == {
        "sample_check": 4,
        "shared_settings": 2,
        "phantoms": 4,
        "pretrain": 3,
        "finetune": 4,
        "enhance": 3,
        "enhance_several": 1,
        "samples": 1,
    }
    output = snakemake(fresh, "--dry-run", "samples", *samples)
    models = "results/demo/models"
    shared = f"{models}/shared/na0.8_920nm_n1.33_2p_z1_xy0.12"
    optics = "--voxel-size 1 0.12 0.12 --na 0.8 --wavelength 0.92 --ni 1.33 --photons 2"
    assert f"tenet samples experiment {optics} --base sample --overlay demo" in output
    assert f"tenet pretrain {shared}.json " in output
    assert output.count(f"--pretrained {shared} ") == 2
    assert f"--pretrained {models}/scale10 " in output
    reading = "--voxel-size 1 0.12 0.1200001 --channel all"
    assert f"--data '{tmp_path}/a folder' {reading} --pretrained" in output
    enhance = f"tenet enhance '{tmp_path}/a folder' {reading} --model {models}/samples/equal/all"
    assert f"{enhance} --out {folder}/equal.unfinished --sheet" in output
    assert f"finish_folder.py {folder}/equal.unfinished {folder}/equal >> " in output


def test_stacks_are_registered_where_the_configuration_says_so(fresh):
    chosen = ("--config", 'experiments={"fig3_beads": {"register": "rigid"}}')
    target = "results/demo/models/fig3_beads/fold0/model.pt"
    output = snakemake(fresh, "--dry-run", target, *DEMO, *chosen)
    assert "tenet register results/demo/acquisitions/fig3_beads --motion rigid" in output
    assert "--data results/demo/registered/fig3_beads/noise" in output
    assert "tenet register" not in snakemake(fresh, "--dry-run", target, *DEMO)


def test_own_phantoms_are_followed_by_their_files(fresh, tmp_path):
    own = ("--config", f'phantoms={{"training": {{"kind": "import", "folder": "{tmp_path}"}}}}')
    target = "results/phantoms/training.sha256"
    output = snakemake(fresh, "--dry-run", target, *own, check=False)
    assert f"there are no .npz files in {tmp_path}" in output
    for name in "ab":
        (tmp_path / f"{name}.npz").touch()
    output = snakemake(fresh, "--dry-run", target, *own)
    assert f"input: {tmp_path}/a.npz, {tmp_path}/b.npz" in output
    assert f"tenet phantoms import {tmp_path}  --out results/phantoms/training" in output


def test_data_come_from_a_mirror_of_the_record(fresh, tmp_path):
    """Stacks are written where they are right; where not, the list of what is expected is shown."""
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        imwrite(tmp_path / "00.tif", np.stack(8 * [np.eye(120, dtype=np.uint16)]))
        archive.write(tmp_path / "00.tif", "Set_03_stackreg_z/00.tif")
    digest = hashlib.md5((tmp_path / "data.zip").read_bytes()).hexdigest()
    (tmp_path / "md5sums.txt").write_text(f"{digest}  data.zip\n")
    place = {"mirror": str(tmp_path), "folder": f"{tmp_path}/zenodo"}
    target = f"{tmp_path}/zenodo/neurons.sha256"

    def run(**neurons):
        own = {"zenodo": place, "sources": {"neurons": neurons}}
        (tmp_path / "own.yaml").write_text(json.dumps(own))
        return snakemake(fresh, target, "--configfile", tmp_path / "own.yaml", check=False)

    output = run()
    assert "00.tif: left out: too small for a crop (8 planes of 80)" in output
    assert "source neurons: what was found differs from what was expected (1)" in output
    assert not Path(target).exists()
    assert "no folder fits '_2024*'" in run(folder="_2024*")
    assert "1 of 1 stacks used" in run(least_planes=1)
    stack = tmp_path / "zenodo/neurons/00.ome.tif"
    assert Path(target).read_text().endswith("  00.ome.tif\n")
    assert open_stack(stack).voxel_size_um == pytest.approx((1.0, 0.31, 0.31))
    assert (tmp_path / "zenodo/neurons.csv").read_text().splitlines()[1].startswith("00.tif,00.ome")


# What reruns --------------------------------------------------------------------------------------

# The supplement compares its ablations with the beads of figure 3, and shows every training.
FIG3_ONLY = {"evaluate_beads": 1, "table": 2, "published": 1, "figure": 3}
ALL_FIGURES = {"figure": 8}


def append(path, text):
    path.write_text(path.read_text() + text)


def test_nothing_reruns_when_nothing_changed(finished):
    assert jobs(finished, "all", *DEMO) == {}


def test_comments_and_docstrings_rerun_nothing(finished):
    for path in (finished / "tenet").rglob("*.py"):
        append(path, "\n# A comment.\n")
    network = finished / "tenet/networks/jnet.py"
    network.write_text('"""Another text."""\n' + network.read_text().partition('"""\n')[2])
    assert jobs(finished, "all", *DEMO) == {}


def test_touched_files_rerun_nothing(finished):
    for path in sorted(finished.rglob("*")):
        if path.is_file() and ".snakemake/" not in str(path):
            path.touch()
    assert jobs(finished, "all", *DEMO) == {}


def test_drawing_code_redraws_and_trains_nothing(finished):
    append(finished / "tenet/paper/figures/page.py", "\nCHANGED = True\n")
    assert jobs(finished, "all", *DEMO) == ALL_FIGURES


@pytest.mark.parametrize("method", ["care", "neuroclear"])
def test_a_baseline_retrains_without_the_other(finished, method):
    append(finished / f"tenet/paper/baselines/{method}.py", "\nCHANGED = True\n")
    counts = jobs(finished, "all", *DEMO)
    assert counts["baseline_train"] == 1 + 2 + 1 + 1
    assert not {"pretrain", "finetune"} & set(counts)


def test_folds_retrain_what_they_keep_images_from(finished):
    append(finished / "tenet/data/folds.py", "\nCHANGED = True\n")
    counts = jobs(finished, "all", *DEMO)
    assert counts["finetune"] == 21
    assert counts["baseline_train"] == 10
    assert counts["predict"] == 38
    assert not {"phantoms", "simulate", "pretrain", "align"} & set(counts)


def test_what_decides_no_result_reruns_nothing(finished):
    for module in ("errors", "types", "progress", "io/atomic", "io/records", "cli/train"):
        append(finished / f"tenet/{module}.py", "\nCHANGED = True\n")
    assert jobs(finished, "all", *DEMO) == {}


def test_measures_of_beads_measure_anew_and_train_nothing(finished):
    append(finished / "tenet/metrics/shapes.py", "\nCHANGED = True\n")
    counts = jobs(finished, "all", *DEMO)
    assert counts["evaluate_beads"] == 9
    assert set(counts) <= {
        *FIG3_ONLY,
        "evaluate_segmentation",
        "evaluate_profiles",
        "evaluate_cells",
    }


def test_a_notebook_redraws_its_figure(finished):
    append(finished / "notebooks/fig3.ipynb", "\n")
    assert jobs(finished, "all", *DEMO) == {"figure": 1}


def test_the_network_retrains_and_draws_no_new_data(finished):
    append(finished / "tenet/networks/jnet.py", "\nCHANGED = True\n")
    counts = jobs(finished, "all", *DEMO)
    assert counts["pretrain"] == 4 + 3
    assert counts["align"] == 1
    assert counts["finetune"] == 21
    assert counts["figure"] == 8
    assert not {"phantoms", "simulate"} & set(counts)


def test_results_are_accepted_as_they_are(finished):
    """For one run by dates alone, for good by `--touch`."""
    append(finished / "tenet/networks/jnet.py", "\nCHANGED = True\n")
    assert jobs(finished, "all", *DEMO)["finetune"] == 21
    assert jobs(finished, "all", *DEMO, "--rerun-triggers", "mtime") == {}
    model = (finished / "results/demo/models/scale3/model.pt").read_text()
    snakemake(finished, "--touch", *DEMO)
    assert jobs(finished, "all", *DEMO) == {}
    assert (finished / "results/demo/models/scale3/model.pt").read_text() == model


def set_value(path, *keys, value):
    settings = json.loads(path.read_text())
    section = settings
    for key in keys[:-1]:
        section = section.setdefault(key, {})
    section[keys[-1]] = value
    path.write_text(json.dumps(settings))


def test_a_setting_reruns_what_reads_it(finished):
    beads = finished / "config/experiments/fig3_beads.json"
    set_value(beads, "train_loop", "ewc_weight", value=0.25)
    extended = 6  # ablations that leave this weight as it is
    assert jobs(finished, "all", *DEMO) == {
        **FIG3_ONLY,
        "finetune": 2 * 2 + extended,  # ours, and as published
        "predict": 2 * 2 + extended,
        "evaluate_beads": 1 + extended,
    }


def test_settings_that_nothing_reads_rerun_nothing(finished):
    beads = finished / "config/experiments/fig3_beads.json"
    set_value(beads, "explanation", value="Another text.")
    set_value(beads, "visualization", "mip", value=3)
    set_value(beads, "pretrain_loop", "lr", value=0.5)  # that of scale10 counts
    assert jobs(finished, "all", *DEMO) == {}


def test_a_hidden_microscope_reruns_its_own_experiment(finished):
    beads = ("--config", 'experiments={"fig3_beads": {"microscope": {"params.NA": 0.55}}}')
    counts = jobs(finished, "all", *DEMO, *beads)
    ablations = 8  # on the same stacks
    assert counts == {
        **FIG3_ONLY,
        "simulate": 1,
        "finetune": 2 * 2 + ablations,
        "predict": 2 * 2 + 1 + ablations,
        "rltv": 2,
        "baseline_train": 4,
        "baseline": 4,
        "evaluate_beads": 1 + ablations,
    }


def test_a_fold_alone_and_with_what_depends_on_it(finished):
    model = "results/demo/models/fig3_beads/fold1/model.pt"
    assert jobs(finished, "--force", model, *DEMO) == {"finetune": 1}
    dependents = jobs(finished, *DEMO, "-R", model, "--", "all")
    assert dependents == {**FIG3_ONLY, "finetune": 1, "predict": 1}


def test_allowed_rules_draw_figures_and_never_train(finished):
    for module in ("networks/jnet", "paper/figures/page"):
        append(finished / f"tenet/{module}.py", "\nCHANGED = True\n")
    counts = jobs(finished, *DEMO, "--allowed-rules", "figure", "table", "--", "all")
    assert counts == ALL_FIGURES


def test_a_volume_that_differs_is_noticed_and_one_that_does_not_is_not(finished):
    """A step interrupted after its input was made anew must not be taken as up to date."""
    predictions = finished / "results/demo/predictions/fig2_angle45"
    same = (predictions / "tenet.sha256").read_text()
    (predictions / "tenet.sha256").write_text(same)
    assert jobs(finished, "all", *DEMO) == {}
    (predictions / "tenet.sha256").write_text(same.replace(same[:8], "0" * 8))
    counts = jobs(finished, "all", *DEMO)
    assert counts == {"evaluate_segmentation": 1, "table": 1, "published": 1, "figure": 1}


def test_logs_and_benchmarks_of_every_job(finished_once):
    results = finished_once / "results/demo"
    benchmarks = sorted((results / "benchmarks").rglob("*.tsv"))
    assert len(benchmarks) == 167
    logs = [p for p in (results / "logs").rglob("*") if p.suffix in (".log", ".ipynb")]
    assert len(logs) == 167 + 8  # a notebook is executed, and talks


def test_report_after_a_run(finished):
    snakemake(finished, *DEMO, "--report", "report.zip")
    assert (finished / "report.zip").stat().st_size > 10_000


# Where it runs ------------------------------------------------------------------------------------


@pytest.fixture
def one_gpu(tmp_path):
    """An environment whose driver lists one GPU."""
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-aa)'\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "0"}


def pretrain_of(output):
    rule = re.search(r"^rule pretrain:\n(?: .*\n)+", output, flags=re.MULTILINE)[0]
    threads = re.search(r"threads: (\d+)", rule)
    return int(re.search(r"gpu=(\d+)", rule)[1]), int(threads[1]) if threads else 1


def test_no_set_of_phantoms_waits_for_both_of_two_cores(fresh):
    output = snakemake(fresh, "--dry-run", "results/models/scale3/model.pt")
    assert "rule phantoms:" in output
    assert "threads: 2" not in output


@pytest.mark.parametrize("limit", [(), ("--resources", "gpu=1"), ("--resources", "mem_mb=64000")])
def test_without_a_gpu_two_trainings_run_at_once(fresh, limit):
    target = "results/models/scale3/model.pt"
    output = snakemake(fresh, "--dry-run", target, *limit)
    assert pretrain_of(output) == (0, 1)
    assert "on_device.py 0 python -m tenet pretrain" in output


@pytest.mark.parametrize(
    ("limit", "granted"),
    [((), 1), (("--resources", "gpu=4"), 1), (("--resources", "gpu=0"), 0)],
)
def test_no_more_gpus_than_the_machine_has(fresh, one_gpu, limit, granted):
    code = "from importlib.metadata import version; print(version('torch'))"
    torch = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    if "+cpu" in torch:
        pytest.skip("this PyTorch is built for the CPU alone")
    target = "results/models/scale3/model.pt"
    output = snakemake(fresh, "--dry-run", target, *limit, environment=one_gpu)
    assert pretrain_of(output)[0] == granted
    assert f"on_device.py {granted} python -m tenet pretrain" in output


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config", "methds=[tenet]"), "unknown key 'methds'; did you mean 'methods'?"),
        (("--config", "samples=nothing.tsv"), "sample table nothing.tsv: no such file"),
        (("--config", "overlays=[dem]"), "no experiment 'dem' in .*; did you mean 'demo'?"),
        (("results/enhanced/nobody.png",), "there is no sample 'nobody' in config/samples.tsv"),
    ],
)
def test_bad_input_is_named(fresh, arguments, message):
    output = snakemake(fresh, "--dry-run", *arguments, check=False)
    assert re.search(message, output), output
    assert "Job stats" not in output


def test_misspelt_sample_column_is_named(fresh, tmp_path):
    table = tmp_path / "samples.tsv"
    table.write_text("name\tfile\tvoxel_z\n")
    output = snakemake(fresh, "--dry-run", "--config", f"samples={table}", check=False)
    assert "unknown column 'voxel_z'; did you mean 'voxel_z_um'?" in output
    assert "Traceback" not in output
