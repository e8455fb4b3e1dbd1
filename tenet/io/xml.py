"""XML from strangers: without entities, of bounded size, and refused in one line if broken."""

import codecs
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from xml.etree.ElementTree import Element

from tenet.errors import TenetError, one_line
from tenet.io.records import regular_file

#: Elements of a text, and bytes of a file, at most.
MOST_ELEMENTS, MOST_XML_BYTES = 2**19, 2**27
#: Files of a folder that are looked at.
MOST_FILES = 2**17


def parse_xml(path: Path, text: str, what: str) -> Element:
    """Parse XML.

    Parameters
    ----------
    path : Path
        The file with the XML, for errors.
    text : str
    what : str
        Words for the XML in errors, as "its OME-XML".

    Raises
    ------
    TenetError
        If the XML is broken, too large, or has entities, because entities grow without limit.
    """
    if re.search(r"<!(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise TenetError(f"{path}: {what} declares entities, which none needs; export it again")
    if text.count("<") > MOST_ELEMENTS:
        raise TenetError(f"{path}: {what} is too large for a stack; export it again")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise TenetError(
            f"{path}: {what} is broken ({one_line(error)}); export it again"
        ) from error


def read_xml(path: Path) -> Element:
    """Read an XML file in UTF-8, UTF-16 or the encoding of Windows; see `parse_xml`."""
    regular_file(path, most_bytes=MOST_XML_BYTES)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TenetError(f"{path}: cannot be read ({one_line(error)})") from None
    return parse_xml(path, decoded(content), "the XML")


def decoded(content: bytes) -> str:
    """Decode a text of a microscope: UTF-16 by its mark, UTF-8, or else Windows-1252."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def elements(inside: Element, *names: str) -> Iterator[Element]:
    """Go through the elements of some names, in any name space."""
    return (element for element in inside.iter() if element.tag.rpartition("}")[2] in names)


def first(inside: Element, name: str) -> Element:
    """Return the first element of a name; one without attributes if there is none."""
    return next(elements(inside, name), Element("none"))


def count(path: Path, element: Element, name: str, missing: int, most: int) -> int:
    """Return an attribute that counts things.

    Raises
    ------
    TenetError
        If the attribute is no whole number from 0 to `most`.
    """
    text = element.get(name, str(missing))
    if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or int(text) > most:
        raise TenetError(f"{path}: its XML says {name}={text[:24]!r}; export it again")
    return int(text)


def root_name(path: Path) -> str:
    """Return the name of the outermost element of an XML file; empty where there is none."""
    try:
        with path.open("rb") as file:
            start = decoded(file.read(4096))
    except OSError:
        return ""
    found = re.search(r"<([A-Za-z_][\w.-]*)", re.sub(r"<!--.*?-->", "", start, flags=re.S))
    return found[1] if found else ""


def companion(folder: Path, root: str) -> Path:
    """Return the XML file of a folder whose outermost element has a name.

    Raises
    ------
    TenetError
        If there is none, or there are several.
    """
    found = _companions(folder, root)
    if not found:
        raise TenetError(f"{folder}: it holds no XML file of {root}; copy all of the recording")
    if len(found) > 1:
        raise TenetError(
            f"{folder}: it holds several recordings ({found[0].name}, {found[1].name}); "
            "give the XML file of one"
        )
    return found[0]


def has_companion(folder: Path, root: str) -> bool:
    """Whether a folder holds XML files whose outermost element has a name."""
    return bool(_companions(folder, root))


def _companions(folder: Path, root: str) -> list[Path]:
    try:
        files = [f for f in islice(folder.iterdir(), MOST_FILES) if f.suffix.lower() == ".xml"]
    except OSError:
        return []
    visible = (file for file in sorted(files) if not file.name.startswith("."))
    return [file for file in visible if file.is_file() and root_name(file) == root]
