"""Print the page of the licences of all that TENET installs: `python docs/licences.py`."""

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution

from packaging.requirements import Requirement

#: What users install; what developers use besides is left out.
EXTRAS = ("paper", "formats", "zoo", "napari")
HEAD = """# Licences

All that `pip install 'tenet[paper,formats,zoo,napari]'` installs on Linux, with the licence that
each package states. The weights and the code of TENET are under the MIT licence. This page is what
`python docs/licences.py` prints.

The extra `napari` installs PyQt6, which is under the GPL. Whoever passes on a program that contains
TENET and may not follow the GPL leaves this extra out. The packages of NVIDIA come with PyTorch.

| package | licence |
|---|---|"""
#: Licences by their classifiers, where a package has no short name of its licence.
SHORT = {
    "MIT License": "MIT",
    "BSD License": "BSD",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Other/Proprietary License": "proprietary",
}


def packages(name: str = "tenet", extras: tuple[str, ...] = EXTRAS) -> dict[str, Distribution]:
    """All installed packages that a package needs, and that they need, by name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(name, extra) for extra in ("", *extras)]
    while waiting:
        key = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        try:
            found[key[0]] = installed = distribution(key[0])
        except ModuleNotFoundError:  # an extra that is not installed here
            continue
        waiting += _needed(installed, key[1])
    found.pop(name)
    return found


def _needed(installed: Distribution, extra: str) -> Iterator[tuple[str, str]]:
    for line in installed.requires or ():
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate({"extra": extra}):
            name = re.sub(r"[-_.]+", "-", needed.name).lower()
            yield from ((name, e) for e in ("", *needed.extras))


def licence(installed: Distribution) -> str:
    """Licence of a package in a few words."""
    about = installed.metadata
    if about.get("License-Expression"):
        return str(about["License-Expression"])
    stated = [
        line.split(" :: ")[-1]
        for line in about.get_all("Classifier") or ()
        if line.startswith("License ::") and line != "License :: OSI Approved"
    ]
    if stated:
        return ", ".join(SHORT.get(name, name) for name in stated)
    text = (about.get("License") or "").strip().splitlines()
    return text[0][:60] if text else "not stated"


def main() -> None:
    """Print the page."""
    print(HEAD)
    for name, installed in sorted(packages().items()):
        print(f"| {name} | {licence(installed)} |")


if __name__ == "__main__":
    main()
