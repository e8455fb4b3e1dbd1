"""Keys of published files without effect here. They are read, checked, noted, and left out.

Each class holds the keys without effect of one section, with their types and with the values that
ask for nothing else than what TENET does. `Experiment` does not hold such keys, so that no result
depends on them.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from tenet.settings.ranges import (
    ZYX,
    Count,
    Fraction,
    NotNegative,
    Positive,
    PositiveInt,
    Rate,
    Seed,
    Signed,
)
from tenet.settings.sections import Section, short

#: Published names for what TENET does in any case.
SYNONYMS = ("nn.MSELoss()", "nn.ReLU(inplace=True)", "nn.ReLU()", "params['partial']")

Partial = Literal["encoder", "decoder", "params['partial']"] | None
Normalisation = Literal["none", "minmax", "percentile"]


class PublishedParams(Section):
    """Of `params`: the magnification cancels out, the FFT is always used."""

    activation: Literal["nn.ReLU(inplace=True)", "nn.ReLU()", "relu"] = "relu"
    superres: Literal[True] = True
    partial: Partial = None
    reconstruct: bool = True
    use_fftconv: bool = True
    mu_z: Signed = 1.2
    sig_z: Positive = 0.3
    M: Annotated[float, Field(gt=0, le=1000)] = 20
    background: NotNegative = 0.01
    loss_fn: Literal["nn.MSELoss()", "mse"] = "mse"
    lr: Rate = 1e-2
    device: str = "auto"


class PublishedDataset(Section):
    """Of every data set: what a command is given, or the file of a stack says."""

    labelname: str = "_label"
    size: ZYX | None = None
    scale: PositiveInt | None = None
    train: bool = True
    surround: bool = False
    surround_size: ZYX = (32, 4, 4)


class PublishedPhantomValidation(PublishedDataset):
    """Of `pretrain_val_dataset`: phantoms are scaled already."""

    folderpath: str = ""
    normalisation: Normalisation = "minmax"


class PublishedPhantomDataset(PublishedPhantomValidation):
    """Of `pretrain_dataset`: what is random follows from the seed of the training."""

    seed: Seed = 0


class PublishedRawDataset(PublishedDataset):
    """Of `train_dataset`: all stacks of a folder are used, and all of their light."""

    margin: tuple[Count, Count, Count] = (0, 0, 0)
    low: Count = 0
    high: Count = 16
    min_foreground: Fraction = 0.001
    seed: Seed = 0


class PublishedRawValidation(PublishedDataset):
    """Of `val_dataset`: stacks and their scaling are those of `train_dataset`."""

    folderpath: str = ""
    margin: tuple[Count, Count, Count] = (0, 0, 0)
    low: Count = 0
    high: Count = 16
    min_foreground: Fraction = 0.001
    train: bool = False
    augment: bool = True
    normalisation: Normalisation = "minmax"


class PublishedLoop(Section):
    """Of both loops: folders and what is trained are chosen on the command line.

    `compile` was a key of earlier versions: compiling the encoder gained nothing.
    """

    path: str = "model"
    savefig_path: str = "train"
    partial: Partial = None
    compile: bool = False


class PublishedPretrainLoop(PublishedLoop):
    """Of `pretrain_loop`: nothing was learned before."""

    ewc: Literal[None] = None


class PublishedTrainLoop(PublishedLoop):
    """Of `train_loop`: there is one reconstruction loss, and raw stacks move by themselves.

    `encoder_learns_from` was a key of earlier versions: the encoder learns from raw crops and from
    rehearsal.
    """

    loss_fn: Literal[
        "nn.BCELoss()", "nn.BCEWithLogitsLoss()", "nn.MSELoss()", "bce", "bce_dice", "mse"
    ] = "mse"
    params: str = "params"
    reconstruct: bool = True
    is_instantblur: bool = False
    is_vibrate: bool = False
    mrfloss_order: Literal[1] = 1
    encoder_learns_from: Literal["raw", "rehearsal"] = "raw"


class PublishedPhantomSet(Section):
    """Of `simulation_data_generation`: volumes to validate on are drawn as those to train on."""

    dataset_name: str = "_var_num_realisticdata3"
    valid_object_num_min: PositiveInt = 1500
    valid_object_num_max: PositiveInt = 2500


class PublishedExperiment(Section):
    """The keys without effect of all sections."""

    params: PublishedParams = PublishedParams()
    pretrain_dataset: PublishedPhantomDataset = PublishedPhantomDataset()
    pretrain_val_dataset: PublishedPhantomValidation = PublishedPhantomValidation()
    pretrain_loop: PublishedPretrainLoop = PublishedPretrainLoop()
    simulation_data_generation: PublishedPhantomSet = PublishedPhantomSet()
    train_dataset: PublishedRawDataset = PublishedRawDataset()
    val_dataset: PublishedRawValidation = PublishedRawValidation()
    train_loop: PublishedTrainLoop = PublishedTrainLoop()


def without_published(
    data: Mapping[str, Any], kind: type[Section]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part settings into those with an effect, and the keys of `kind`, at any depth."""
    kept, published = {}, {}
    for key, value in data.items():
        field = kind.model_fields.get(key)
        section = None if field is None else field.annotation
        if field is None:
            kept[key] = value
        elif not (isinstance(section, type) and issubclass(section, Section)):
            published[key] = value
        elif isinstance(value, Mapping):
            kept[key], published[key] = without_published(value, section)
        else:
            kept[key] = value
    return kept, published


def without_effect(data: Mapping[str, Any]) -> list[str]:
    """Settings of an experiment that TENET does not follow, as ``section.key=value``."""
    _, published = without_published(data, PublishedExperiment)
    return list(_asked(published, PublishedExperiment))


def _asked(published: Mapping[str, Any], kind: type[Section], prefix: str = "") -> Iterator[str]:
    for key, field in kind.model_fields.items():
        if key not in published:
            continue
        value, section = published[key], field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            yield from _asked(value, section, f"{key}.")
        # The scale of a data set is checked elsewhere, and is the scale in use.
        elif key != "scale" and value not in SYNONYMS and _differs(value, field.default):
            yield f"{prefix}{key}={short(json.dumps(value), 40)}"


def _differs(value: Any, default: Any) -> bool:
    return bool(value != (list(default) if isinstance(default, tuple) else default))
