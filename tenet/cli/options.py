"""Options that several commands share, and functions that read their values."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tenet.errors import TenetError

if TYPE_CHECKING:
    from tenet.io.picks import Picks
    from tenet.settings.schema import Experiment

ExperimentName = Annotated[
    str,
    typer.Argument(metavar="EXPERIMENT", help="Name (see config list), or a JSON file."),
]
Overlays = Annotated[
    list[str] | None,
    typer.Option("--overlay", help="Settings laid over the experiment, as 'demo'. Repeatable."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, as params.NA=0.8. Repeatable."),
]
ExperimentsFolder = Annotated[
    Path,
    typer.Option("--experiments", help="Folder of your experiments, searched first."),
]
Out = Annotated[Path, typer.Option("--out", help="File or folder of the result.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, help="Number that all random draws follow from.")
]
Device = Annotated[
    str, typer.Option("--device", help="auto (a GPU if there is one), cpu, cuda or cuda:N.")
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, max=1024, help="CPU threads; all by default.")
]
VoxelSizeUm = Annotated[
    tuple[float, float, float] | None,
    typer.Option("--voxel-size", metavar="Z Y X", help="In µm; needed if the file has none."),
]
Channel = Annotated[
    int | None, typer.Option("--channel", min=0, help="Number of the channel to read, from 0.")
]
Channels = Annotated[
    str | None,
    typer.Option(
        "--channel", metavar="N|all", help="Channels to read, from 0: a number, 0+2, 0:2 or all."
    ),
]
Times = Annotated[
    str | None,
    typer.Option(
        "--time", metavar="N|all", help="Time points to read, from 0: a number, 0+2, 0:9 or all."
    ),
]
PlanesAre = Annotated[
    Literal["C", "T"] | None,
    typer.Option("--planes-are", help="Planes are recorded as channels (C) or as time points (T)."),
]
ScanOffset = Annotated[
    str | None,
    typer.Option(
        "--scan-offset",
        metavar="find|PIXELS",
        help="Of a bidirectional scan: shift odd rows back, by PIXELS to the left or as found.",
    ),
]
ModelFolder = Annotated[Path, typer.Option("--model", help="Folder of a trained model.")]
AnyModel = Annotated[
    Path | None,
    typer.Option("--model", help="Folder of a trained model; by default that of every microscope."),
]
#: Panel of help with the options of models that serve every microscope.
MICROSCOPE = "Microscope, for a model of every microscope; by default that of the file"
NA = Annotated[
    float | None, typer.Option("--na", help="Numerical aperture.", rich_help_panel=MICROSCOPE)
]
Wavelength = Annotated[
    float | None,
    typer.Option("--wavelength", help="Excitation wavelength in µm.", rich_help_panel=MICROSCOPE),
]
Immersion = Annotated[
    float | None,
    typer.Option(
        "--immersion",
        help="Refractive index of the immersion medium.",
        rich_help_panel=MICROSCOPE,
    ),
]
Photons = Annotated[
    int | None,
    typer.Option(
        "--photons", min=1, max=2, help="Photons of one excitation.", rich_help_panel=MICROSCOPE
    ),
]
StructureUm = Annotated[
    float | None,
    typer.Option(
        "--thickness",
        help="Mean thickness of the structures in µm, where you know it.",
        rich_help_panel=MICROSCOPE,
    ),
]
Rois = Annotated[
    Path | None,
    typer.Option("--rois", help="Table of regions: roi, image, z, y, x, fold (CSV)."),
]
Fold = Annotated[int | None, typer.Option("--fold", min=0, help="Fold of the table of regions.")]
Data = Annotated[Path, typer.Option(help="Folder of stacks, or of folders of stacks.")]
Normalisation = Annotated[
    Literal["none", "minmax", "percentile"] | None,
    typer.Option(help="How raw intensities become 0 to 1; by default as the model was trained."),
]
Align = Annotated[
    bool | None,
    typer.Option("--align/--no-align", help="Align planes first; by default if the model can."),
]
Levels = Annotated[
    int | None,
    typer.Option(
        "--levels",
        min=1,
        max=65535,
        help="Write the scores alone, in so many levels (255: 8 bits), compressed.",
    ),
]
EXPERIMENTS = Path("config/experiments")
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]
Phantoms = Annotated[Path | None, typer.Option(help="Folder of phantoms.")]
Tuning = Annotated[
    Path | None, typer.Option(help="Folder of tuning phantoms, to calibrate the model on.")
]


def read_experiment(
    name: str, overlays: list[str] | None, settings: list[str] | None, folder: Path
) -> "Experiment":
    """Experiment of EXPERIMENT, `--overlay`, `--set` and `--experiments`."""
    from tenet.settings.load import load_experiment

    return load_experiment(name, overlays=overlays or (), settings=nested(settings), folder=folder)


def picked(option: str, text: str | None) -> "Picks | None":
    """Channels of `--channel`, or time points of `--time`."""
    from tenet.io.picks import Picks

    try:
        return None if text is None else Picks.parse(text)
    except TenetError as error:
        raise TenetError(f"{option}: {error}") from None


def nested(settings: list[str] | None) -> dict[str, Any]:
    """The values of `--set` options, KEY.KEY=VALUE."""
    from tenet.settings.load import nested_settings

    return nested_settings(settings or ())


def scan_offset(given: str | None) -> "float | Literal['find'] | None":
    """Read the value of --scan-offset.

    Raises
    ------
    TenetError
        If it is neither ``find`` nor a number.
    """
    from tenet.io.scan_offset import parse_scan_offset

    try:
        return None if given is None else parse_scan_offset(given)
    except TenetError as error:
        raise TenetError(f"--scan-offset {error}") from None
