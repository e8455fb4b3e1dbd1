"""Which model starts from which, and what samples of one's own are trained on."""

from pathlib import Path

import pytest
from snakemake.exceptions import WorkflowError

from tenet.model.shipped import shipped_model
from tenet.settings.load import load_experiment
from workflow.lib import figures, models, samples
from workflow.lib.catalogue import Catalogue, resolved


def test_pretrained_models(paper, demo):
    assert models.pretrained_of(paper, "fig3_beads") == "scale10"
    assert models.pretrained_of(paper, "supp_motion_aligned") == "scale3_align"
    assert models.pretrained_of(paper, "scale3_align") == "scale3"
    assert models.pretrained_of(paper, "scale3") == "scale3"
    assert models.aligned_models(paper) == ["scale3_align"]
    assert models.training_set(paper, "scale10", "tuning") == "<results>/phantoms/tuning.sha256"
    assert models.training_set(demo, "scale10", "tuning") == "<results>/phantoms/tuning10.sha256"
    with pytest.raises(WorkflowError, match="no pre-trained model 'scale7'"):
        models.training_set(paper, "scale7", "phantoms")
    files = models.pretrained_files(paper, "fig5_tumour", "model.pt", "fisher.pt")
    folder = "<results>/models/scale12"
    assert files == [f"{folder}/model.pt", f"{folder}/fisher.pt"]


def test_a_model_that_the_configuration_lacks_is_named_before_anything_runs(paper, own):
    models.check_models(paper)
    models.check_models(own)
    without = {k: v for k, v in paper.config["pretrained"].items() if k != "scale12"}
    lacking = Catalogue({**paper.config, "pretrained": without}, {}, paper.root)
    with pytest.raises(WorkflowError, match=r"fig5_microglia starts from .* model scale12"):
        models.check_models(lacking)


def test_a_pretraining_begins_with_the_model_that_it_names(paper):
    names = ["<results>/models/box/model.pt", "<results>/models/box/experiment.json"]
    assert models.start_of(paper, "box_one_photon") == names
    assert models.start_option(names) == ["--start", "<results>/models/box"]
    for model in ("box", "scale10", "published/scale10", "shared/na0.8", "/elsewhere"):
        assert models.start_of(paper, model) == []
    assert models.start_option([]) == []


def test_what_fine_tuning_learns_from(paper, demo):
    assert models.finetune_options(paper, "fig2_angle00", [], "all") == ["--simulation"]
    assert models.finetune_data(paper, "fig2_angle00") == []
    beads = models.finetune_options(paper, "fig3_beads", "z/beads.sha256", "fold3")
    rois = ["--rois", "resources/bead_rois.csv", "--fold", "3"]
    assert beads == ["--data", "z/beads", *rois]
    assert models.train_option(demo, "fig3_beads") == ["--train", "all"]
    assert models.train_option(paper, "fig3_beads") == ["--train", "old"]


def test_predictions_are_by_method_and_by_fold_for_beads(demo):
    beads = "<results>/predictions/fig3_beads"
    assert models.predictions(demo, "fig3_beads") == [
        f"{beads}/tenet/fold0.sha256",
        f"{beads}/tenet/fold1.sha256",
        f"{beads}/tenet_published/fold0.sha256",
        f"{beads}/tenet_published/fold1.sha256",
        f"{beads}/pretrained/all.sha256",
        f"{beads}/rltv/all.sha256",
        f"{beads}/rltv_paper/all.sha256",
        *(f"{beads}/{m}/fold{n}.sha256" for m in ("care", "neuroclear") for n in (0, 1)),
    ]
    motion = models.predictions(demo, "supp_motion_none")
    folder = "<results>/predictions/supp_motion_none"
    assert motion == [f"{folder}/tenet.sha256", f"{folder}/pretrained.sha256"]


def test_folders_of_models(demo):
    folder = models.model_folder(demo, "fig2_angle45", "tenet", "")
    assert folder == "<results>/models/fig2_phantoms/all"
    assert models.model_folder(demo, "fig3_beads", "tenet", "fold1").endswith("fig3_beads/fold1")
    assert models.model_folder(demo, "fig3_beads", "pretrained", "all").endswith("models/scale10")
    folder = models.baseline_folder(demo, "fig2_angle45", "care", "")
    assert folder == "<results>/baselines/care/fig2_phantoms/all"
    assert models.baseline_folder(demo, "fig3_beads", "care", "/fold1").endswith("/fold1")


def test_the_model_of_every_microscope_is_told_what_an_experiments_own_model_is_told(paper):
    folder = models.model_folder(paper, "fig2_angle45", "box", "")
    assert folder == "<results>/models/served/fig2_phantoms"
    assert models.model_folder(paper, "fig3_beads", "box", "/all").endswith("served/fig3_beads")
    own = models.files_of_box()
    assert Path(own[0]) == shipped_model() / "model.pt"
    assert [Path(path).parent.name for path in own].count("tuning") == 7
    told = models.box_options(paper, "fig3_beads")
    params = resolved(paper, "fig3_beads").params
    assert told[:4] == ["--voxel-size", "0.5", "0.05", "0.05"]
    options = dict(zip(told[4::2], told[5::2], strict=True))
    assert float(options["--na"]) == params.NA
    assert float(options["--immersion"]) == min(params.ni, params.ni0)
    assert options["--photons"] == str(params.photons)
    compared = {**paper.config, "methods": ["tenet", "box", "care"]}
    both = Catalogue(compared, {}, paper.root)
    beads = "<results>/predictions/fig3_beads"
    runs = models.predictions(both, "fig3_beads")
    assert f"{beads}/box/all.sha256" in runs  # nothing of it depends on the fold
    words = figures.budget_options(both, "fig3")[1::2]
    assert [word.split("=")[0] for word in words] == ["tenet", "box", "care"]


# As published -------------------------------------------------------------------------------------


def test_models_with_the_published_settings_have_paths_of_their_own(paper, demo):
    folder = "<results>/models/published"
    assert models.pretrained_of(paper, "published/fig3_beads") == "published/scale10"
    assert models.pretrained_of(paper, "published/scale10") == "published/scale10"
    beads = models.model_folder(paper, "fig3_beads", "tenet_published", "/fold3")
    assert beads == f"{folder}/fig3_beads/fold3"
    angle = models.model_folder(demo, "fig2_angle45", "tenet_published", "")
    assert angle == f"{folder}/fig2_phantoms/all"
    assert models.starting_point(paper, "published/fig3_beads") == [
        f"{folder}/scale10/{file}"
        for file in ("model.pt", "experiment.json", "threshold.json", "optimiser.pt", "fisher.pt")
    ]
    sets = models.training_set(demo, "published/scale10", "tuning")
    assert sets == models.training_set(demo, "scale10", "tuning")


def test_they_learn_from_the_same_stacks_with_other_settings(paper, demo):
    path, ours = "published/fig3_beads", "fig3_beads"
    for catalogue in (paper, demo):
        assert models.finetune_data(catalogue, path) == models.finetune_data(catalogue, ours)
        assert models.finetune_rois(catalogue, path) == models.finetune_rois(catalogue, ours)
        assert models.train_option(catalogue, path) == ["--train", "old"]
    told = models.finetune_options(paper, path, "z/beads.sha256", "fold3")
    assert told == models.finetune_options(paper, ours, "z/beads.sha256", "fold3")
    words = samples.experiment_argument(demo, path, [])
    assert words == ["fig3_beads", "--overlay", "demo", "--overlay", "as_published_demo"]
    assert samples.experiment_argument(paper, path, []) == [ours, "--overlay", "as_published"]
    for experiment, scaled in (("fig3_beads", "percentile"), ("fig2_phantoms", "none")):
        assert models.normalisation(paper, experiment) == ["--normalisation", scaled]
        published = models.normalisation(paper, experiment, "tenet_published")
        assert published == ["--normalisation", "minmax"]


@pytest.mark.parametrize("overlay", ["", "demo"])
def test_nothing_of_the_better_recipe_is_left_at_any_scale(paper, demo, overlay):
    """What differs from the published settings in the demo are sizes and numbers of crops."""
    sizes = {
        *(
            "hidden_channels_list",
            "nblocks",
            "size_z",
            "size_y",
            "size_x",
            "res_lateral",
            "res_axial",
        ),
        *("cropsize", "I", "low", "high", "mask_num", "min_foreground", "n_epochs"),
        *("warmup_epochs", "ewc_batches", "image_size", "object_scale", "train_num", "valid_num"),
        *("train_object_num_min", "train_object_num_max"),
    }
    catalogue = demo if overlay else paper
    for name in ("scale3", "scale10", "scale12", "fig2_phantoms", "fig3_beads", "fig5_microglia"):
        settings = resolved(catalogue, f"published/{name}").effective()
        alone = load_experiment(
            name, overlays=["as_published"], folder=paper.root / "config/experiments"
        ).effective()
        differing = {
            key
            for section, values in alone.items()
            if isinstance(values, dict)
            for key in values
            if values[key] != settings[section][key]
        }
        assert differing <= (sizes if overlay else set()), name


def test_one_entry_of_the_list_turns_the_method_off(paper):
    methods = [name for name in paper.config["methods"] if name != "tenet_published"]
    without = Catalogue.load({**paper.config, "methods": methods}, paper.root)
    published = "<results>/predictions/fig3_beads/tenet_published/fold0.sha256"
    assert published in models.predictions(paper, "fig3_beads")
    assert published not in models.predictions(without, "fig3_beads")
    assert not [path for path in figures.histories(without) if "published" in path]


def test_weights_that_are_given_stand_in_for_a_training(paper, tmp_path):
    first, second = str(tmp_path / "a.pt"), str(tmp_path / "b.pt")
    for file in (first, second):
        Path(file).touch()
    given = {"scale10": first, "fig3_beads/fold0": second}
    published = {**paper.config["published"], "weights": given}
    catalogue = Catalogue.load({**paper.config, "published": published}, paper.root)
    assert catalogue.imported("published/scale10") == first
    assert catalogue.imported("scale10") is None
    assert models.imported_models(catalogue) == ["published/scale10", "published/fig3_beads/fold0"]
    assert models.experiment_of_model("published/fig3_beads/fold0") == "published/fig3_beads"
    assert [Path(f).name for f in models.starting_point(catalogue, "published/fig3_beads")] == [
        *("model.pt", "experiment.json", "threshold.json")
    ]
    trained = figures.histories(catalogue)
    for path in ("scale10", "fig3_beads/fold0"):
        assert f"<results>/models/published/{path}/history.csv" not in trained
        assert f"<results>/models/{path}/history.csv" in trained
    assert "<results>/models/published/fig3_beads/fold1/history.csv" in trained
    for name, words in {
        "scal10": "'scale10'",
        "fig3_bead/fold0": "'fig3_beads/fold0'",
        "fig3_beads/all": "'fig3_beads/fold",  # would be ignored, and every fold trained
        "fig3_beads/fold10": "'fig3_beads/fold",
        "fig4_neurons/fold0": "'fig4_neurons/all'",
        "fig5_tumour/all": "unknown model",  # uses the model of the microglia
        "supp_mrf/fold0": "unknown model",  # by TENET alone
        "scale10": "there is no file 'a.pt'",  # would be trained
    }.items():
        wrong = {**paper.config["published"], "weights": {name: "a.pt"}}
        with pytest.raises(WorkflowError, match=f"published: weights: {name}.*{words}"):
            Catalogue.load({**paper.config, "published": wrong}, paper.root)
