"""Which model starts from which, and what samples of one's own are trained on."""

import pytest
from snakemake.exceptions import WorkflowError

from workflow.lib import models
from workflow.lib.catalogue import Catalogue


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
