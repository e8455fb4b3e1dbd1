"""The command line: every step of the pipeline by hand."""

import atexit
import gc
import io
import os
import sys

import typer

from tenet.cli.baselines import baseline_app, rltv_app
from tenet.cli.config import config_app
from tenet.cli.evaluate import evaluate_app
from tenet.cli.phantoms import phantoms_app, simulate
from tenet.cli.samples import samples_app
from tenet.cli.tables import bench, published_table, table
from tenet.cli.train import align, finetune, pretrain
from tenet.cli.use import enhance, predict, register
from tenet.errors import TenetError, one_line, printable
from tenet.interruption import end_on_signals, hold_if_ending
from tenet.io.atomic import NO_ROOM

app = typer.Typer(
    help="Sharp, isotropic, segmented volumes from blurred two-photon stacks, without any truth.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (simulate, register, pretrain, align, finetune, enhance, predict, table, bench):
    app.command()(command)
app.command("published")(published_table)
for name, group in (
    ("config", config_app),
    ("phantoms", phantoms_app),
    ("rltv", rltv_app),
    ("baseline", baseline_app),
    ("evaluate", evaluate_app),
    ("samples", samples_app),
):
    app.add_typer(group, name=name)

#: What a signal leaves, and the commands that go on where they were.
RESUMED = "the same command goes on after the last whole epoch"
AGAIN = "what was not finished is removed: run the command again"
TRAININGS = (["pretrain"], ["align"], ["finetune"], ["baseline", "train"])


def main() -> None:
    """Run a command; a user's mistake ends in one line and status 2."""
    atexit.register(gc.freeze)  # all ends with the process: garbage need not be looked for
    end_on_signals(RESUMED if sys.argv[1:2] in TRAININGS or sys.argv[1:3] in TRAININGS else AGAIN)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold what it cannot encode
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            _check_working_folder()
            app()
        finally:
            hold_if_ending()
    except TenetError as error:
        print(f"tenet: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        # Files say so by themselves: this is what a command prints, into a file.
        print(f"tenet: no room on the disk ({one_line(error)}); free some", file=sys.stderr)
        raise SystemExit(2) from None
    except MemoryError as error:
        print(f"tenet: no memory for it ({one_line(error)}); take less at once", file=sys.stderr)
        raise SystemExit(2) from None


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except OSError:
        raise TenetError("the folder you are in was removed; change into another one") from None
