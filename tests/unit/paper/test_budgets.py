"""How the methods of a table were trained, in words."""

from tenet.paper.evaluate.budgets import budgets
from tenet.settings.load import load_experiment

RLTV = {"iterations": [20, 40], "tv_weights": [0.1]}
BASELINES = {
    "care": {"n_epochs": 4, "steps_per_epoch": 40, "batch_size": 8},
    "neuroclear": {"n_epochs": 3, "steps_per_epoch": 30},
}


def experiment(epochs, crops):
    parts = ("pretrain", "train")
    loops = {f"{part}_loop": {"n_epochs": epochs, "es_patience": None} for part in parts}
    return load_experiment(
        "scale3", settings=loops | {f"{part}_dataset": {"I": crops} for part in parts}
    )


def test_budgets_are_crops_and_steps():
    tuned, before = experiment(2, 10), experiment(3, 100)
    said = budgets({"tenet": (tuned, before, False)}, RLTV, BASELINES)
    assert said == {
        "tenet": "pre-trained on 300 crops of phantoms; fine-tuned on 20 crops of raw stacks",
        "pretrained": "pre-trained on 300 crops of phantoms",
        "box": "came trained, for every microscope; PSF and noise found in raw stacks",
        "rltv": "[20, 40] iterations and weights [0.1] tried on held-out phantoms",
        "rltv_paper": "settings of the paper; threshold on held-out phantoms",
        "care": "trained for 160 steps of 8",
        "neuroclear": "trained for 90 steps, again if results do not show what the image shows",
    }


def test_published_trainings_have_words_of_their_own():
    tuned, before = experiment(2, 10), experiment(3, 100)
    published = load_experiment("scale3", overlays=["as_published"])
    trained = {"tenet": (tuned, before, True), "tenet_published": (published, published, True)}
    said = budgets(trained, RLTV, BASELINES)
    assert said["tenet"].endswith("fine-tuned on 20 crops of images of phantoms")
    assert said["tenet_published"] == (
        "pre-trained on up to 20000 crops of phantoms; "
        "fine-tuned on up to 20000 crops of images of phantoms; "
        "threshold fixed at 0.5; intensities scaled from the least to the greatest"
    )
