"""What is installed: pinned by checksums, and with licences that are listed."""

import re
import runpy
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: A package of the lock, its version, and its checksums.
CHECKSUMS = r"((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
PINNED = re.compile(r"^([a-z0-9-]+)==(\S+) \\\n" + CHECKSUMS, re.MULTILINE)


def test_the_lock_holds_what_the_paper_and_formats_ask_for_by_checksum() -> None:
    text = (ROOT / "requirements.lock").read_text()
    pinned = {name: version for name, version, _ in PINNED.findall(text)}
    lines = [line for line in text.splitlines() if line[:1].isalnum()]
    assert len(pinned) == len(lines) > 100
    extras = PROJECT["optional-dependencies"]
    for line in (*PROJECT["dependencies"], *extras["paper"], *extras["formats"]):
        wanted = Requirement(line)
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        assert wanted.specifier.contains(pinned[name]), f"make lock: {line}, not {pinned[name]}"


def test_every_package_that_users_install_has_its_licence_in_the_docs() -> None:
    page = (ROOT / "docs/licences.md").read_text()
    installed = runpy.run_path(str(ROOT / "docs/licences.py"))["packages"]()
    assert {"torch", "zarr", "snakemake"} <= installed.keys()
    missing = [name for name in installed if f"| {name} | " not in page]
    assert not missing, f"python docs/licences.py > docs/licences.md: {missing}"
