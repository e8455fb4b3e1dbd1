"""Environments of conda and containers: what is in them, and that their files agree."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
ENVS = ROOT / "envs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
#: What only Snakemake needs, what fetches the data, and what runs the notebooks.
OF_SNAKEMAKE, OF_DATA = {"snakemake", "jsonschema", "PyYAML"}, {"zenodo-get"}
OF_NOTEBOOKS = {"papermill", "ipykernel"}
#: Of the documentation of Apptainer 1.4: keys of the header for `docker`, and sections.
HEADER = {"Bootstrap", "From", "Registry", "Namespace", "IncludeCmd", "Stage"}
SECTIONS = {
    "arguments", "setup", "files", "environment", "post", "runscript", "startscript", "test",
    "labels", "help",
}  # fmt: skip


def conda(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ENVS / name).read_text())
    return found


def lines_of(words: set[str], *extras: str) -> set[str]:
    """Requirements of pyproject.toml, of its extras too, but for those of some packages."""
    wanted = {*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])}
    return {line for line in wanted if Requirement(line).name not in words}


def instructions() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile and their words, with continued lines joined."""
    text = (ENVS / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, " ".join(rest.split())) for word, _, rest in (s.partition(" ") for s in lines)]


def sections() -> dict[str, list[str]]:
    """Sections of the recipe for Apptainer, that of the header under an empty name."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in (ENVS / "tenet.def").read_text().splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            assert name not in found, f"%{name} stands there twice"
            found[name] = []
        elif line.strip() and not line.startswith("#"):
            found[name].append(line.strip())
    return found


def test_conda_environments_hold_what_the_pipeline_needs() -> None:
    """The formats of microscopes too, because samples may be such files."""
    pip = {name: set(conda(f"{name}.yaml")["dependencies"][-1]["pip"])
           for name in ("tenet", "figures", "zenodo")}  # fmt: skip
    assert pip["zenodo"] == {line for line in EXTRAS["paper"] if Requirement(line).name in OF_DATA}
    others = OF_SNAKEMAKE | OF_DATA
    assert pip["tenet"] == lines_of(others | OF_NOTEBOOKS, "paper", "formats")
    assert pip["figures"] == lines_of(others | {"py7zr"}, "paper", "formats")


def test_rules_name_environments_that_are_there() -> None:
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    named = set(re.findall(r"envs/(\w+\.yaml)", rules))
    assert named == {path.name for path in ENVS.glob("*.yaml")}


def test_one_python_everywhere() -> None:
    lowest = SpecifierSet(PROJECT["requires-python"])
    pythons = {str(path): conda(path.name)["dependencies"][0] for path in ENVS.glob("*.yaml")}
    assert set(pythons.values()) == {"python=3.11"}
    assert lowest.contains("3.11")
    assert "For Python 3.11 on Linux" in (ROOT / "requirements.lock").read_text()[:300]
    base = dict(instructions())["FROM"]
    assert re.fullmatch(r"python:3\.11-slim-bookworm(@sha256:[0-9a-f]{64})?", base)
    assert f"From: {base}" in sections()[""]


def test_the_container_is_what_the_lock_says() -> None:
    done = instructions()
    runs = [words for word, words in done if word == "RUN"]
    assert runs[:2] == [
        "python -m pip install --require-hashes --requirement requirements.lock",
        "python -m pip install --no-deps --no-build-isolation .",
    ]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    locked = dict(re.findall(r"^([\w-]+)==(\S+) ", (ROOT / "requirements.lock").read_text(), re.M))
    for requirement in map(Requirement, build):  # without isolation, this builds the package
        assert requirement.specifier.contains(locked[requirement.name])
    copied = [source for word, words in done if word == "COPY" for source in words.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    kept = (ENVS / "Dockerfile.dockerignore").read_text().splitlines()
    assert sorted(line[1:] for line in kept if line.startswith("!")) == sorted(copied)


def test_nobody_is_root_in_the_container() -> None:
    done = instructions()
    assert [words for word, words in done if word == "USER"] == ["1000"]
    order = [word for word, _ in done]
    assert order.index("USER") > max(n for n, word in enumerate(order) if word == "RUN")
    assert ("ENTRYPOINT", '["tenet"]') in done


def test_apptainer_makes_what_docker_makes() -> None:
    found = sections()
    keys = dict(line.split(": ", 1) for line in found.pop(""))
    assert keys.keys() <= HEADER
    assert keys["Bootstrap"] == "docker"
    assert found.keys() <= SECTIONS
    runs = [words for word, words in instructions() if word == "RUN"]
    assert found["post"][-2:] == runs[:2]
    copied = [source for word, words in instructions() if word == "COPY"
              for source in words.split()[:-1]]  # fmt: skip
    assert [line.split() for line in found["files"]] == [[s, f"/opt/tenet/{s}"] for s in copied]
    settings = next(words for word, words in instructions() if word == "ENV")
    assert f"export {settings}" in found["post"]
    for name in ("post", "runscript", "test"):
        script = "\n".join(found[name])
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    command = [hadolint, "--no-color", ENVS / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_catalogue_of_workflows_is_told_what_is_so() -> None:
    """https://snakemake.github.io/snakemake-workflow-catalog lists workflows with such a file."""
    told = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert told.keys() <= {"mandatory-flags", "software-stack-deployment", "report"}
    rules = [path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk")]
    deployed = told["software-stack-deployment"]
    contained = any(re.search(r"^ *container(ized)?:", text, re.M) for text in rules)
    conda_of_rules = any(re.search(r"^ *conda:", text, re.M) for text in rules)
    assert deployed == {
        "conda": conda_of_rules, "apptainer": contained, "apptainer+conda": contained,
    }  # fmt: skip
    assert told["report"] == ("report(" in "\n".join(rules))
    assert (ROOT / "config/README.md").is_file()  # the catalogue shows it
