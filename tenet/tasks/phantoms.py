"""`tenet phantoms`: sets of structures with known truth, on the grid of an experiment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tenet.data.phantoms.kinds import (
    AnglePhantomSettings,
    BeadsPhantomSettings,
    TrainingPhantomSettings,
)
from tenet.data.phantoms.mixture import MixturePhantomSettings, WorldsPhantomSettings
from tenet.data.phantoms.objects import PhantomSettings
from tenet.data.phantoms.sets import generate_set
from tenet.progress import shown
from tenet.settings.schema import Experiment, PhantomSet
from tenet.types import Triple, VoxelSize


def training_set(
    experiment: Experiment, out: Path, *, count: int | None, workers: int, seed: int
) -> None:
    """Draw the phantoms of an experiment's pre-training, by default as many as its settings say."""
    section = experiment.simulation_data_generation
    number = count or section.train_num + section.valid_num
    settings = training_phantoms(section, experiment.params.fine_voxel_size_um)
    draw_set(settings, out, count=number, workers=workers, seed=seed)


def training_phantoms(
    section: PhantomSet, voxel_size_um: VoxelSize
) -> TrainingPhantomSettings | MixturePhantomSettings | WorldsPhantomSettings:
    """The phantoms that an experiment is pre-trained on, with the voxel size of its fine grid."""
    worlds = [_one_world(world, voxel_size_um) for world in section.each()]
    return worlds[0] if len(worlds) == 1 else WorldsPhantomSettings(tuple(worlds))


def _one_world(
    section: PhantomSet, voxel_size_um: VoxelSize
) -> TrainingPhantomSettings | MixturePhantomSettings:
    base, scale = TrainingPhantomSettings(), section.object_scale
    published = TrainingPhantomSettings(
        zyx_shape=section.image_size,
        n_objects=(section.train_object_num_min, section.train_object_num_max),
        line_fraction=section.line_fraction,
        line_thickness=section.line_thickness,
        line_length=(base.line_length[0] * scale, base.line_length[1] * scale),
        solid_radius=(base.solid_radius[0] * scale, base.solid_radius[1] * scale),
    )
    if section.is_published:
        return published
    lines = section.line_fraction
    return MixturePhantomSettings(
        published,
        voxel_size_um,
        section.objects.shares() or {"line": lines, "solid": 1 - lines},
        brightest=section.brightest,
        brightness_decades=section.brightness_decades,
        neuropil=section.neuropil,
        neuropil_brightness=section.neuropil_brightness,
    )


def angle_set(
    out: Path,
    *,
    angle_deg: float | Literal["random"],
    zyx_shape: Triple,
    n_lines: int,
    draws: Sequence[int],
    workers: int,
    seed: int,
) -> None:
    """Draw straight lines at one angle to the optical axis, a volume for each of `draws`."""
    settings = AnglePhantomSettings(zyx_shape=zyx_shape, n_lines=n_lines, angle_deg=angle_deg)
    draw_set(settings, out, count=len(draws), draws=draws, workers=workers, seed=seed)


def bead_set(
    experiment: Experiment,
    out: Path,
    *,
    zyx_shape: Triple,
    n_beads: int,
    count: int,
    workers: int,
    seed: int,
) -> None:
    """Draw solid beads of 2 µm on the fine grid of an experiment."""
    settings = BeadsPhantomSettings(
        zyx_shape=zyx_shape,
        voxel_size_um=experiment.params.fine_voxel_size_um,
        n_beads=n_beads,
    )
    draw_set(settings, out, count=count, workers=workers, seed=seed)


def draw_set(
    settings: PhantomSettings | WorldsPhantomSettings,
    out: Path,
    *,
    count: int,
    draws: Sequence[int] | None = None,
    workers: int,
    seed: int,
) -> None:
    """Draw and store a set of phantoms, and show the progress; see `generate_set`."""
    with shown("drawing phantoms") as meter:
        generate_set(
            settings, out, count=count, seed=seed, draws=draws, workers=workers, progress=meter
        )
