"""Optics of a microscope: told by options, read from a file, or those of a model."""

import math
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

#: Ranges of what a file may say: NA, wavelength in µm, and index of an immersion medium.
NA, WAVELENGTH_UM, INDEX = (0.01, 1.75), (0.2, 2.0), (1.0, 1.8)
#: No laser for two photons has a shorter wavelength (in µm). A shorter one is that of the dye.
LEAST_TWO_PHOTON_UM = 0.65
#: No laser for one photon has a longer wavelength (in µm).
MOST_ONE_PHOTON_UM = 0.8
#: Two optics agree within this share.
SAME = 0.005

#: Refractive indices of the media that files name.
_MEDIA = {"air": 1.0, "dry": 1.0, "water": 1.33, "glycerol": 1.47, "glycerin": 1.47, "oil": 1.515}
#: Photons of one excitation by parts of the names of modes.
_PHOTONS = {"multiphoton": 2, "twophoton": 2, "confocal": 1, "widefield": 1}
#: An aperture as objectives are inscribed: 20x/0.8, 25x / 1.05 W, NA 1.2.
_INSCRIBED = re.compile(r"(?:\d\s*x\s*/\s*|NA\s*[=:]?\s*)(\d[.,]\d+)", re.I)
_INSCRIBED_MEDIA = re.compile(r"(?<![a-z])(dry|air|water|w|glyc\w*|oil)\b", re.I)

#: Names and units in messages.
_WORDS = {
    "na": ("NA", ""),
    "wavelength_um": ("wavelength", " µm"),
    "immersion_index": ("immersion index", ""),
    "photons": ("number of photons", ""),
}


@dataclass(frozen=True)
class Optics:
    """What is known of the optics of a microscope; None: not known.

    Attributes
    ----------
    na : float, optional
        Numerical aperture of the objective.
    wavelength_um : float, optional
        Wavelength of the excitation in µm.
    immersion_index : float, optional
        Refractive index of the immersion medium.
    photons : int, optional
        Photons of one excitation, 1 or 2.
    """

    na: float | None = None
    wavelength_um: float | None = None
    immersion_index: float | None = None
    photons: int | None = None

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return any(value is not None for value in asdict(self).values())

    @classmethod
    def read(
        cls,
        *,
        na: Any = None,
        wavelength_um: Any = None,
        immersion_indices: tuple[Any, ...] = (),
        photons: int | None = None,
    ) -> "Optics":
        """Return the optics in a file, without what is impossible.

        Parameters
        ----------
        na, wavelength_um : Any
            A number, or a text. All else, and what lies outside `NA` and `WAVELENGTH_UM`, is left
            out.
        immersion_indices : tuple
            What the file says of the index, the surest first. The first one in `INDEX` that the NA
            allows is taken. If the NA allows none of them, the NA is left out too.
        photons : int, optional

        Examples
        --------
        >>> Optics.read(na="1.1", immersion_indices=(1.0, 1.33))
        Optics(na=1.1, wavelength_um=None, immersion_index=1.33, photons=None)
        >>> Optics.read(na="1.1", immersion_indices=(1.0,))
        Optics(na=None, wavelength_um=None, immersion_index=None, photons=None)
        """
        aperture = _number(na, NA)
        indices = [n for given in immersion_indices if (n := _number(given, INDEX)) is not None]
        allowed = [n for n in indices if aperture is None or aperture < n]
        if indices and not allowed:
            aperture = None
        index = allowed[0] if allowed else None
        return cls(aperture, _number(wavelength_um, WAVELENGTH_UM), index, photons)

    def over(self, read: "Optics", model: "Optics") -> "KnownOptics":
        """Lay what options tell over what a file says, and both over the optics of a model.

        With two photons, a wavelength in the file below `LEAST_TWO_PHOTON_UM` is not used.

        Parameters
        ----------
        read, model : Optics
            Of the file, and of the model.

        Examples
        --------
        >>> told = Optics(immersion_index=1.33)
        >>> known = told.over(Optics(0.8, 0.92, 1.515), Optics(photons=2))
        >>> known.optics
        Optics(na=0.8, wavelength_um=0.92, immersion_index=1.33, photons=2)
        >>> known.sources["na"], known.sources["immersion_index"]
        ('file', 'options')
        """
        layers = {"options": self, "file": read, "model": model}
        photons = next((o.photons for o in layers.values() if o.photons is not None), None)
        if photons == 2 and (read.wavelength_um or math.inf) < LEAST_TWO_PHOTON_UM:
            layers["file"] = replace(read, wavelength_um=None)
        known, sources = {}, {}
        for source, layer in reversed(layers.items()):
            given = {name: value for name, value in asdict(layer).items() if value is not None}
            known.update(given)
            sources.update(dict.fromkeys(given, source))
        return KnownOptics(Optics(**known), {n: sources[n] for n in _WORDS if n in sources}, read)


@dataclass(frozen=True)
class KnownOptics:
    """Optics, and where each value comes from.

    Attributes
    ----------
    optics : Optics
    sources : dict
        "options", "file", "guess" or "model" by the name of each known value.
    read : Optics
        What the file says, also where something else is used.
    """

    optics: Optics
    sources: dict[str, str]
    read: Optics

    def guessed(self, na: float) -> "KnownOptics":
        """The same with an NA that nothing has said."""
        sources = {"na": "guess"} | self.sources
        return replace(self, optics=replace(self.optics, na=na), sources=sources)

    @property
    def note(self) -> str:
        """One line on where the values come from, and on what the file says otherwise.

        Examples
        --------
        >>> Optics(na=0.6).over(Optics(0.8, 0.92), Optics()).note
        'wavelength 0.92 µm is that of the file; NA 0.6 is that of the options (the file says 0.8)'
        """
        parts = []
        for source in ("file", "options", "model"):
            names = [name for name, of in self.sources.items() if of == source]
            if names:
                words = [_words(name, getattr(self.optics, name)) for name in names]
                *first, last = words
                joined = f"{', '.join(first)} and {last}" if first else last
                verb = "are those" if first else "is that"
                parts.append(f"{joined} {verb} of the {source}{self._contradiction(names)}")
        return "; ".join(parts)

    def _contradiction(self, names: list[str]) -> str:
        """Say what the file says of these values, where the file says something else."""
        pairs = {name: (getattr(self.optics, name), getattr(self.read, name)) for name in names}
        other = {
            name: said
            for name, (used, said) in pairs.items()
            if said is not None and not math.isclose(used, said, rel_tol=SAME)
        }
        if not other:
            return ""
        said = [
            _words(name, value) if len(names) > 1 else f"{value:.4g}{_WORDS[name][1]}"
            for name, value in other.items()
        ]
        return f" (the file says {', '.join(said)})"


def _words(name: str, value: float) -> str:
    word, unit = _WORDS[name]
    return f"{word} {value:.4g}{unit}"


def _number(value: Any, ends: tuple[float, float]) -> float | None:
    """Return a number within two ends; None for all else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if ends[0] <= number <= ends[1] else None


def index_of_medium(name: str) -> float | None:
    """Return the refractive index of a medium by its name, as ``Oil`` or ``WaterDipping``.

    Examples
    --------
    >>> index_of_medium("Water"), index_of_medium("honey")
    (1.33, None)
    """
    return next((n for word, n in _MEDIA.items() if name.lower().startswith(word)), None)


def photons_of_mode(mode: str, wavelength_um: float | None = None) -> int | None:
    """Return the photons of one excitation by the mode of acquisition, and by the laser if known.

    Some programs call a scan confocal whose infrared laser excites with two photons.

    Examples
    --------
    >>> photons_of_mode("MultiPhotonMicroscopy"), photons_of_mode("Other")
    (2, None)
    >>> photons_of_mode("LaserScanningConfocal", 0.92), photons_of_mode("confocal", 0.488)
    (2, 1)
    """
    mode = re.sub("[- _]", "", mode.lower())
    photons = next((photons for part, photons in _PHOTONS.items() if part in mode), None)
    if wavelength_um is None or wavelength_um < LEAST_TWO_PHOTON_UM:
        return photons
    sure = wavelength_um > MOST_ONE_PHOTON_UM
    return 2 if sure or photons == 2 else None


def inscribed(objective: str) -> tuple[float | None, float | None]:
    """Return the NA and the immersion index in the inscription of an objective.

    Examples
    --------
    >>> inscribed("Plan-Apochromat 63x/1.40 Oil DIC M27")
    (1.4, 1.515)
    >>> inscribed("XLPLN 25x W NA1.05"), inscribed("the old one")
    ((1.05, 1.33), (None, None))
    """
    na = _INSCRIBED.search(objective[:200])
    medium = _INSCRIBED_MEDIA.search(objective[:200])
    name = medium[1].lower() if medium else ""
    name = {"w": "water"}.get(name, "glycerol" if name.startswith("glyc") else name)
    return (float(na[1].replace(",", ".")) if na else None), index_of_medium(name)
