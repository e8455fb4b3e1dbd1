"""How a model shows real structures, taken by microscopes that it was not told of; beside RLTV.

    python benchmarks/real_structures.py --model PRETRAINED --tuning PHANTOMS --data DATA --out OUT

DATA holds em_dendrites.npz, em_spine_tips.csv and vessels_label.nii.gz. The stacks are simulated
(`tenet.paper.real`): pieces of these structures, blurred by beams of several fills, aberrated or
not, in 8 bits, with noise, saturated. The model is fine-tuned on the stacks of each condition and
kind of structure. The thresholds of all methods are chosen on the phantoms of --tuning. Methods:

    tenet        fine-tuned
    box          the model of every microscope, fitted to each stack; nothing is trained
    pretrained   not fine-tuned
    rltv         RLTV with the PSF of the nominal aperture, evenly filled, tuned on the phantoms
    rltv_found   RLTV with the PSF that fine-tuning found, tuned on the phantoms
    rltv_true    RLTV with the true PSF, tuned on the phantoms: what nobody has; slow
    raw          the stack, interpolated

Writes a folder for each condition (`tenet evaluate real`), real.csv, psf.csv and real.png, and
prints tables. --quick takes two beams, dendrites, one seed and the first two methods, if no others
are asked for. What was fine-tuned is kept in OUT and not done again.
"""

import argparse
from pathlib import Path

import pandas as pd

from tenet.cli.device import choose_device
from tenet.paper.real.beams import BEAMS
from tenet.paper.real.bench import Condition
from tenet.paper.real.methods import METHODS
from tenet.paper.real.summary import PSF, RESULTS, summary
from tenet.paper.tasks.real import run_condition
from tenet.paper.tasks.real_summary import joined, summarise

USUAL = [method for method in METHODS if method not in ("box", "rltv_true")]
QUICK = ("fill07", "fill04_aberrated")


def cell(row: pd.Series) -> str:
    """A mean, its interval and n."""
    bounds = "" if pd.isna(row["low"]) else f" ({row['low']:.3f} to {row['high']:.3f})"
    return f"{row['value']:.3f}{bounds}, n {row['n']:.0f}"


def printed(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).values.tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def wide(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Quantities side by side."""
    cells = table.assign(cell=table.apply(cell, axis=1))
    pivot = cells.pivot_table("cell", by, "quantity", aggfunc="first", sort=False, fill_value="")
    return pivot.reset_index()


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("model", "tuning", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--phantoms", type=Path, help="training phantoms, for rehearsal")
    parser.add_argument("--train", default="decoder", help="what fine-tuning trains")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--kinds", nargs="+", choices=["dendrites", "vessels"])
    parser.add_argument("--beams", nargs="+", choices=BEAMS)
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    asked.seeds = asked.seeds or (1 if asked.quick else 4)
    asked.kinds = asked.kinds or (["dendrites"] if asked.quick else ["dendrites", "vessels"])
    asked.beams = asked.beams or (QUICK if asked.quick else list(BEAMS))
    asked.methods = asked.methods or (USUAL[:2] if asked.quick else USUAL)
    return asked


def main() -> None:
    """Run every condition, and print what came of them."""
    asked = arguments()
    choose_device("cpu", 1)
    folders = []
    for kind in asked.kinds:
        for beam in asked.beams:
            folder = asked.out / f"{kind}_{beam}"
            condition = Condition(
                kind, beam, asked.model, asked.tuning, asked.data, folder,
                asked.seeds, asked.phantoms, asked.train,
            )  # fmt: skip
            print(*run_condition(condition, asked.methods), sep="\n", flush=True)
            folders.append(folder)
            paths = [asked.out / name for name in ("real.csv", "psf.csv", "real.png")]
            summarise(folders, paths[0], paths[1], paths[2:])
    results = joined(folders, RESULTS, ("kind", "beam", "method"))
    for by in (["kind", "beam", "method"], ["kind", "method"]):
        print("\n" + printed(wide(summary(results, by), by)))
    print("\n" + printed(joined(folders, PSF, ("kind", "beam")).round(3)))


if __name__ == "__main__":
    main()
