"""Volumes of several kinds of objects, each as bright as it happens to be."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenet.data.phantoms.cells import draw_microglia, draw_soma, draw_vessel
from tenet.data.phantoms.checks import check_range, check_value
from tenet.data.phantoms.kinds import TrainingPhantomSettings, line_voxels, solid_voxels
from tenet.data.phantoms.neurites import draw_axon, draw_dendrite
from tenet.data.phantoms.objects import DrawnPhantom, draw_brightness
from tenet.data.phantoms.paths import log_uniform
from tenet.data.phantoms.tubes import Piece, Points, piece_voxels
from tenet.errors import TenetError
from tenet.types import Range, Triple, VoxelSize

#: Kinds of tissue, drawn in µm; beside them there are lines and solids, drawn in voxels.
TISSUE: dict[str, Callable[[Points, np.random.Generator], Piece]] = {
    "dendrite": draw_dendrite,
    "axon": draw_axon,
    "vessel": draw_vessel,
    "microglia": draw_microglia,
    "soma": draw_soma,
}
KINDS = ("line", "solid", *TISSUE)

#: Neuropil that one volume may hold, in µm.
MOST_NEUROPIL_UM = 1e6

Voxels = tuple[NDArray[np.intp], NDArray[np.float32]]


@dataclass(frozen=True)
class MixturePhantomSettings:
    """Objects of kinds that are drawn by their shares.

    Attributes
    ----------
    published
        Size of the volume, number of objects, and what lines and solids look like.
    voxel_size_um
        Step of the grid in z, y, x.
    shares
        How often an object is of a kind, in any unit; kinds are those of `KINDS`.
    brightest
        Brightness of the brightest object; above 1 it saturates an image of full light.
    brightness_decades
        Brightness is uniform on a logarithmic scale over so many decades below `brightest`; 0: as
        in `TrainingPhantomSettings`.
    neuropil
        Length of dim neurites in µm for each µm³. They are seen and not labelled: their shape is 0.
    neuropil_brightness
        Least and greatest brightness of such a neurite, uniform on a logarithmic scale.

    Raises
    ------
    TenetError
        If a value is out of its range.

    Examples
    --------
    >>> lines = TrainingPhantomSettings(zyx_shape=(40, 40, 40), n_objects=(2, 2))
    >>> settings = MixturePhantomSettings(lines, (0.125, 0.12, 0.12), {"dendrite": 1.0})
    >>> settings.draw(np.random.default_rng(0)).attributes["kinds"]
    {'dendrite': 2}
    """

    published: TrainingPhantomSettings
    voxel_size_um: VoxelSize
    shares: Mapping[str, float] = field(default_factory=lambda: {"line": 0.95, "solid": 0.05})
    brightest: float = 1.0
    brightness_decades: float = 0.0
    neuropil: float = 0.0
    neuropil_brightness: Range = (0.003, 0.03)

    def __post_init__(self) -> None:
        unknown = set(self.shares) - set(KINDS)
        if unknown:
            raise TenetError(f"no kind of phantom is {min(unknown)!r}: one of {', '.join(KINDS)}")
        for kind, share in self.shares.items():
            check_value(f"shares of {kind}", share, 0)
        if not sum(self.shares.values()) > 0:
            raise TenetError("phantom setting shares is 0 for all kinds: give one a share")
        if len(self.voxel_size_um) != 3 or not all(0 < s < math.inf for s in self.voxel_size_um):
            raise TenetError(
                f"phantom setting voxel_size_um is {self.voxel_size_um}: "
                "give three sizes above 0 (z, y, x)"
            )
        check_value("brightest", self.brightest, 1e-3, 1e3)
        check_value("brightness_decades", self.brightness_decades, 0, 6)
        check_range("neuropil_brightness", self.neuropil_brightness, 1e-6)
        check_value("neuropil_brightness", self.neuropil_brightness[1], 0, self.brightest)
        check_value("neuropil", self.neuropil * math.prod(self.size_um), 0, MOST_NEUROPIL_UM)

    @property
    def zyx_shape(self) -> Triple:
        """Size of the volume in voxels."""
        return self.published.zyx_shape

    @property
    def size_um(self) -> Points:
        """Size of the volume in µm."""
        return np.multiply(self.zyx_shape, self.voxel_size_um)

    def draw(self, rng: np.random.Generator) -> DrawnPhantom:
        """Draw the volume.

        Its attributes are ``n_objects``, ``kinds`` (how many of each) and ``spine_tips_zyx``, the
        tips of spines in voxels, inside of the volume.

        Examples
        --------
        >>> lines = TrainingPhantomSettings(zyx_shape=(40, 40, 40), n_objects=(2, 2))
        >>> settings = MixturePhantomSettings(lines, (0.125, 0.12, 0.12), {"axon": 1.0})
        >>> settings.draw(np.random.default_rng(0)).shape.shape
        (40, 40, 40)
        """
        least, most = self.published.n_objects
        drawn = rng.integers(least, most, endpoint=True)
        chances = np.array([self.shares.get(kind, 0.0) for kind in KINDS])
        kinds = [KINDS[i] for i in rng.choice(len(KINDS), drawn, p=chances / chances.sum())]
        brightness = np.zeros(math.prod(self.zyx_shape), dtype=np.float32)
        tips: list[Points] = []
        for kind in kinds:
            voxels, share = self._object(kind, tips, rng)
            np.maximum.at(brightness, voxels, share * np.float32(self._brightness(rng)))
        shape = (brightness > 0).view(np.uint8)
        for voxels, share in self._neuropil(rng):
            np.maximum.at(brightness, voxels, share)
        attributes = {
            "n_objects": len(kinds),
            "kinds": {kind: kinds.count(kind) for kind in KINDS if kind in kinds},
            "spine_tips_zyx": self._inside(tips),
        }
        return DrawnPhantom(
            shape.reshape(self.zyx_shape), brightness.reshape(self.zyx_shape), attributes
        )

    def _object(self, kind: str, tips: list[Points], rng: np.random.Generator) -> Voxels:
        """Voxels of one object, and their share of its light."""
        if kind in TISSUE:
            piece = TISSUE[kind](self.size_um, rng)
            tips.extend(piece.tips_um)
            return piece_voxels(piece, self.voxel_size_um, self.zyx_shape)
        draw = line_voxels if kind == "line" else solid_voxels
        voxels = draw(self.published, rng)
        return voxels, np.ones(len(voxels), np.float32)

    def _brightness(self, rng: np.random.Generator) -> float:
        if not self.brightness_decades:
            return self.brightest * float(draw_brightness(self.published.brightness_log_sd, rng))
        return log_uniform((self.brightest * 10**-self.brightness_decades, self.brightest), rng)

    def _neuropil(self, rng: np.random.Generator) -> Any:
        """Voxels and brightness of dim neurites, until there is enough of them."""
        wanted = self.neuropil * float(np.prod(self.size_um))
        while wanted > 0:
            piece = draw_axon(self.size_um, rng)
            points = piece.tubes[0].points_um
            wanted -= max(float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum()), 1.0)
            voxels, share = piece_voxels(piece, self.voxel_size_um, self.zyx_shape)
            yield voxels, share * np.float32(log_uniform(self.neuropil_brightness, rng))

    def _inside(self, tips_um: list[Points]) -> list[list[float]]:
        """Tips in voxels; voxel i has its centre at i."""
        tips = np.array(tips_um).reshape(-1, 3) / self.voxel_size_um - 0.5
        seen = np.all((tips >= 0) & (tips <= np.subtract(self.zyx_shape, 1)), axis=1)
        found: list[list[float]] = tips[seen].round(2).tolist()
        return found


@dataclass(frozen=True)
class WorldsPhantomSettings:
    """Volumes of several worlds, which take turns.

    Attributes
    ----------
    worlds
        What is drawn in each; all volumes have the same size.

    Raises
    ------
    TenetError
        If there is none, or the sizes differ.

    Examples
    --------
    >>> thin = TrainingPhantomSettings(zyx_shape=(40, 40, 40), n_objects=(2, 2))
    >>> dendrites = MixturePhantomSettings(thin, (0.125, 0.12, 0.12), {"dendrite": 1.0})
    >>> both = WorldsPhantomSettings((thin, dendrites))
    >>> rng = np.random.default_rng(0)
    >>> [both.draw(rng, number).attributes["world"] for number in range(3)]
    [0, 1, 0]
    """

    worlds: tuple[TrainingPhantomSettings | MixturePhantomSettings, ...]

    def __post_init__(self) -> None:
        if len({world.zyx_shape for world in self.worlds}) != 1:
            raise TenetError("phantom setting worlds: give one or more, all of the same size")

    @property
    def zyx_shape(self) -> Triple:
        """Size of the volume in voxels."""
        return self.worlds[0].zyx_shape

    def draw(self, rng: np.random.Generator, number: int) -> DrawnPhantom:
        """Draw volume `number`; the attribute ``world`` is the number of its world."""
        world = number % len(self.worlds)
        drawn = self.worlds[world].draw(rng)
        return drawn._replace(attributes={**drawn.attributes, "world": world})
