"""Changes of the bytes of a file, as damage and other programs make them."""

import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import strategies as st

#: Numbers that programs do not expect, as text.
TEXTS = (
    "0", "1", "2", "-1", "3", "7", "255", "65536", "2147483647", "4294967296",
    "9223372036854775808", "99999999999999999999999", "1e308", "1e400", "-1e-320", "nan",
    "NaN", "inf", "-Infinity", "0.5", "1e3", "0x10", "", "a", "null", "\N{ARABIC-INDIC DIGIT ONE}",
)  # fmt: skip
#: The same in headers of bytes.
WHOLE = (0, 1, 2, 3, 7, 127, 128, 255, 256, 65535, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
FORMS = ("B", "<H", ">H", "<I", ">I", "<Q", ">Q")
#: Digits in a text of one byte a letter, and in UTF-16.
NUMBER = re.compile(rb"(?:\d\x00)+|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
MOST_SEARCHED = 2**16


class Change(NamedTuple):
    """One change: what is done, which file, where in it, and how much or with what."""

    what: str
    file: int
    where: str
    place: int
    amount: int


#: Lengths stay in most changes, because most formats refuse any other.
WHAT = ("number", "header", "flip", "number", "header", "flip", "cut", "insert", "duplicate", "end")
CHANGES = st.lists(
    st.builds(
        Change,
        st.sampled_from(WHAT),
        st.integers(0, 11),
        st.sampled_from(("head", "tail", "any")),
        st.integers(0, 2**20),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=3,
)


def changed(content: bytes, change: Change) -> bytes:
    """Return the bytes with one change."""
    if change.what == "number":
        return _other_number(content, change)
    size = len(content)
    reach = {"head": min(size, 512), "tail": min(size, 1024), "any": size}[change.where]
    place = change.place % max(reach, 1)
    if change.where == "tail":
        place = max(size - 1 - place, 0)
    before, after = content[:place], content[place:]
    length = 1 + change.amount % 64
    if change.what == "flip":
        return before + bytes([after[0] ^ (change.amount or 255)]) + after[1:] if after else content
    if change.what == "header":
        form = FORMS[change.amount % len(FORMS)]
        value = WHOLE[change.amount // len(FORMS) % len(WHOLE)]
        value %= 256 ** struct.calcsize(form)
        packed = struct.pack(form, value)
        return (before + packed + after[len(packed) :])[: max(size, len(packed))]
    if change.what == "cut":
        return before + after[length:]
    if change.what == "insert":
        return before + bytes((change.amount + k) % 256 for k in range(length)) + after
    if change.what == "duplicate":
        return before + after[:length] + after
    return before


def _other_number(content: bytes, change: Change) -> bytes:
    found = list(NUMBER.finditer(content[:MOST_SEARCHED])) + (
        list(NUMBER.finditer(content, len(content) - 4096)) if len(content) > MOST_SEARCHED else []
    )
    if not found:
        return content
    number = found[change.place % len(found)]
    text = TEXTS[change.amount % len(TEXTS)]
    wide = number[0][1:2] == b"\0"
    return b"".join(
        (
            content[: number.start()],
            text.encode("utf-16-le" if wide else "utf-8"),
            content[number.end() :],
        )
    )


def all_changed(files: dict[str, bytes], changes: Sequence[Change]) -> dict[str, bytes]:
    """Return files with changes; those that describe others come first."""
    files = dict(files)
    names = sorted(files, key=lambda name: (name.endswith((".tif", "/0")), name))
    for change in changes:
        name = names[change.file % len(names)]
        files[name] = changed(files[name], change)
    return files
