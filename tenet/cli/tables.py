"""`tenet table`, `published` and `bench`: the tables of the paper and of the costs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tenet.cli.options import Out, Seed
from tenet.errors import TenetError


def table(
    figure: Annotated[
        Literal["fig2", "fig3", "fig4", "fig5", "supp", "supp_motion", "quality"],
        typer.Argument(help="The figure."),
    ],
    metrics: Annotated[list[Path], typer.Option(help="Tables of `evaluate`. Repeatable.")],
    published: Annotated[Path, typer.Option(help="The paper's numbers (CSV).")],
    out: Out,
    psf: Annotated[
        list[Path] | None, typer.Option("--psf", help="psf.csv of each fold. Repeatable.")
    ] = None,
    acquisition: Annotated[
        Path | None, typer.Option(help="acquisition.json, if the images are simulated.")
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", metavar="METHOD=WORDS", help="Words on its training. Repeatable."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Means, intervals and the paper's numbers side by side."""
    from tenet.paper.tasks.summary import summarise

    budgets = {}
    for words in budget or ():
        method, is_one, told = words.partition("=")
        if not is_one:
            raise TenetError(f"--budget {words}: expected METHOD=WORDS")
        budgets[method] = told
    lines = summarise(
        figure,
        metrics,
        published,
        out,
        psfs=psf or (),
        acquisition=acquisition,
        budgets=budgets,
        seed=seed,
    )
    print(*lines, sep="\n")


def published_table(
    metrics: Annotated[list[Path], typer.Option(help="EXPERIMENT.csv of `evaluate`. Repeatable.")],
    published: Annotated[Path, typer.Option(help="The paper's numbers (CSV).")],
    out: Out,
    seed: Seed = 0,
) -> None:
    """The published numbers beside this run's, by the paper's definition and by a fair one."""
    from tenet.paper.tasks.published import compare

    print(*compare(published, metrics, out, seed=seed), sep="\n")


def bench(
    out: Out = Path("results/bench/bench.csv"),
    row: Annotated[list[str] | None, typer.Option("--row", help="Only these rows.")] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto (the CPU and a GPU if there is one), cpu or cuda.")
    ] = "auto",
) -> None:
    """Measure what the main steps cost on this machine."""
    from tenet.paper.bench import run_bench

    run_bench(out, rows=row, device=device)
