"""The command line: every step of the pipeline by hand."""

import atexit
import gc
import io
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from tenet.cli.baselines import baseline_app, rltv_app
from tenet.cli.config import config_app
from tenet.cli.evaluate import evaluate_app
from tenet.cli.phantoms import phantoms_app, simulate
from tenet.cli.samples import samples_app
from tenet.cli.tables import bench, published_table, table
from tenet.cli.train import align, finetune, import_weights, learn, pretrain
from tenet.cli.use import enhance, export_model, predict, register
from tenet.errors import TenetError, one_line, printable
from tenet.interruption import end_on_signals, hold_if_ending
from tenet.io.atomic import NO_ROOM

app = typer.Typer(
    help="Sharp, isotropic, segmented volumes from blurred two-photon stacks, without any truth.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
#: Panels of the help, by the purpose of the commands and groups of commands.
PANELS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Use a model": {
        "enhance": enhance,
        "samples": samples_app,
        "export-model": export_model,
    },
    "Train a model": {
        "pretrain": pretrain,
        "align": align,
        "finetune": finetune,
        "learn": learn,
        "import-weights": import_weights,
        "config": config_app,
    },
    "Phantoms": {"phantoms": phantoms_app, "simulate": simulate},
    "The paper": {
        "register": register,
        "rltv": rltv_app,
        "baseline": baseline_app,
        "evaluate": evaluate_app,
        "table": table,
        "published": published_table,
        "bench": bench,
    },
}
for panel, parts in PANELS.items():
    for name, part in parts.items():
        if isinstance(part, typer.Typer):
            app.add_typer(part, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(part)
app.command("predict", hidden=True)(predict)

#: Modules that commands of the paper import, and that the extra ``paper`` alone installs.
OF_PAPER = ("pystackreg", "seaborn")
#: Advice after a signal, and the commands that continue an interrupted training.
RESUMED = "the same command goes on after the last whole epoch"
AGAIN = "what was not finished is removed: run the command again"
TRAININGS = (["pretrain"], ["align"], ["finetune"], ["learn"], ["baseline", "train"])


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"tenet {version('tenet')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print and end."),
    ] = False,
) -> None:
    """Sharp, isotropic, segmented volumes from blurred two-photon stacks, without any truth."""


def main() -> None:
    """Run a command. A user's mistake ends in one line and status 2."""
    atexit.register(gc.freeze)  # no garbage is collected, because all ends with the process
    end_on_signals(RESUMED if sys.argv[1:2] in TRAININGS or sys.argv[1:3] in TRAININGS else AGAIN)
    if isinstance(sys.stdout, io.TextIOWrapper):  # some characters cannot be encoded
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        try:
            _check_working_folder()
            app()
        finally:
            hold_if_ending()
    except TenetError as error:
        print(f"tenet: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except ModuleNotFoundError as error:
        if error.name not in OF_PAPER:
            raise
        print(
            f"tenet: {error.name} is not installed; it comes with the paper: "
            "pip install 'tenet[paper]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        # Writers of files report a full disk by themselves. Here the output of a command went into
        # a file.
        print(f"tenet: no room on the disk ({one_line(error)}); free some", file=sys.stderr)
        raise SystemExit(2) from None
    except MemoryError as error:
        print(
            f"tenet: not enough memory ({one_line(error)}); process less at once", file=sys.stderr
        )
        raise SystemExit(2) from None


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except OSError:
        raise TenetError("the folder you are in was removed; change into another one") from None
