"""How much disk the whole configured paper takes, from its stacks to its results."""

from collections.abc import Iterator
from typing import NamedTuple

from workflow.lib import models, sizes, stacks
from workflow.lib.catalogue import Catalogue
from workflow.lib.figures import shown_in
from workflow.lib.words import without_suffix

#: What there is of a stack of the record: in what was downloaded, and as it was taken out.
DOWNLOADED = 2
#: Bytes of a voxel of a registered stack, 32-bit floats, in raw voxels.
REGISTERED = 2


class Row(NamedTuple):
    """What the results of one figure, or one kind of file, take.

    Attributes
    ----------
    name : str
    number : int
        Stacks that are restored, or stacks or models of this kind.
    fine_voxels : int
        Voxels of the results of all methods.
    gigabytes : float
    """

    name: str
    number: int
    fine_voxels: int
    gigabytes: float


def rows(catalogue: Catalogue) -> list[Row]:
    """List what the configured figures keep on the disk at most, all at once.

    Nothing is deleted before the end, so that figures and measures can be made anew at any time.
    """
    by_figure = {figure: shown_in(catalogue, figure) for figure in catalogue.config["figures"]}
    own = {figure: names for figure, names in by_figure.items() if figure != "fig1" and names}
    shown = [name for names in own.values() for name in names]
    return [
        *(_results(catalogue, figure, names) for figure, names in own.items()),
        *_raw(catalogue, shown),
        _models(catalogue, shown),
    ]


def total(catalogue: Catalogue) -> float:
    """Add up the rows, in GB."""
    return sum(row.gigabytes for row in rows(catalogue))


def _results(catalogue: Catalogue, figure: str, names: list[str]) -> Row:
    voxels, taken = 0, 0.0
    for name in names:
        for run in models.runs(catalogue, name):
            method, _, fold = run.partition("/")
            voxels += sizes.fine_voxels(catalogue, name, fold or "all")
            taken += sizes.bytes_of_predictions(catalogue, name, method, fold or "all")
    count = sum(sizes.stacks_of(catalogue, name).count for name in names)
    return Row(f"results of {figure}", count, voxels, taken / 1e9)


def _raw(catalogue: Catalogue, shown: list[str]) -> Iterator[Row]:
    """Rows of the record, of simulated and registered stacks, and of phantoms."""
    spec = catalogue.experiments
    sources = {spec[name]["source"] for name in shown} - {"simulated"}
    downloaded = sum(sizes.bytes_of_source(catalogue, source) for source in sources)
    count = sum(sizes.stacks_of_source(catalogue, s).count for s in sources)
    yield Row("the record, downloaded and taken out", count, 0, DOWNLOADED * downloaded / 1e9)
    own = {spec[n].get("images", n) for n in shown if catalogue.is_simulated(n)}
    registered = [name for name in shown if "register" in spec[name]]
    taken = sum(sizes.bytes_of_acquisitions(catalogue, name) for name in own)
    taken += sum(REGISTERED * sizes.bytes_of_acquisitions(catalogue, name) for name in registered)
    count = sum(sizes.stacks_of(catalogue, name).count for name in [*own, *registered])
    yield Row("simulated and registered stacks", count, 0, taken / 1e9)
    sets = {without_suffix(stacks.phantoms_of(catalogue, n)) for n in shown if n in own}
    names = {name.rpartition("/")[2] for name in sets} | {"training", "tuning"}
    count = sum(sizes.phantoms_of_set(catalogue, name).count for name in names)
    taken = sum(sizes.bytes_of_phantoms(catalogue, name) for name in names)
    yield Row("phantoms", count, 0, taken / 1e9)


def _models(catalogue: Catalogue, shown: list[str]) -> Row:
    """Models of the published encoder's size, which the light one is far below."""
    owners = {catalogue.owner_of_model(name) for name in shown}
    tuned = sum(
        len(catalogue.folds(name))
        for name in owners
        for method in catalogue.methods_of(name)
        if method in models.LEARN_FROM_STACKS
    )
    first = len({models.pretrained_of(catalogue, name) for name in owners})
    taken = first * sizes.bytes_of_model(pretrained=True)
    taken += tuned * sizes.bytes_of_model(pretrained=False)
    return Row("models", first + tuned, 0, taken / 1e9)


def as_table(catalogue: Catalogue) -> str:
    """Write the rows as a table of Markdown."""
    lines = ["| | stacks or models | fine voxels, 10⁹ | GB |", "|---|---|---|---|"]
    for row in rows(catalogue):
        voxels = f"{row.fine_voxels / 1e9:.0f}" if row.fine_voxels else ""
        lines.append(f"| {row.name} | {row.number} | {voxels} | {row.gigabytes:.0f} |")
    lines.append(f"| **all** | | | **{total(catalogue):.0f}** |")
    return "\n".join(lines)
