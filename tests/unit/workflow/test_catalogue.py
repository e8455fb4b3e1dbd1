"""What the configuration names: experiments, folds, methods, phantoms, raw stacks."""

import pytest
from snakemake.exceptions import WorkflowError

from workflow.lib import phantoms, stacks
from workflow.lib.catalogue import Catalogue, resolved
from workflow.lib.resources import Machine, gpu_limit
from workflow.lib.words import assignments, names, repeated, without_suffix


def test_experiments_include_ablations_and_leave_out_nulls(paper, demo):
    assert len(paper.experiments) == 11 + 8
    assert paper.experiments["supp_mrf"]["figure"] == "supp"
    config = {**demo.config, "experiments": {**demo.config["experiments"], "fig5_tumour": None}}
    assert "fig5_tumour" not in Catalogue(config, {}, demo.root).experiments


def test_folds_and_methods(paper, demo):
    assert paper.folds("fig3_beads") == [f"fold{n}" for n in range(10)]
    assert demo.folds("fig3_beads") == ["fold0", "fold1"]
    assert paper.folds("fig4_neurons") == ["all"]
    assert paper.methods_of("supp_mrf") == ["tenet"]
    assert paper.methods_of("fig2_phantoms") == paper.config["methods"]
    assert demo.owner_of_model("fig2_angle00") == "fig2_phantoms"
    assert paper.owner_of_model("fig2_angle00") == "fig2_phantoms"
    assert paper.evaluated_by("cells") == ["fig5_microglia"]


def test_sets_of_phantoms_have_seeds_of_their_own(paper):
    seeds = {paper.seed(name) for name in paper.config["phantoms"]}
    assert len(seeds) == len(paper.config["phantoms"])
    assert paper.seed("training") == paper.seed("training")


def test_wrong_configuration_and_experiments_end_in_one_line(paper):
    with pytest.raises(WorkflowError, match="unknown key 'methds'; did you mean 'methods'"):
        Catalogue.load({**paper.config, "methds": []}, paper.root)
    with pytest.raises(WorkflowError, match="no experiment 'scale33'"):
        resolved(paper, "scale33")


# Phantoms -----------------------------------------------------------------------------------------


def test_commands_that_draw_phantoms(paper, demo):
    assert phantoms.phantom_command(demo, "fig2_angle45") == [
        *("angle", "--size", "120", "64", "64", "--angle", "45", "--lines", "14"),
        *("--draw", "0", "--draw", "1", "--seed", str(demo.seed("fig2_angle45"))),
    ]
    tissue = phantoms.phantom_command(demo, "fig4_neurons")
    assert tissue[:5] == ["tissue", "neurons", "fig4_neurons", "--overlay", "demo"]
    assert phantoms.phantom_command(paper, "training")[:2] == ["training", "scale3"]
    held_out = phantoms.phantom_command(paper, "tuning")
    assert "simulation_data_generation.image_size=[240, 240, 240]" in held_out
    with pytest.raises(WorkflowError, match="no set of phantoms 'nothing'"):
        phantoms.phantom_command(paper, "nothing")


def test_own_phantoms_are_files(demo, tmp_path):
    sets = {**demo.config["phantoms"], "training": {"kind": "import", "folder": str(tmp_path)}}
    catalogue = Catalogue({**demo.config, "phantoms": sets}, {}, demo.root)
    assert phantoms.phantom_command(catalogue, "training") == ["import", str(tmp_path)]
    with pytest.raises(WorkflowError, match=f"there are no .npz files in {tmp_path}"):
        phantoms.own_phantoms(catalogue, "training")
    (tmp_path / "b.npz").touch()
    (tmp_path / "a.npz").touch()
    found = phantoms.own_phantoms(catalogue, "training")
    assert found == [f"{tmp_path}/a.npz", f"{tmp_path}/b.npz"]
    assert phantoms.own_phantoms(demo, "training") == []


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (4, 2), (64, 7)])
def test_drawing_takes_half_the_cores_and_seven_at_most(paper, cores, workers):
    assert phantoms.phantom_workers(paper, "training", cores) == workers
    assert phantoms.phantom_workers(paper, "tuning", cores) == min(workers, 4)
    assert phantoms.phantom_workers(paper, "fig2_angle00", cores) == 1


# Raw stacks ---------------------------------------------------------------------------------------


def test_stacks_come_from_the_record_or_are_simulated(paper, demo):
    assert stacks.acquisitions(paper, "fig3_beads") == "<zenodo>/beads.sha256"
    assert stacks.acquisitions(demo, "fig3_beads") == "<results>/acquisitions/fig3_beads.sha256"
    assert stacks.acquisitions(demo, "supp_mrf") == "<results>/acquisitions/fig3_beads.sha256"
    registered = "supp_motion_registered"
    assert stacks.acquisitions(demo, registered) == f"<results>/registered/{registered}.sha256"
    assert stacks.taken(demo, registered) == "<results>/acquisitions/supp_motion_none.sha256"
    assert stacks.phantoms_of(demo, "supp_mrf") == "<results>/phantoms/fig3_beads.sha256"


def test_methods_learn_from_stacks_with_noise(paper, demo):
    sums = "r/fig2_phantoms.sha256"
    assert stacks.noisy_folder(demo, "fig2_phantoms", sums) == "r/fig2_phantoms/noise"
    assert stacks.stack_folder(demo, "fig2_phantoms", sums) == "r/fig2_phantoms"
    for folder in (stacks.noisy_folder, stacks.stack_folder):
        assert folder(demo, "fig3_beads", "r/x.sha256") == "r/x/noise"
        assert folder(paper, "fig3_beads", "z/beads.sha256") == "z/beads"


def test_a_command_is_confined_to_beads_of_a_fold(paper, demo):
    assert stacks.image_options(paper, "fig5_tumour", "z.sha256") == []
    assert stacks.image_options(demo, "fig5_tumour", "z.sha256") == []
    rois = ["--rois", "resources/bead_rois.csv"]
    assert stacks.image_options(paper, "fig3_beads", "z.sha256") == rois
    assert stacks.image_options(paper, "fig3_beads", "z.sha256", "fold7") == [*rois, "--fold", "7"]
    assert stacks.image_options(demo, "fig3_beads", "z.sha256") == ["--rois", "z/rois.csv"]


def test_what_a_model_is_not_told_is_told_the_simulation(demo):
    assert stacks.simulate_options(demo, "fig3_beads") == [
        *("--set", "params.NA=0.6", "--set", "params.pZ=2", "--motion", "0.2", "--folds", "2")
    ]
    assert "--no-noise-part" in stacks.simulate_options(demo, "fig2_phantoms")


def test_a_mirror_of_the_record_is_set_by_configuration_or_environment(paper, monkeypatch):
    monkeypatch.delenv("TENET_ZENODO_URL", raising=False)
    assert stacks.mirror_option(paper) == []
    monkeypatch.setenv("TENET_ZENODO_URL", "https://example.org/copy")
    assert stacks.mirror_option(paper) == ["--mirror", "https://example.org/copy"]


# Words and machines -------------------------------------------------------------------------------


def test_words_of_commands():
    assert repeated("--fold", [1, "2"]) == ["--fold", "1", "--fold", "2"]
    assert assignments({"a.b": [1, None], "c": "d"}) == ["--set", "a.b=[1, null]", "--set", 'c="d"']
    assert without_suffix("a/b.sha256") == "a/b"
    assert names(["a", "b"]) == "a|b"
    assert names([]) == "(?!)"


@pytest.mark.parametrize(
    ("machine", "training", "inference"),
    [
        (Machine(cores=2, cpu_only=True), 1, 1),
        (Machine(cores=16, cpu_only=True), 8, 4),
        (Machine(cores=1, cpu_only=True), 1, 1),
        (Machine(cores=64, cpu_only=False), 4, 4),
    ],
)
def test_two_trainings_run_at_once_on_the_cpu(machine, training, inference):
    assert (machine.training_threads, machine.inference_threads) == (training, inference)


@pytest.mark.parametrize(
    ("asked", "gpus", "jobs_per_gpu", "limit"),
    [
        (None, 0, 2, 0),
        (1, 0, 2, 0),
        (None, 1, 1, 1),
        (1, 1, 2, 2),  # one GPU, and two jobs on it
        (None, 2, 3, 6),
        (1, 4, 2, 2),
        (8, 4, 1, 4),
        (0, 4, 2, 0),
    ],
)
def test_no_more_gpu_jobs_run_than_its_gpus_take(asked, gpus, jobs_per_gpu, limit):
    assert gpu_limit(asked, gpus, jobs_per_gpu) == limit
