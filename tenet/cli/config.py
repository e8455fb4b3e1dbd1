"""`tenet config`: look at the settings of experiments."""

import typer

from tenet.cli.options import (
    EXPERIMENTS,
    ExperimentName,
    ExperimentsFolder,
    Overlays,
    Settings,
    read_experiment,
)

config_app = typer.Typer(help="Look at the settings of experiments.", no_args_is_help=True)


@config_app.command("list")
def config_list(experiments: ExperimentsFolder = EXPERIMENTS) -> None:
    """List the experiments, with what each is for."""
    from tenet.settings.load import explanations

    for name, explanation in explanations(experiments):
        print(f"{name:20} {explanation}")


@config_app.command("show")
def config_show(
    experiment: ExperimentName,
    overlay: Overlays = None,
    settings: Settings = None,
    experiments: ExperimentsFolder = EXPERIMENTS,
) -> None:
    """Print an experiment with all that it extends, checked and complete."""
    print(read_experiment(experiment, overlay, settings, experiments).model_dump_json(indent=2))
