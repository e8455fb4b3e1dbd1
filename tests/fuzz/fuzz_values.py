"""Changes of nested settings: a value, a key or an entry that nobody expects."""

import copy
import datetime
from typing import Any, NamedTuple

from hypothesis import strategies as st

_DEEP: Any = []
for _ in range(200):
    _DEEP = [_DEEP]
#: Values of JSON.
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 2**31, 2**53 + 1, 10**17, 10**30, 0.5, -0.0, 1e-320, 1e-12,
    1e9, 1e308, -1e308, "", "a", "1", "NaN", "../a", "a\nb", "a\0b", "x" * 5000, [], {}, [[]], [1],
    [0, 0, 0], [1, 1, 1], [1e308] * 3, [-1, 2], ["a"], {"a": 1}, {"": None}, [{}], [None] * 5000,
    float("nan"), float("inf"), "\ud800", _DEEP,
)  # fmt: skip
#: Values that only YAML has.
OF_YAML = (datetime.date(2026, 11, 29), datetime.datetime(2026, 11, 29, 1), b"a", {1: 2}, {None: 1})


class Edit(NamedTuple):
    """One change: which entry of all, what is done to it, and the value."""

    entry: int
    what: str
    value: Any


def edits(*more: Any) -> st.SearchStrategy[list[Edit]]:
    """Draw a few changes."""
    what = st.sampled_from(("set", "set", "set", "delete", "rename", "add"))
    return st.lists(
        st.builds(Edit, st.integers(0, 10**4), what, st.sampled_from((*ODD, *more))),
        min_size=1,
        max_size=3,
    )


def edited(settings: Any, changes: list[Edit]) -> Any:
    """Return a copy with changes."""
    found = copy.deepcopy(settings)
    for change in changes:
        entries = list(_entries(found))
        if not entries:
            return found
        owner, key = entries[change.entry % len(entries)]
        if change.what == "set":
            owner[key] = change.value
        elif change.what == "delete" or isinstance(owner, list):
            del owner[key]
        else:
            name = change.value if isinstance(change.value, str | int | None) else f"{key}s"
            owner[name] = owner[key] if change.what == "add" else owner.pop(key)
    return found


def _entries(value: Any, levels: int = 12) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, dict | list) and levels:
            yield from _entries(inner, levels - 1)
