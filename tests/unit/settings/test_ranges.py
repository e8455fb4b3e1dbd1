"""Ranges of settings: every number has one, and so have the products that decide memory."""

import math
from pathlib import Path
from typing import Any

import pytest

from tenet.errors import TenetError
from tenet.settings.load import load_experiment
from tenet.settings.own_stack import sample_experiment
from tenet.settings.schema import Experiment, parse_experiment, parse_params
from tenet.settings.sections import merge

EXPERIMENTS = Path(__file__).parents[3] / "config/experiments"
PARAMS: dict[str, Any] = {
    "NA": 0.7,
    "wavelength": 0.9,
    "res_lateral": 0.05,
    "res_axial": 0.5,
    "scale": 10,
}


def refusal(changes: dict[str, Any]) -> str:
    with pytest.raises(TenetError) as error:
        parse_experiment(merge({"params": PARAMS, "name": "x"}, changes))
    assert str(error.value).isprintable()
    return str(error.value)


def unbounded(schema: dict[str, Any]) -> bool:
    """Whether a JSON schema is that of a number without an upper or a lower end."""
    if schema.get("type") not in ("number", "integer") or schema.keys() & {"const", "enum"}:
        return False
    ends = ({"maximum", "exclusiveMaximum"}, {"minimum", "exclusiveMinimum"})
    return any(not schema.keys() & end for end in ends)


def test_every_number_of_the_schema_has_both_ends() -> None:
    schema = Experiment.model_json_schema()
    sections = {"Experiment": schema, **schema["$defs"]}
    free = []
    for name, section in sections.items():
        for key, field in section["properties"].items():
            parts = [field, *field.get("anyOf", []), *field.get("prefixItems", [])]
            parts += [inner for part in parts for inner in (part.get("items"),) if inner]
            parts += [inner for part in parts for inner in part.get("prefixItems", [])]
            free += [f"{name}.{key}" for part in parts if unbounded(part)]
    assert free == ["ModelParams.NA"]  # its lower end has a message of its own


@pytest.mark.parametrize(
    ("section", "key", "values"),
    [
        ("params", "size_z", [10**9, 10**17]),
        ("params", "size_y", [10**6 + 1]),
        ("params", "nblocks", [10**6, 65]),
        ("params", "deconvolution_steps", [10**9, 10_001]),
        ("params", "hidden_channels_list", [[10**7], [4096] * 5, [1] * 9]),
        ("params", "scale", [10**6, 101]),
        ("params", "mid", [10**9, 1025]),
        ("params", "num_iter_psf_pretrain", [10**9]),
        ("params", "ns", [0.9, 5, 1e308]),
        ("params", "ni", [0.9, 1e308]),
        ("params", "M", [0, 1e308]),
        ("params", "NA", [20, 1e308, 1e-300]),
        ("params", "bet_z", [1e-300, 1e308]),
        ("simulation_data_generation", "object_scale", [1e-300, 1e308]),
        ("params", "ti0", [1e308]),
        ("params", "attn_list", [[True] * 10**4]),
        ("train_dataset", "cropsize", [[10**9, 16, 16], [80_000, 16_000, 16_000]]),
        ("train_dataset", "margin", [[10**9, 0, 0]]),
        ("train_dataset", "I", [10**9]),
        ("train_dataset", "mask_num", [10**9]),
        ("train_dataset", "seed", [-1]),
        ("train_loop", "batch_size", [10**9]),
        ("train_loop", "n_epochs", [10**9]),
        ("train_loop", "accumulate", [10**9]),
        ("train_loop", "mrfloss_dilation", [10**9]),
        ("train_loop", "mrfloss_weights", [{"l_00": 1e308}]),
        ("pretrain_loop", "lr", [1e308, 0]),
        ("pretrain_loop", "weight_z", [1e308]),
        ("simulation_data_generation", "image_size", [[10**6] * 3, [10**9, 1, 1]]),
        ("simulation_data_generation", "train_object_num_max", [10**9, 1]),
        ("simulation_data_generation", "line_thickness", [[9, 3], [0.5, 1]]),
        ("microscopes", "count", [10**9]),
        ("microscopes", "depth", [1e308]),
        ("vibration", "max_step", [10**9]),
        ("align_params", "hidden_channels_list", [[4096] * 5]),
        ("visualization", "mip", [10**9]),
    ],
)
def test_absurd_settings_are_refused(section: str, key: str, values: list[Any]) -> None:
    for value in values:
        assert key.removesuffix("_max") in refusal({section: {key: value}})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"params": {"size_z": 10**4, "size_y": 9999, "size_x": 9999}}, "voxels of the PSF"),
        ({"params": {"size_z": 4000, "size_y": 101, "size_x": 101, "mid": 1024}}, "in the fit"),
        ({"params": {"nblocks": 64, "hidden_channels_list": [2048]}}, "nblocks: weights"),
        (
            {"train_loop": {"batch_size": 4096}, "train_dataset": {"cropsize": [480, 480, 480]}},
            "train_dataset.cropsize with margins, batch_size",
        ),
        ({"microscopes": {"count": 1000}}, "voxels of all PSFs"),
        ({"simulation_data_generation": {"image_size": [4000, 4000, 4000]}}, "image_size: voxels"),
    ],
)
def test_products_that_decide_memory(changes: dict[str, Any], named: str) -> None:
    message = refusal(changes)
    assert named in message
    assert "at most" in message


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"wavelength": 920}, "is it in nm? Then give 0.92"),
        ({"wavelength": 0.92e-6}, "is it in m? Then give 0.92"),
        ({"wavelength": 0.92e-3}, "is it in mm? Then give 0.92"),
        ({"res_lateral": 310, "res_axial": 1000}, "is it in nm? Then give 0.31"),
        ({"res_axial": 1000}, "is it in nm? Then give 1"),
        ({"res_lateral": 3.1e-7, "res_axial": 1e-6}, "is it in m? Then give 0.31"),
        ({"wavelength": 50}, "check its value"),
    ],
)
def test_lengths_in_another_unit(changes: dict[str, float], hint: str) -> None:
    assert hint in refusal({"params": changes})


@pytest.mark.parametrize(
    ("voxel_um", "hint"), [((1000, 310, 310), "nm"), ((1e-6, 3e-7, 3e-7), "m")]
)
def test_stacks_in_another_unit(voxel_um: tuple[float, float, float], hint: str) -> None:
    base = load_experiment("sample", folder=EXPERIMENTS)
    with pytest.raises(TenetError, match=rf"^mine\.tif: .*is it {hint}\?"):
        sample_experiment(base, voxel_um, where="mine.tif", na=0.3, wavelength_um=0.9)


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": 2},  # every second plane of a stack that is ten times coarser
        {"scale": 1, "res_axial": 0.05, "size_z": 200},  # of even size, one plane too many
        {"size_z": 15},  # not even two coarse planes
    ],
)
def test_the_published_geometry_keeps_the_number_of_planes(changes: dict[str, Any]) -> None:
    with pytest.raises(TenetError, match="psf_sampling"):
        parse_params({**PARAMS, **changes})
    assert parse_params({**PARAMS, **changes, "psf_sampling": "continuous"})


def test_attention_needs_channels_for_its_heads() -> None:
    channels = {"hidden_channels_list": [4, 8]}
    assert parse_params({**PARAMS, **channels, "attn_list": [False, True]})
    with pytest.raises(TenetError, match="attn_list: attention has 8 heads"):
        parse_params({**PARAMS, **channels, "attn_list": [True, False]})


# Any value in any place

STRANGE = [None, -1, 0, 1e308, "x", [], {}, True, 10**17, [[[1]]], math.nan, 10**5000, object()]


def places(value: Any, *path: Any) -> list[tuple[Any, ...]]:
    """Where values lie in nested mappings and lists, each as a path of keys."""
    found = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        found.append((*path, key))
        if isinstance(item, dict | list):
            found += places(item, *path, key)
    return found


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], by)
    return copy


@pytest.mark.parametrize("name", ["fig3_beads", "scale3_align"])
def test_any_value_in_any_place_is_read_or_refused_in_one_line(name: str) -> None:
    data = load_experiment(name, folder=EXPERIMENTS).model_dump(mode="json")
    refused = []
    for path in places(data):
        for value in STRANGE:
            try:
                parse_experiment(replaced(data, path, value))
            except TenetError as error:
                refused.append(str(error))
    assert len(refused) > 500
    assert all(message.isprintable() and len(message) < 600 for message in refused)


@pytest.mark.parametrize("data", [None, [], 3, "x", {1: 2}, {None: 2}, {("a",): 1}])
def test_what_is_no_mapping_of_settings(data: Any) -> None:
    with pytest.raises(TenetError):
        parse_experiment(data)
