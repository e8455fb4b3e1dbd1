"""An experiment: all sections together."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from tenet.errors import TenetError
from tenet.settings.published import (
    PublishedExperiment,
    PublishedParams,
    without_published,
)
from tenet.settings.ranges import MOST_FREE, check_activity, check_network, check_psfs
from tenet.settings.schema.data import (
    Dataset,
    Microscopes,
    PhantomDataset,
    PhantomSet,
    PhantomValidation,
    RawDataset,
    RawValidation,
    TestDataset,
    Vibration,
    Visualization,
)
from tenet.settings.schema.params import ModelParams
from tenet.settings.schema.training import AlignParams, PretrainLoop, TrainLoop
from tenet.settings.sections import Section, as_json, validated, without_comments

DATASETS = ("pretrain_dataset", "pretrain_val_dataset", "train_dataset", "val_dataset")


class Experiment(Section):
    """One experiment, with all settings of a training or an inference."""

    name: str = Field(
        examples=["name of the file"],
        description="Name of the experiment, for messages and tables.",
    )
    explanation: str = Field(default="", description="Purpose of the experiment, in one line.")
    pretrained_model: str = Field(
        default="",
        description="Name of the experiment whose pre-trained model fine-tuning starts from.",
    )
    params: ModelParams = Field(description="The network, the microscope and the noise.")
    pretrain_dataset: PhantomDataset = Field(
        default=PhantomDataset(), description="Crops of phantoms to train on."
    )
    pretrain_val_dataset: PhantomValidation = Field(
        default=PhantomValidation(I=20, low=16, high=20, seed=907),
        description="Crops of phantoms to validate on.",
    )
    pretrain_loop: PretrainLoop = Field(
        default=PretrainLoop(), description="Pre-training on phantoms."
    )
    simulation_data_generation: PhantomSet = Field(
        default=PhantomSet(), description="The phantoms for pre-training."
    )
    train_dataset: RawDataset = Field(
        default=RawDataset(), description="Crops of raw stacks to learn from."
    )
    val_dataset: RawValidation = Field(
        default=RawValidation(I=20, seed=723), description="Crops of raw stacks to validate on."
    )
    test_dataset: TestDataset = Field(
        default=TestDataset(), description="Images that training never sees."
    )
    vibration: Vibration = Field(
        default=Vibration(), description="Ranges of the z-stack misalignment."
    )
    microscopes: Microscopes = Field(
        default=Microscopes(), description="Microscopes that blur the phantoms of pre-training."
    )
    train_loop: TrainLoop = Field(default=TrainLoop(), description="Fine-tuning on raw stacks.")
    align_params: AlignParams | None = Field(
        default=None, description="The network that aligns planes before the encoder; null: none."
    )
    visualization: Visualization = Field(
        default=Visualization(), description="Pictures of the Python classes."
    )

    def effective(self) -> dict[str, Any]:
        """The settings that decide the result of a training or an inference, as JSON has them.

        Words for people are left out, and settings that the Python classes of `tenet.paper.legacy`
        alone read. An experiment holds no keys of published files without effect.
        """
        idle: dict[str, Any] = {
            "explanation": True,
            "visualization": True,
            "train_dataset": {"folderpath"},
        }
        return self.model_dump(mode="json", exclude=idle)

    @model_validator(mode="after")
    def _crops_fit(self) -> "Experiment":
        params = self.params
        for section in DATASETS:
            dataset: Dataset = getattr(self, section)
            if any(n % d for n, d in zip(dataset.cropsize, params.divisor_zyx, strict=True)):
                raise ValueError(
                    f"{section}.cropsize {dataset.cropsize} does not fit: it must be divisible "
                    f"by {params.divisor_zyx} for scale {params.scale} and "
                    f"{len(params.hidden_channels_list)} levels"
                )
            self._check_activity(section, dataset)
        own = self.align_params and self.align_params.hidden_channels_list
        if own and len(own) > len(params.hidden_channels_list):
            raise ValueError(
                f"align_params.hidden_channels_list has {len(own)} levels; at most as many as the "
                f"encoder's {len(params.hidden_channels_list)} fit its crops"
            )
        if self.align_params:
            channels = own or params.hidden_channels_list
            check_network("align_params.", channels, self.align_params.nblocks or params.nblocks)
        sizes = (params.size_z, params.size_y, params.size_x)
        check_psfs(self.microscopes.count, MOST_FREE if self.microscopes.free else sizes)
        self._check_free()
        return self

    def _check_free(self) -> None:
        """Refuse microscopes of every scale for a network or a PSF of one."""
        if self.microscopes.free is None:
            return
        needed = {"network": "cells", "psf_sampling": "continuous", "blur_mode": "gibsonlanni"}
        for name, value in needed.items():
            if getattr(self.params, name) != value:
                raise ValueError(f'microscopes.free needs params.{name} "{value}"')
        if not self.params.deconvolution_steps:
            raise ValueError("microscopes.free needs params.deconvolution_steps of 1 or more")
        index = min(self.params.ni, self.params.ni0)
        if self.microscopes.free.apertures[1] >= index:
            raise ValueError(
                f"microscopes.free.apertures must end below the immersion index {index:g}"
            )
        most = max(self.microscopes.free.scales)
        for section in ("pretrain_dataset", "pretrain_val_dataset"):
            dataset: PhantomDataset = getattr(self, section)
            if dataset.margin[0]:
                raise ValueError(f"microscopes.free needs a margin of 0 along z in {section}")
            if dataset.cropsize[0] < most:
                raise ValueError(
                    f"{section}.cropsize has {dataset.cropsize[0]} fine planes, and "
                    f"microscopes.free.scales reach to {most}"
                )
        if self.microscopes.count == 0:
            raise ValueError("microscopes.free needs a microscopes.count of 1 or more")

    def _check_activity(self, section: str, dataset: Dataset) -> None:
        """Refuse crops whose first level no memory holds."""
        params, crop = self.params, list(dataset.cropsize)
        loop = self.pretrain_loop if section.startswith("pretrain") else self.train_loop
        if isinstance(dataset, PhantomDataset):
            crop = [n + 2 * margin for n, margin in zip(crop, dataset.margin, strict=True)]
        if params.network == "coarse":
            crop[0] = -(-crop[0] // params.scale)
        check_activity(section, crop, loop.batch_size, params.hidden_channels_list[0])


def parse_experiment(data: Mapping[str, Any], *, where: str = "settings") -> Experiment:
    """Check a nested mapping and make it an `Experiment`; `where` names it in errors.

    Keys of published files without effect are checked, and left out.
    """
    data, published = without_published(without_comments(as_json(data, where)), PublishedExperiment)
    old = validated(PublishedExperiment, published, where)
    experiment = validated(Experiment, data, where)
    for section in DATASETS:
        scale = getattr(old, section).scale
        if scale not in (None, experiment.params.scale):
            raise TenetError(
                f"{where}: {section}.scale {scale} is not params.scale {experiment.params.scale}"
            )
    return experiment


def parse_params(data: Mapping[str, Any], *, where: str = "params") -> ModelParams:
    """Check a `params` section alone."""
    data, published = without_published(without_comments(as_json(data, where)), PublishedParams)
    validated(PublishedParams, published, where)
    return validated(ModelParams, data, where)
