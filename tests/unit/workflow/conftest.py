"""The configuration of the project, of the demo and of samples, as the rules have them."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from tifffile import imwrite

from workflow.lib.catalogue import Catalogue

ROOT = Path(__file__).parents[3]


def merged(base, over):
    """As Snakemake merges configuration files."""
    both = dict(base)
    for key, value in over.items():
        known = both.get(key)
        nested = isinstance(value, dict) and isinstance(known, dict)
        both[key] = merged(known, value) if nested else value
    return both


def read_config(*names):
    config = {}
    for name in names:
        config = merged(config, yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()))
    return config


@pytest.fixture(scope="session")
def paper():
    """The catalogue of the paper at full scale."""
    return Catalogue.load(read_config("config"), ROOT)


@pytest.fixture(scope="session")
def demo():
    """The catalogue of the demo."""
    return Catalogue.load(read_config("config", "demo"), ROOT)


@pytest.fixture
def own(tmp_path):
    """A catalogue with two samples of a stack: `mine` with optics, `theirs` with an experiment.

    A model is trained for each.
    """
    stack = tmp_path / "a stack.tif"
    imwrite(stack, np.arange(60 * 48 * 48, dtype=np.float32).reshape(60, 48, 48))
    table = tmp_path / "samples.tsv"
    table.write_text(
        "name\tfile\tvoxel_z_um\tvoxel_y_um\tvoxel_x_um\texperiment\tNA\twavelength\tni\n"
        f"mine\t{stack}\t1\t0.12\t0.12\t\t0.8\t0.92\t1.33\n"
        f"theirs\t{stack}\t1\t0.1\t0.1\tfig3_beads\n"
    )
    trained = {"samples": str(table), "sample": {"pretrained": ""}}
    config = merged(read_config("config", "demo"), trained)
    return Catalogue.load(config, ROOT)
