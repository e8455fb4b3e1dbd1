"""Experiment files: what is read, what is refused, and what the message says."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tenet.errors import TenetError
from tenet.settings.load import load_experiment
from tenet.settings.schema import Experiment, parse_params
from tenet.settings.sections import merge

EXPERIMENTS = Path(__file__).parents[3] / "config/experiments"
PAPER = {
    "fig2_phantoms", "fig2_angle00", "fig2_angle45", "fig2_angle90", "fig3_beads", "fig4_neurons",
    "fig5_microglia", "supp_no_ewc", "supp_no_psf", "supp_no_vq", "supp_x2_ewc", "supp_x2_psf",
    "supp_x2_vq", "supp_mrf", "supp_gaussian_psf", "scale3", "scale10", "scale12", "gaussian10",
}  # fmt: skip
PARAMS: dict[str, Any] = {
    "NA": 0.7,
    "wavelength": 0.9,
    "res_lateral": 0.05,
    "res_axial": 0.5,
    "scale": 10,
}


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / f"{name}.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def load(folder: Path, name: str = "mine", **kwargs: Any) -> Experiment:
    return load_experiment(name, folder=folder, **kwargs)


def refusal(folder: Path, content: Any, **kwargs: Any) -> str:
    """What is said of an experiment that is wrong; always one line."""
    write(folder, "mine", content)
    with pytest.raises(TenetError) as error:
        load(folder, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# What is read


def test_users_own_file_as_it_stands(shared: Path) -> None:
    experiment = load_experiment(shared / "reference/JNet_beads.json")
    params = experiment.params
    assert experiment.name == "JNet_beads"
    assert experiment.pretrained_model == "JNet_pretrain"
    assert params.hidden_channels_list == (16, 32, 64, 128, 256)
    assert params.attn_list == (False,) * 5
    assert (params.NA, params.wavelength, params.scale) == (0.7, 0.9, 10)
    assert params.fine_voxel_size_um == (0.05, 0.05, 0.05)
    assert params.psf_sampling == "lookup"
    assert params.nipsf_loss_target == 1e-5
    assert experiment.pretrain_dataset.mask_num == 30
    assert experiment.pretrain_val_dataset.mask_num == 0  # written as false
    assert (experiment.pretrain_val_dataset.low, experiment.pretrain_val_dataset.high) == (16, 20)
    assert experiment.pretrain_loop.loss_fnx == "nn.BCELoss()"
    assert experiment.pretrain_loop.es_patience == 10
    assert experiment.test_dataset.test_images == ("00", "03", "04")
    assert experiment.vibration.noise_inv_var_alpha.max == 10
    assert experiment.train_loop.ewc is True
    assert experiment.train_loop.mrfloss_weights.l_11 == 0


def test_extends_states_only_what_differs(tmp_path: Path) -> None:
    write(tmp_path, "base", {"name": "base", "explanation": "base", "params": PARAMS})
    write(tmp_path, "other", {"params": {"NA": 0.3, "pZ": 25}, "train_loop": {"lr": 0.5}})
    write(tmp_path, "mine", {"extends": ["base", "other"], "params": {"pZ": 40}})
    experiment = load(tmp_path)
    assert experiment.name == "mine"
    assert experiment.explanation == ""
    assert experiment.params.NA == 0.3  # the last of those extended wins
    assert experiment.params.pZ == 40  # what the file itself says wins over all
    assert experiment.params.wavelength == 0.9
    assert experiment.train_loop.lr == 0.5


def test_overlays_and_settings_lie_on_top(tmp_path: Path) -> None:
    write(tmp_path, "mine", {"params": PARAMS, "train_loop": {"n_epochs": 7, "lr": 0.25}})
    write(tmp_path, "small", {"train_loop": {"n_epochs": 3}})
    assert load(tmp_path, overlays=["small"]).train_loop.n_epochs == 3
    both = load(tmp_path, overlays=["small"], settings={"train_loop": {"n_epochs": 2}})
    assert both.train_loop.n_epochs == 2
    assert both.train_loop.lr == 0.25
    named = {"by_experiment": {"mine": {"train_loop": {"n_epochs": 5}}}}
    named |= {"by_scale": {"10": {"train_loop": {"n_epochs": 4}}}}
    write(tmp_path, "small", {"train_loop": {"n_epochs": 3}} | named)
    assert load(tmp_path, overlays=["small"]).train_loop.n_epochs == 5
    write(tmp_path, "other", {"extends": "mine"})
    other = load_experiment("other", overlays=["small"], folder=tmp_path)
    assert other.train_loop.n_epochs == 4


def test_keys_with_a_dollar_are_comments(tmp_path: Path) -> None:
    params = PARAMS | {"$NA": ["any", {"thing": 1}], "$": "", "pre$": "x"}
    write(tmp_path, "mine", {"params": params, "$params": "the microscope"})
    assert load(tmp_path).params.NA == 0.7


def test_merge_replaces_anything_but_mappings() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}}
    assert merge(base, {"a": {"c": [3]}, "d": 4}) == {"a": {"b": 1, "c": [3]}, "d": 4}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}}


def test_an_experiment_is_frozen(tmp_path: Path) -> None:
    write(tmp_path, "mine", {"params": PARAMS})
    experiment = load(tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        experiment.params.NA = 1.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        experiment.name = "other"  # type: ignore[misc]


# Experiments of the paper


@pytest.mark.parametrize("overlays", [[], ["demo"]], ids=["paper", "demo"])
@pytest.mark.parametrize("name", sorted(PAPER))
def test_every_experiment_of_the_paper_resolves(name: str, overlays: list[str]) -> None:
    experiment = load_experiment(name, overlays=overlays, folder=EXPERIMENTS)
    assert experiment.name == name
    if experiment.pretrained_model:
        source = load_experiment(
            experiment.pretrained_model, overlays=overlays, folder=EXPERIMENTS
        ).params
        # Weights only fit the same network; the PSF must be the one that was fitted.
        for key in ("scale", "hidden_channels_list", "network", "size_z", "NA", "blur_mode"):
            assert getattr(source, key) == getattr(experiment.params, key), key


@pytest.mark.parametrize(
    ("name", "scale", "optics", "voxels", "psf", "noise", "weights", "mrf", "vibrates"),
    [
        ("fig2_phantoms", 3, (0.3, 0.5, 1.33), (0.31, 1.0), (201, 51, 51), (0.1, 0.01),
         (0.1, 1, 10), (-0.5, 0.5, 1, -1), True),
        ("fig2_angle45", 3, (0.3, 0.5, 1.33), (0.31, 1.0), (201, 51, 51), (0.1, 0.01),
         (0.1, 1, 10), (-0.5, 0.5, 1, -1), True),
        ("fig3_beads", 10, (0.7, 0.9, 1.33), (0.05, 0.5), (201, 51, 51), (1e-3, 1e-3),
         (1, 1, 1), (0, 0, 0, 0), False),
        ("fig4_neurons", 3, (0.3, 0.5, 1.33), (0.31, 1.0), (201, 51, 51), (0.1, 0.01),
         (0.1, 1, 10), (-1, 1, 2, -2), True),
        ("fig5_microglia", 12, (0.24, 0.72, 1.5), (1, 12), (61, 9, 9), (0.01, 0.01),
         (1, 1, 10), (-4, 4, 8, -8), True),
        ("supp_no_ewc", 10, (0.7, 0.9, 1.33), (0.05, 0.5), (201, 51, 51), (1e-3, 1e-3),
         (0, 1, 1), (0, 0, 0, 0), False),
        ("supp_x2_psf", 10, (0.7, 0.9, 1.33), (0.05, 0.5), (201, 51, 51), (1e-3, 1e-3),
         (1, 1, 2), (0, 0, 0, 0), False),
        ("supp_mrf", 10, (0.7, 0.9, 1.33), (0.05, 0.5), (201, 51, 51), (1e-3, 1e-3),
         (1, 1, 1), (-1, 0, 0, -1), False),
    ],
)  # fmt: skip
def test_settings_of_the_paper(
    name: str,
    scale: int,
    optics: tuple[float, ...],
    voxels: tuple[float, float],
    psf: tuple[int, int, int],
    noise: tuple[float, float],
    weights: tuple[float, float, float],
    mrf: tuple[float, ...],
    vibrates: bool,
) -> None:
    experiment = load_experiment(name, folder=EXPERIMENTS)
    params, loop = experiment.params, experiment.train_loop
    assert params.scale == scale
    assert (params.NA, params.wavelength, params.ni) == optics
    assert params.ni0 == params.ni
    assert (params.res_lateral, params.res_axial) == voxels
    assert (params.size_z, params.size_y, params.size_x) == psf
    assert (params.poisson_weight, params.sig_eps) == noise
    assert (loop.ewc_weight, loop.qloss_weight, loop.ploss_weight) == weights
    energies = loop.mrfloss_weights
    assert (energies.l_00, energies.l_01, energies.l_10, energies.l_11) == mrf
    source = load_experiment(experiment.pretrained_model, folder=EXPERIMENTS)
    assert source.pretrain_loop.is_vibrate is vibrates


def test_gaussian_experiment_has_a_gaussian_psf() -> None:
    params = load_experiment("supp_gaussian_psf", folder=EXPERIMENTS).params
    assert (params.blur_mode, params.bet_z, params.bet_xy) == ("gaussian", 5, 10)


# What is refused


def test_nearest_right_key_is_named(tmp_path: Path) -> None:
    message = refusal(tmp_path, {"params": PARAMS | {"wavelenght": 0.5}})
    assert "'wavelenght'" in message
    assert "did you mean 'wavelength'?" in message
    message = refusal(tmp_path, {"params": PARAMS, "train_lop": {}})
    assert "did you mean 'train_loop'?" in message
    message = refusal(tmp_path, {"params": PARAMS, "vibration": {"b_sigma": {"mim": 0, "max": 1}}})
    assert "vibration: b_sigma" in message
    assert "did you mean 'min'?" in message
    message = refusal(tmp_path, {"params": PARAMS, "zzz": 1})
    assert "known: " in message
    assert "params" in message


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"NA": "0.7"}, ("params.NA", "number", '"0.7"')),
        ({"scale": 2.5}, ("params.scale", "integer")),
        ({"scale": 0}, ("params.scale", "greater than 0")),
        ({"apply_vq": 1}, ("params.apply_vq", "boolean")),
        ({"hidden_channels_list": 16}, ("params.hidden_channels_list",)),
        ({"NA": -0.7}, ("NA is -0.7", "above 0")),
        ({"NA": 0}, ("NA is 0", "above 0")),
        ({"NA": 1.4}, ("NA 1.4 is above the immersion index 1.33",)),
        ({"NA": 1.4, "ni": 1.5}, ("immersion index 1.33",)),  # the design value counts too
        ({"wavelength": -1}, ("params.wavelength", "greater than 0")),
        ({"res_axial": 0.01}, ("finer than", "0.05")),
        ({"size_x": 50}, ("odd",)),
        ({"attn_list": [True]}, ("attn_list", "differ in length")),
        (
            {"network": "coarse", "hidden_channels_list": [8, 8], "attn_list": [False, True]},
            ('attn_list: only network "jnet" has attention',),
        ),
        ({"dropout": 1.0}, ("params.dropout", "less than 1")),
        ({"blur_mode": "airy"}, ("params.blur_mode", "gibsonlanni", "gaussian")),
        ({"loss_fn": "__import__('os').system('true')"}, ("params.loss_fn",)),
    ],
)
def test_impossible_params_are_refused(
    tmp_path: Path, params: dict[str, Any], expected: tuple[str, ...]
) -> None:
    message = refusal(tmp_path, {"params": PARAMS | params})
    for part in ("mine.json", *expected):
        assert part in message


FREE = {
    "network": "cells",
    "psf_sampling": "continuous",
    "deconvolution_steps": 20,
    "photons": 2,
}


@pytest.mark.parametrize(
    ("params", "microscopes", "expected"),
    [
        ({"network": "coarse"}, {}, 'needs params.network "cells"'),
        ({"psf_sampling": "lookup"}, {}, 'needs params.psf_sampling "continuous"'),
        ({"blur_mode": "gaussian"}, {}, 'needs params.blur_mode "gibsonlanni"'),
        ({"deconvolution_steps": 0}, {}, "needs params.deconvolution_steps of 1"),
        ({}, {"count": 0}, "needs a microscopes.count of 1"),
        ({}, {"free": {"pixels": [6, 2]}}, "pixels: at least 6 but at most 2; exchange them"),
        (
            {},
            {"free": {"apertures": [0.3, 1.4]}},
            "apertures must end below the immersion index 1.33",
        ),
        ({}, {"free": {"apertures": [0.3, 1.33]}}, "must end below the immersion index 1.33"),
        ({}, {"count": 1000}, "voxels of all PSFs are 1000 x 201 x 61 x 61"),
        ({}, {"free": {"scales": []}}, "microscopes.free.scales"),
        ({}, {"free": {"scales": [0]}}, "microscopes.free.scales"),
    ],
)
def test_free_microscopes_need_a_network_for_every_scale(
    tmp_path: Path, params: dict[str, Any], microscopes: dict[str, Any], expected: str
) -> None:
    settings = {"count": 4, "free": {}} | microscopes
    message = refusal(tmp_path, {"params": PARAMS | FREE | params, "microscopes": settings})
    assert expected in message


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"margin": [8, 0, 0]}, "needs a margin of 0 along z in pretrain_dataset"),
        ({"cropsize": [8, 112, 112]}, "cropsize has 8 fine planes, and microscopes.free.scales"),
    ],
)
def test_crops_hold_every_scale_of_free_microscopes(
    tmp_path: Path, section: dict[str, Any], expected: str
) -> None:
    settings = {"params": PARAMS | FREE | {"scale": 4}, "pretrain_dataset": section}
    assert expected in refusal(tmp_path, settings | {"microscopes": {"count": 4, "free": {}}})


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("key", ["NA", "wavelength", "ti0", "res_axial", "poisson_weight"])
def test_numbers_that_are_none_are_refused(tmp_path: Path, key: str, value: float) -> None:
    refusal(tmp_path, {"params": PARAMS | {key: value}})


def test_missing_microscope_is_named(tmp_path: Path) -> None:
    assert "params" in refusal(tmp_path, {})
    without = {key: value for key, value in PARAMS.items() if key != "wavelength"}
    message = refusal(tmp_path, {"params": without})
    assert "params.wavelength" in message
    assert "required" in message


def test_loss_strings_are_looked_up(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w')"
    refusal(tmp_path, {"params": PARAMS, "pretrain_loop": {"loss_fnx": code}})
    assert not marker.exists()


def test_crop_must_fit_the_network(tmp_path: Path) -> None:
    # 5 levels: 16 in y and x; in z the least common multiple of 16 and 10.
    for size in ([240, 112, 100], [160, 112, 112], [240, 112, 112]):
        content = {"params": PARAMS, "train_dataset": {"cropsize": size}}
        if size in ([240, 112, 112], [160, 112, 112]):
            write(tmp_path, "mine", content)
            assert load(tmp_path).train_dataset.cropsize == tuple(size)
        else:
            message = refusal(tmp_path, content)
            assert "train_dataset.cropsize" in message
            assert "(80, 16, 16)" in message
    message = refusal(tmp_path, {"params": PARAMS, "val_dataset": {"cropsize": [120, 112, 112]}})
    assert "val_dataset.cropsize" in message


def test_scale_of_a_data_set_must_be_the_models(tmp_path: Path) -> None:
    message = refusal(tmp_path, {"params": PARAMS, "train_dataset": {"scale": 3}})
    assert "train_dataset.scale 3" in message


def test_unknown_experiment_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(TenetError, match=r"no experiment 'fig3_bead' .* mean 'fig3_beads'"):
        load_experiment("fig3_bead", folder=EXPERIMENTS)
    with pytest.raises(
        TenetError, match=r"no experiment 'nothing' in .* `tenet config list` lists all"
    ):
        load(tmp_path, "nothing")
    with pytest.raises(TenetError, match="no experiment 'nothing'"):
        load_experiment("fig3_beads", overlays=["nothing"], folder=EXPERIMENTS)


def test_extends_cannot_go_round_in_circles(tmp_path: Path) -> None:
    assert "extends itself" in refusal(tmp_path, {"extends": "mine", "params": PARAMS})
    write(tmp_path, "other", {"extends": "mine"})
    message = refusal(tmp_path, {"extends": "other", "params": PARAMS})
    assert "extends itself" in message
    assert "other.json" in message


@pytest.mark.parametrize("name", ["../mine", "/etc/passwd", "folder/mine", "..", "", ".", "./mine"])
def test_extends_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    write(tmp_path, "mine", {"params": PARAMS})
    refusal(inner, {"extends": name, "params": PARAMS})


@pytest.mark.parametrize("extends", [3, [3], {"a": 1}, [None]])
def test_extends_must_be_names(tmp_path: Path, extends: Any) -> None:
    assert "extends" in refusal(tmp_path, {"extends": extends, "params": PARAMS})


@pytest.mark.parametrize("content", ["{", "[1]", "3", "", '{"params": }'])
def test_not_json(tmp_path: Path, content: str) -> None:
    assert "JSON" in refusal(tmp_path, content)


def test_binary_file_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_bytes(b"\xff\xfe\x00II*\x00")
    with pytest.raises(TenetError, match="no text in UTF-8"):
        load(tmp_path)


def test_params_alone() -> None:
    assert parse_params(PARAMS).divisor_zyx == (80, 16, 16)
    with pytest.raises(TenetError, match="somewhere: unknown key 'na'"):
        parse_params({**PARAMS, "na": 1}, where="somewhere")
    with pytest.raises(TenetError, match="hidden_channels_list"):
        parse_params({**PARAMS, "hidden_channels_list": []})
