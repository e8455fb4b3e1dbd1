"""Every experiment of the paper with all published settings, and nothing of the better recipe."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenet.settings.load import EXPERIMENTS, PACKAGED, load_experiment
from tenet.settings.schema import Experiment

ROOT = Path(__file__).parents[3]
SCALES = ("scale3", "scale10", "scale12", "gaussian10")
OF_PAPER = sorted(
    path.stem for path in (ROOT / EXPERIMENTS).glob("*.json") if path.stem[:3] in ("fig", "sup")
)
#: What JNet_beads.json leaves to the code that reads it, and words of its own.
NOT_IN_THE_FILE = {
    "name",
    "pretrained_model",
    "params.attn_list",  # none, in other words
    "params.apply_vq",  # false in the file, and the paper describes it
    "params.use_x_quantized",
    "pretrain_loop.loss_fnx",  # "nn.BCELoss()", another name of bce
    "pretrain_loop.loss_fnz",
    "test_dataset.test_images",
    "train_loop.gradient_norm",
    "train_loop.warmup_epochs",
    "val_dataset.mask_num",  # of a mask that is off
}


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def as_published(name: str) -> Experiment:
    return load_experiment(name, overlays=["as_published"], folder=ROOT / EXPERIMENTS)


@pytest.fixture(scope="module")
def published_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiments in a folder where `default` is the published settings and nothing else."""
    folder = tmp_path_factory.mktemp("published")
    for path in (*PACKAGED.glob("*.json"), *(ROOT / EXPERIMENTS).glob("*.json")):
        content = json.loads(path.read_text().replace('"default"', '"published"'))
        if content.get("train_dataset", {}).get("normalisation") == "none":
            content["train_dataset"]["normalisation"] = "minmax"
        (folder / path.name).write_text(json.dumps(content))
    (folder / "default.json").unlink()
    return folder


@pytest.mark.parametrize("name", [*SCALES, *OF_PAPER])
def test_settings_are_those_of_published_and_optics_alone(name: str, published_alone: Path) -> None:
    alone = load_experiment(name, folder=published_alone)
    assert dict(flat(as_published(name).effective())) == dict(flat(alone.effective()))


@pytest.mark.parametrize("name", [*SCALES, *OF_PAPER])
def test_nothing_of_the_better_recipe_is_on(name: str) -> None:
    chosen = as_published(name)
    params, before, after = chosen.params, chosen.pretrain_loop, chosen.train_loop
    assert params.network == "jnet"
    assert (params.hidden_channels_list, params.nblocks) == ((16, 32, 64, 128, 256), 2)
    assert (params.dropout, params.threshold, params.choose_threshold) == (0.5, 0.5, False)
    assert (params.deconvolution_steps, params.psf_sampling, params.noise) == (
        *(0, "lookup", "published"),
    )
    for loop in (before, after):
        assert (loop.optimizer, loop.lr, loop.schedule) == ("adam", 1e-3, "plateau")
        assert (loop.batch_size, loop.accumulate, loop.n_epochs) == (1, 1, 100)
        assert (loop.ema_decay, loop.precision, loop.es_patience) == (None, "float32", 10)
    assert (before.loss_fnx, before.loss_fnz) == ("bce", "bce")
    assert after.gradient_norm == 1.0
    assert (after.rehearsal_weight, after.freeze_norm, after.adjust_luminance) == (0, False, False)
    assert (after.psf_lr, after.stretch_lr, after.scan_stretch) == (None, None, False)
    assert chosen.microscopes == type(chosen.microscopes)()
    assert chosen.train_dataset.normalisation == "minmax"
    assert chosen.pretrain_dataset.margin == chosen.pretrain_val_dataset.margin == (0, 0, 0)


def test_beads_have_the_settings_of_the_published_file(shared: Path) -> None:
    file = load_experiment(shared / "reference/JNet_beads.json")
    theirs, ours = dict(flat(file.effective())), dict(flat(as_published("fig3_beads").effective()))
    assert {key for key in ours if ours[key] != theirs[key]} <= NOT_IN_THE_FILE
    assert file.params.threshold == ours["params.threshold"]
