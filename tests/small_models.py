"""Models that are small, and what they make of a stack known."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.io.writing import write_ome_tiff
from tenet.model.store import Calibration
from tenet.model.tenet import TENET
from tenet.model.trained import TrainedModel
from tenet.settings.schema import parse_experiment

#: How steep the transparent network is.
GAIN = 12.0
MICROSCOPE: dict[str, Any] = {
    "NA": 0.7,
    "wavelength": 0.9,
    "res_lateral": 0.1,
    "res_axial": 0.4,
    "blur_mode": "gaussian",
    "bet_z": 1.5,
    "bet_xy": 2.0,
    "size_z": 24,
    "size_y": 9,
    "size_x": 9,
    "psf_sampling": "continuous",
}
#: Settings of a model of every microscope; it trains in seconds on the fixture `phantom_folder`.
EVERY: dict[str, Any] = {
    "name": "every",
    "params": {
        "network": "cells", "NA": 0.8, "wavelength": 0.92, "photons": 2, "fill": 0.7,
        "res_lateral": 0.12, "res_axial": 0.36, "scale": 3, "psf_light": 0.95,
        "size_z": 31, "size_y": 9, "size_x": 9, "hidden_channels_list": [4, 8], "nblocks": 1,
        "dropout": 0.0, "psf_sampling": "continuous", "deconvolution_steps": 4, "early_steps": 2,
        "noise": "consistent", "poisson_weight": 0.05, "sig_eps": 0.02, "choose_threshold": True,
    },
    "microscopes": {
        "count": 4, "free": {"scales": [1, 2, 3, 4, 6], "pixels": [1.5, 3], "planes": [0.8, 10]},
    },
    "pretrain_dataset": {"cropsize": [12, 16, 16], "I": 4, "low": 0, "high": 2},
    "pretrain_val_dataset": {"cropsize": [12, 16, 16], "I": 2, "low": 2, "high": 3},
    "pretrain_loop": {"n_epochs": 1, "lr": 0.01, "batch_size": 1, "warmup_epochs": 0},
    "train_dataset": {"cropsize": [12, 16, 16], "I": 2, "normalisation": "percentile"},
    "val_dataset": {"cropsize": [12, 16, 16], "I": 2},
    "train_loop": {"ewc_batches": 1},
}  # fmt: skip


def experiment(**params: Any) -> Any:
    settings = {"scale": 4, "hidden_channels_list": [4, 8], "nblocks": 1, **MICROSCOPE, **params}
    crop = {"cropsize": [48, 16, 16]}
    sections = ("pretrain_dataset", "pretrain_val_dataset", "train_dataset", "val_dataset")
    return parse_experiment(
        {
            "name": "tiny",
            "params": settings,
            **dict.fromkeys(sections, crop),
            "visualization": {"z_stack": 4, "x_slice": 20, "mip": 3},
        }
    )


def random_model(**params: Any) -> TENET:
    torch.manual_seed(0)
    model = TENET(experiment(**params).params).eval()
    with torch.no_grad():
        for name, weight in model.encoder.named_parameters():
            if weight.ndim > 1 and "head" not in name:
                weight.mul_(1.5)  # livelier than the initialisation, so that seams would show
    return model


def transparent_model(**params: Any) -> TENET:
    """A network that shows its own input: shape = sigmoid(GAIN (hill(upsampled) - ½))."""
    model = TENET(experiment(**params).params).eval()
    encoder = model.encoder
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.zero_()
                assert module.bias is not None
                module.bias.zero_()
        encoder.stem.weight[0, 0, 3, 3, 3] = 1
        for head, gain in ((encoder.shape_head, GAIN), (encoder.brightness_head, GAIN / 2)):
            head[-1].weight[0, 0, 1, 1, 1] = gain
            head[-1].bias.fill_(-gain / 2)
    return model


def trained(network: TENET, calibration: Calibration | None = None) -> TrainedModel:
    return TrainedModel(Path("model"), network, experiment(), calibration)


def stack_of(
    folder: Path, image: np.ndarray, voxel_size_um=(0.4, 0.1, 0.1), name="00.ome.tif"
) -> Stack:
    write_ome_tiff(folder / name, image.astype(np.float32), voxel_size_um)
    return open_stack(folder / name)
