"""A small stack to try TENET with, simulated when it is opened."""

import numpy as np
import torch
from numpy.typing import NDArray

from tenet.data.phantoms.kinds import TrainingPhantomSettings
from tenet.data.phantoms.mixture import MixturePhantomSettings
from tenet.data.simulate import GAIN, OFFSET, true_microscope
from tenet.io.optics import Optics
from tenet.napari.layers import KEY, LayerData, placed
from tenet.settings.load import load_experiment
from tenet.settings.own_stack import sample_experiment
from tenet.types import Triple, VoxelSize

#: Voxels, optics, planes, rows and columns of the sample.
VOXEL_SIZE_UM: VoxelSize = (0.8, 0.2, 0.2)
OPTICS = Optics(na=0.7, wavelength_um=0.92, immersion_index=1.33, photons=2)
#: The NA that the sample is simulated with; `OPTICS` has the one on the objective.
TRUE_NA = 0.6
ZYX_SHAPE: Triple = (24, 128, 128)
#: Dendrites and axons.
OBJECTS = 6
NAME = "simulated dendrites"


def simulated_stack(zyx_shape: Triple = ZYX_SHAPE, seed: int = 0) -> NDArray[np.uint16]:
    """Camera counts (Z, Y, X) of drawn dendrites and axons, seen by a two-photon microscope.

    Parameters
    ----------
    zyx_shape : tuple of int
        Planes, rows and columns, of `VOXEL_SIZE_UM`.
    seed : int
        Of the drawing and of the noise.
    """
    params = sample_experiment(
        load_experiment("sample"), VOXEL_SIZE_UM, where=NAME, na=TRUE_NA,
        wavelength_um=OPTICS.wavelength_um, immersion_index=OPTICS.immersion_index,
        photons=OPTICS.photons,
    ).params  # fmt: skip
    planes, rows, columns = zyx_shape
    volume = TrainingPhantomSettings(
        zyx_shape=(planes * params.scale, rows, columns), n_objects=(OBJECTS, OBJECTS)
    )
    drawn = MixturePhantomSettings(
        volume, params.fine_voxel_size_um, {"dendrite": 2, "axon": 1}, brightness_decades=0.5
    ).draw(np.random.default_rng(seed))
    with torch.no_grad():
        light = torch.from_numpy(drawn.brightness)[None, None]
        image = true_microscope(params).acquire(light, torch.Generator().manual_seed(seed))
    return np.rint(OFFSET + GAIN * image[0, 0].numpy()).astype(np.uint16)


def sample() -> list[LayerData]:
    """The sample as a layer, with its voxel size in µm and its optics."""
    metadata = {KEY: {"simulated": True, "optics": OPTICS}}
    return [
        (simulated_stack(), {"name": NAME, "metadata": metadata, **placed(VOXEL_SIZE_UM)}, "image")
    ]
