"""Raw stacks: where those of an experiment come from, and which of them a command reads."""

import json
import os
from typing import Any

from workflow.lib.catalogue import Catalogue, resolved
from workflow.lib.words import assignments, without_suffix


def phantoms_of(catalogue: Catalogue, experiment: str) -> str:
    """Name the checksums of the phantoms that an experiment's acquisitions are made of."""
    name = catalogue.experiments[experiment].get("phantoms", experiment)
    return f"<results>/phantoms/{name}.sha256"


def truth_option(
    catalogue: Catalogue, experiment: str | None, option: str = "--phantoms"
) -> list[str]:
    """Give the option for the phantoms behind simulated stacks."""
    if experiment is None or not catalogue.is_simulated(experiment):
        return []
    name = catalogue.experiments[experiment].get("phantoms", experiment)
    return [option, f"{catalogue.config['results']}/phantoms/{name}"]


def simulate_options(catalogue: Catalogue, experiment: str) -> list[str]:
    """Give the true microscope and motion, which the model does not know, and parts and folds."""
    spec = catalogue.experiments[experiment]
    words = [*assignments(spec.get("microscope", {})), "--motion", str(spec.get("motion", 0))]
    if spec.get("no_noise"):
        words.append("--no-noise-part")
    if catalogue.is_beads(experiment):
        words += ["--folds", str(spec["number_of_folds"])]
    return words


def acquisitions(catalogue: Catalogue, experiment: str) -> str:
    """Name the checksums of the stacks that methods work on: registered, if configured."""
    if "register" in catalogue.experiments[experiment]:
        return f"<results>/registered/{experiment}.sha256"
    return taken(catalogue, experiment)


def taken(catalogue: Catalogue, experiment: str) -> str:
    """Name the checksums of an experiment's raw stacks as they were taken."""
    spec = catalogue.experiments[experiment]
    if catalogue.is_simulated(experiment):
        return f"<results>/acquisitions/{spec.get('images', experiment)}.sha256"
    return f"<zenodo>/{spec['source']}.sha256"


def mirror_option(catalogue: Catalogue) -> list[str]:
    """Give the place that holds the record's files where it is not Zenodo: another list."""
    mirror = catalogue.config["zenodo"]["mirror"] or os.environ.get("TENET_ZENODO_URL", "")
    return ["--mirror", mirror] if mirror else []


def source_specification(catalogue: Catalogue, source: str) -> str:
    """Give a source as JSON: what the configuration says, and what its experiments need."""
    spec = dict(catalogue.config["sources"][source])
    users = [name for name, s in catalogue.experiments.items() if s["source"] == source]
    needs = {name: resolved(catalogue, name) for name in users}
    crops = [
        (e.train_dataset.cropsize[0] // e.params.scale, *e.train_dataset.cropsize[1:])
        for e in needs.values()
    ]
    least = [max(sizes) for sizes in zip(*crops, strict=True)] or [1, 1, 1]
    least[0] = spec.pop("least_planes", least[0])
    # One experiment a voxel size: others with the same make no other stacks, and run nothing again.
    first = {tuple(e.params.coarse_voxel_size_um): name for name, e in reversed(needs.items())}
    return json.dumps(
        spec
        | {
            "name": source,
            "least_zyx": least,
            "expected_um": {name: size_um for size_um, name in reversed(first.items())},
            "rois": source_rois(catalogue, source),
        }
    )


def source_rois(catalogue: Catalogue, source: str) -> list[str]:
    """Name the tables of the beads in a source's images."""
    users = [spec for spec in catalogue.experiments.values() if spec["source"] == source]
    return sorted({spec["rois"] for spec in users if spec["evaluation"] == "beads"})


def rois(catalogue: Catalogue, experiment: str) -> Any:
    """Name the committed table of the beads of real images; simulated ones bring their own."""
    if catalogue.is_beads(experiment) and not catalogue.is_simulated(experiment):
        return catalogue.experiments[experiment]["rois"]
    return []


def stack_folder(catalogue: Catalogue, experiment: str, checksums: object) -> str:
    """Name the folder of an experiment's stacks; that of phantoms has a sub-folder a part."""
    folder = without_suffix(checksums)
    simulated_beads = catalogue.is_simulated(experiment) and catalogue.is_beads(experiment)
    return f"{folder}/noise" if simulated_beads else folder


def noisy_folder(catalogue: Catalogue, experiment: str, checksums: object) -> str:
    """Name the folder of stacks that methods learn from: never the ones without noise."""
    folder = without_suffix(checksums)
    return f"{folder}/noise" if catalogue.is_simulated(experiment) else folder


def image_options(
    catalogue: Catalogue, experiment: str, checksums: object, fold: str = "all"
) -> list[str]:
    """Give options that confine a command to the beads, or to those of a fold."""
    if not catalogue.is_beads(experiment):
        return []
    table = rois(catalogue, experiment) or f"{without_suffix(checksums)}/rois.csv"
    words = ["--rois", table]
    if fold.startswith("fold"):
        words += ["--fold", fold.removeprefix("fold")]
    return words
