"""`tenet config`: look at the settings of experiments."""

import json
from typing import Annotated

import typer

from tenet.cli.options import (
    EXPERIMENTS,
    ExperimentName,
    ExperimentsFolder,
    Overlays,
    Settings,
    nested,
    read_experiment,
)

config_app = typer.Typer(help="Look at the settings of experiments.", no_args_is_help=True)


@config_app.command("list")
def config_list(experiments: ExperimentsFolder = EXPERIMENTS) -> None:
    """List the experiments, with the purpose of each."""
    from tenet.settings.load import PACKAGED, explanations

    own = [experiments] if experiments.is_dir() or experiments != EXPERIMENTS else []
    packaged = [PACKAGED] if experiments == EXPERIMENTS else []
    for name, explanation in explanations(*own, *packaged):
        print(f"{name:20} {explanation}")


@config_app.command("show")
def config_show(
    experiment: ExperimentName,
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each value comes from: a line a value.")
    ] = False,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Print an experiment with all that it extends, checked and complete."""
    from tenet.settings.load import origins

    if not origin:
        print(read_experiment(experiment, overlay, settings, experiments).model_dump_json(indent=2))
        return
    found = origins(
        experiment, overlays=overlay or (), settings=nested(settings), folder=experiments
    )
    for key, value, where in found:
        print(f"{f'{key} = {json.dumps(value, ensure_ascii=False)}':60}  {where}")


@config_app.command("reference")
def config_reference() -> None:
    """Print the reference of all settings, in Markdown: docs/configuration.md."""
    from tenet.settings.reference import reference

    print(reference(), end="")
