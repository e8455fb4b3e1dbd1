"""Settings, tables and records with changed values and changed bytes: right, or one line."""

import json
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fuzz_changes import CHANGES, Change, all_changed
from fuzz_property import holds
from fuzz_values import OF_YAML, Edit, edited, edits
from hypothesis import example, given
from hypothesis import strategies as st

from tenet.errors import TenetError
from tenet.io.picks import Picks
from tenet.io.records import read_json, read_json_object, read_table
from tenet.model.shipped import shipped_model
from tenet.model.store import read_calibration, read_experiment, read_provenance, read_told
from tenet.model.weights import read_weights
from tenet.settings.load import load_experiment, nested_settings
from tenet.settings.schema import parse_experiment
from tenet.settings.sections import merge
from workflow.lib.sample_table import read_samples
from workflow.lib.validation import check_config, check_files

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "workflow/schemas"
TABLE = """# my stacks
name;file;voxel_z_um;voxel_y_um;voxel_x_um;channel;NA;wavelength;ni
a;größe.tif;1;0.12;0.12;0+1;0.8;0.92;1.33
b;größe.tif;2;0,25;0.25;;0.8;0.92;1.33
"""
CONFIGS = ("config", "demo")
RECORDS = ("experiment.json", "threshold.json", "provenance.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("settings")
    (made / "größe.tif").touch()
    return made


class Settings(dict[str, Any]):
    """Valid settings, which the report of a find leaves out."""

    def __repr__(self) -> str:
        return "…"


@pytest.fixture(scope="module")
def experiment() -> dict[str, Any]:
    shipped = json.loads((shipped_model() / "experiment.json").read_text())
    assert isinstance(shipped, dict)
    return Settings(shipped)


@pytest.fixture(scope="module")
def configuration() -> dict[str, Any]:
    base, demo = (yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in CONFIGS)
    return Settings(merge(base, demo))


# Values -------------------------------------------------------------------------------------------


@given(changes=edits())
def test_experiments(experiment: dict[str, Any], changes: list[Edit]) -> None:
    changed = edited(experiment, changes)
    holds("experiment", lambda: parse_experiment(changed, where="a.json"))


@given(changes=edits(*OF_YAML))
@example(changes=[Edit(0, "set", float("nan")), Edit(0, "rename", "a\nb")])
def test_configurations(configuration: dict[str, Any], changes: list[Edit]) -> None:
    changed = edited(configuration, changes)
    holds(
        "configuration",
        lambda: check_config(changed, SCHEMAS / "config.schema.yaml"),
        refusals=(ValueError,),
    )


@given(
    key=st.sampled_from(("params.bet_z", "train_loop.n_epochs", "params", "params.bet_z.a", "")),
    value=st.one_of(
        st.integers(-1, 9).map(str),
        st.floats().map(str),
        st.text(max_size=12),
        st.sampled_from(("1e400", "[[[", '{"a": NaN}', "[1, 2]")),
    ),
)
def test_options(key: str, value: str) -> None:
    def read() -> Any:
        return load_experiment("scale3", settings=nested_settings([f"{key}={value}"]))

    holds("option --set", read)


@given(text=st.one_of(st.text(max_size=12), st.from_regex(r"[-0-9,.: a]{0,16}", fullmatch=True)))
def test_picks(text: str) -> None:
    holds("channels and times", lambda: Picks.parse(text))


# Bytes --------------------------------------------------------------------------------------------


def changed_file(path: Path, content: bytes, changes: list[Change]) -> Path:
    path.write_bytes(all_changed({path.name: content}, changes)[path.name])
    return path


@pytest.mark.parametrize("name", RECORDS)
@given(changes=CHANGES)
def test_records_of_a_model(folder: Path, name: str, changes: list[Change]) -> None:
    model = folder / "model"
    model.mkdir(exist_ok=True)
    for record in RECORDS:
        shutil.copyfile(shipped_model() / record, model / record)
    path = changed_file(model / name, (model / name).read_bytes(), changes)

    def read() -> Any:
        if name == "experiment.json":
            return parse_experiment(read_json_object(path), where=str(path))
        found = read_experiment(model)
        return read_calibration(model), read_provenance(model), read_told(model, found.params)

    holds(name, read, within=folder)


@given(changes=CHANGES)
def test_files_of_experiments(folder: Path, changes: list[Change]) -> None:
    content = (ROOT / "config/experiments/scale3_align.json").read_bytes()
    path = changed_file(folder / "changed.json", content, changes)
    holds("file of an experiment", lambda: load_experiment(path), within=folder)


@given(changes=CHANGES, demo=st.booleans())
def test_files_of_configurations(
    folder: Path, configuration: dict[str, Any], changes: list[Change], demo: bool
) -> None:
    content = (ROOT / f"config/{CONFIGS[demo]}.yaml").read_bytes()
    path = changed_file(folder / "config.yaml", content, changes)

    def read() -> Any:
        check_files([path])
        try:
            found = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        except (ValueError, yaml.YAMLError):
            raise ValueError("Snakemake has read it, and says so itself") from None
        if not isinstance(found, dict):
            raise ValueError("Snakemake has read it, and says so itself")
        return check_config(merge(configuration, found), SCHEMAS / "config.schema.yaml")

    holds("file of a configuration", read, refusals=(ValueError,), within=folder)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
@given(changes=CHANGES)
def test_sample_tables(folder: Path, encoding: str, changes: list[Change]) -> None:
    path = changed_file(folder / "samples.tsv", TABLE.encode(encoding), changes)
    with chdir(folder):
        holds(
            "sample table",
            lambda: read_samples(path, SCHEMAS / "samples.schema.yaml"),
            refusals=(ValueError,),
            within=folder,
        )


@given(changes=CHANGES)
def test_json(folder: Path, changes: list[Change]) -> None:
    content = (shipped_model() / "provenance.json").read_bytes()
    path = changed_file(folder / "a.json", content, changes)
    holds("JSON", lambda: read_json(path), within=folder)


@given(changes=CHANGES)
def test_tables(folder: Path, changes: list[Change]) -> None:
    content = b"image,z,share,note\n1,2,0.5,a\n2,3,0.25,b\n3,4,,c\n"
    path = changed_file(folder / "a.csv", content, changes)

    def read() -> Any:
        return read_table(path, ("image",), numbers=("z",), gaps=("share",), whole=("image",))

    holds("table", read, within=folder)


@given(changes=CHANGES)
def test_weights(folder: Path, changes: list[Change]) -> None:
    valid = folder / "valid.pt"
    if not valid.exists():
        torch.save({"a.weight": torch.ones(4, 3), "n": 3}, valid)
    path = changed_file(folder / "model.pt", valid.read_bytes(), changes)
    holds("weights", lambda: read_weights(path), within=folder)


def test_what_is_changed_is_valid_before(
    folder: Path,
    experiment: dict[str, Any],
    configuration: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    (folder / "samples.tsv").write_text(TABLE)
    assert list(read_samples(folder / "samples.tsv", SCHEMAS / "samples.schema.yaml")) == ["a", "b"]
    assert parse_experiment(experiment, where="a").name == "box"
    check_config(configuration, SCHEMAS / "config.schema.yaml")
    with pytest.raises(TenetError):
        parse_experiment({"name": 3}, where="a")
