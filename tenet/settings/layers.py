"""Settings laid over one another, each with its origin."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tenet.settings.sections import merge

#: Origin of a value that no layer holds.
DEFAULT = "default"


@dataclass(frozen=True)
class Layers:
    """Nested values, and a second nest with the origin of each value in its place.

    Both nests are merged alike, so that an origin has the place of its value.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any], origin: str) -> "Layers":
        """One layer, whose values have one origin."""
        return cls(dict(values), _labelled(values, origin))

    def under(self, over: "Layers") -> "Layers":
        """These layers with others laid over them."""
        return Layers(merge(self.values, over.values), merge(self.origins, over.origins))

    def without(self, *keys: str) -> "Layers":
        """These layers without some keys of the outermost level."""
        return Layers(
            {key: value for key, value in self.values.items() if key not in keys},
            {key: value for key, value in self.origins.items() if key not in keys},
        )

    def part(self, key: str) -> "Layers":
        """The layers below a key; empty if there is no such key."""
        return Layers(self.values.get(key, {}), self.origins.get(key, {}))

    def origins_of(self, complete: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
        """Key, value and origin of each value of complete settings, defaults included."""
        yield from _origins(complete, self.origins, "")


def _labelled(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    return {
        key: _labelled(value, origin) if isinstance(value, Mapping) else origin
        for key, value in values.items()
    }


def _origins(
    values: Mapping[str, Any], origins: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Any, str]]:
    for key, value in values.items():
        origin = origins.get(key, DEFAULT)
        if isinstance(value, Mapping):
            inner = origin if isinstance(origin, Mapping) else {}
            yield from _origins(value, inner, f"{prefix}{key}.")
        else:
            # An empty object gives no values.
            yield f"{prefix}{key}", value, DEFAULT if isinstance(origin, Mapping) else origin
