"""A package for the BioImage Model Zoo: what its own programs make of it, and what is refused."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
import yaml
from small_models import experiment, random_model

from tenet.enhance.enhance import enhance_array
from tenet.errors import TenetError
from tenet.model.portable import to_torchscript
from tenet.model.shipped import shipped_model
from tenet.model.store import save_model
from tenet.model.tenet import TENET
from tenet.model.trained import TrainedModel
from tenet.settings.load import PACKAGED, load_experiment
from tenet.settings.schema import Experiment, parse_params
from tenet.tasks import zoo
from tenet.tasks.export_model import (
    _check,
    _of_one_microscope,
    export_model,
    shown_intensities,
    simulated_stack,
)
from tenet.tasks.zoo import ARTICLE, AUTHORS, DOI, LICENCE, Sizes, steps_um

ROOT = Path(__file__).parents[3]
PARAMS: dict[str, Any] = {"network": "coarse", "deconvolution_steps": 3, "scale": 4}
#: No program of the zoo may reach the network here.
OFFLINE = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "all_proxy")}


def run(*words: str | Path, folder: Path) -> str:
    """Run a command as a user does, without a network; what it printed."""
    environment = {**os.environ, **OFFLINE, "BIOIMAGEIO_CACHE_PATH": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", *words], env=environment, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "mine"
    settings = experiment(**PARAMS).model_dump()
    settings["train_dataset"] |= {"normalisation": "percentile"}
    save_model(folder, random_model(**PARAMS), Experiment.model_validate(settings), {})
    return folder


@pytest.fixture(scope="module")
def package(model: Path) -> Path:
    """The package that the command writes."""
    out = model.with_name("mine.zip")
    assert run("tenet", "export-model", model, "--out", out, folder=model.parent) == f"{out}\n"
    return out


@pytest.fixture(scope="module")
def described(package: Path) -> dict[str, Any]:
    with ZipFile(package) as archive:
        found: dict[str, Any] = yaml.safe_load(archive.read("rdf.yaml"))
    return found


@pytest.fixture
def pipeline(package: Path) -> Iterator[Any]:
    from bioimageio.core import create_prediction_pipeline
    from bioimageio.spec import load_model_description

    with create_prediction_pipeline(load_model_description(package)) as pipeline:
        yield pipeline


def test_the_zoo_own_test_passes(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bioimageio test` reproduces the outputs, at batches and sizes of its own too."""
    from bioimageio.core import load_description_and_test

    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    summary = load_description_and_test(package).validation_summary
    assert summary.status == "passed"
    assert {detail.status for detail in summary.details} == {"passed"}
    names = [detail.name for detail in summary.details]
    assert "Reproduce test outputs from test inputs (torchscript)" in names
    assert sum(name.startswith("Run torchscript inference for inputs") for name in names) == 6


@pytest.mark.parametrize("more_zyx", [(0, 0, 0), (3, 6, 16)])
def test_its_pipeline_gives_what_tenet_gives(
    model: Path, pipeline: Any, more_zyx: tuple[int, int, int]
) -> None:
    from bioimageio.core import Tensor
    from bioimageio.core.digest_spec import create_sample_for_model

    trained = TrainedModel.load(model)
    z, y, x = (n + more for n, more in zip(Sizes.of(trained).least_zyx, more_zyx, strict=True))
    raw = simulated_stack(trained, (z, y, x), seed=3)
    dims = ("batch", "channel", "z", "y", "x")
    sample = create_sample_for_model(
        pipeline.model_description, inputs={"raw": Tensor.from_numpy(raw[None, None], dims=dims)}
    )
    result = pipeline.predict_sample_without_blocking(
        sample, skip_input_padding=True, skip_output_cropping=True
    )
    found = result.members["enhanced"].data.to_numpy()[0]
    expected = np.stack(enhance_array(trained.network, shown_intensities(trained, raw)))
    assert found.shape == (2, 4 * z, y, x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert expected[0].std() > 0.01  # not all alike


def test_a_folder_holds_the_same_bytes(package: Path, model: Path) -> None:
    """Written by another process, with another name: equal models give equal packages."""
    out = model.with_name("as_folder")
    run("tenet", "export-model", model, "--out", out, folder=model.parent)
    with ZipFile(package) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files
    assert files.keys() == {
        "README.md", "cover.png", "rdf.yaml", "test_input.npy", "test_output.npy", "weights.pt",
    }  # fmt: skip
    assert not list(model.parent.glob(".*"))  # nothing unfinished is left


def test_voxel_sizes_say_how_many_planes_come_out(described: dict[str, Any]) -> None:
    raw, enhanced = ({a.get("id", a["type"]): a for a in described[key][0]["axes"]}
                     for key in ("inputs", "outputs"))  # fmt: skip
    assert list(raw) == list(enhanced) == ["batch", "channel", "z", "y", "x"]
    assert enhanced["channel"]["channel_names"] == ["shape", "brightness"]
    for axis, um, times in (("z", 0.4, 4), ("y", 0.1, 1), ("x", 0.1, 1)):
        taken, given = raw[axis], enhanced[axis]
        assert given["size"] == {"tensor_id": "raw", "axis_id": axis}
        assert taken["unit"] == given["unit"] == "micrometer"
        assert taken["scale"] == pytest.approx(um)
        for n in range(1, 3000):  # in the arithmetic of the specification
            assert n * taken["scale"] / given["scale"] == times * n
        assert taken["size"]["min"] > 2 * given["halo"] / times
    assert [raw[axis]["size"]["step"] for axis in "zyx"] == [1, 2, 2]


@pytest.mark.parametrize("scale", [1, 3, 7, 8, 10, 12])
@pytest.mark.parametrize("um", [0.31, 1.0, 0.737, 12.0])
def test_steps_give_whole_numbers_of_planes_and_borders(scale: int, um: float) -> None:
    settings = experiment().params.model_dump() | {"scale": scale, "res_axial": um}
    coarse, fine = steps_um(parse_params(settings, where="params"))
    assert coarse == pytest.approx((um, 0.1, 0.1))
    for n in range(1, 5000):
        assert n * coarse[0] / fine[0] == n * scale
        assert n * scale * fine[0] / coarse[0] == n == n * fine[1] / coarse[1]


def test_who_made_it_is_as_in_the_citation(described: dict[str, Any]) -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    article = cited["preferred-citation"]
    assert [author["name"] for author in cited["authors"]] == list(AUTHORS)
    names = [f"{a['given-names']} {a['family-names']}" for a in article["authors"]]
    year, journal = article["year"], article["journal"]
    assert ARTICLE.startswith(f"{', '.join(names)}: {article['title']}. {journal}, {year}, ")
    assert cited["license"] == LICENCE
    record = yaml.safe_load((ROOT / "config/config.yaml").read_text())["zenodo"]["record"]
    assert f"10.5281/zenodo.{record}" == DOI
    assert described["license"] == "MIT"
    assert described["cite"] == [{"text": ARTICLE, "doi": DOI}]
    assert described["authors"] == [{"name": "TENET developers"}]


def test_intensities_are_scaled_as_the_model_scales_them(
    model: Path, described: dict[str, Any]
) -> None:
    steps = {s["id"]: s.get("kwargs") for s in described["inputs"][0]["preprocessing"]}
    assert steps["scale_range"]["min_percentile"] == 25
    assert steps["scale_range"]["max_percentile"] == 99.99
    assert steps["clip"] == {"min": 0.0, "max": 1.0}
    trained = TrainedModel.load(model)
    raw = np.random.default_rng(0).normal(500, 90, (8, 40, 30)).astype(np.float32)
    shown = shown_intensities(trained, raw)
    low, high = np.percentile(raw, (25, 99.99))
    np.testing.assert_allclose(shown, np.clip((raw - low) / (high - low), 0, 1), atol=1e-6)


def test_a_published_model_is_exported_as_well(tmp_path: Path) -> None:
    """Without a deconvolution, with the published sampling of the PSF, scaled from min to max."""
    small = {"params": {"hidden_channels_list": [2, 4]}}
    published = load_experiment(
        "scale3", overlays=["as_published"], settings=small, folder=PACKAGED
    )
    save_model(tmp_path / "published", TENET(published.params), published, {})
    out = export_model(tmp_path / "published", tmp_path / "published.zip")
    with ZipFile(out) as archive:
        found = yaml.safe_load(archive.read("rdf.yaml"))
        page = archive.read("README.md").decode()
    scaling = next(s for s in found["inputs"][0]["preprocessing"] if s["id"] == "scale_range")
    assert scaling["kwargs"].get("max_percentile", 100) == 100
    assert "The lowest intensity becomes 0, and the highest 1." in page
    assert "# Validation" in page


def test_a_package_whose_results_differ_is_refused(model: Path) -> None:
    trained = TrainedModel.load(model)
    other = random_model(**PARAMS)
    with torch.no_grad():
        next(other.encoder.parameters()).mul_(1.5)
    shown = np.random.default_rng(0).random((6, 16, 16), np.float32)
    enhanced = np.stack(enhance_array(trained.network, shown))
    _check(trained, to_torchscript(trained.network), shown, enhanced)
    with pytest.raises(TenetError, match=r"differs from the model by .* on 6 × 16 × 16 voxels"):
        _check(trained, to_torchscript(other), shown, enhanced)


def test_what_cannot_be_exported_is_said_in_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there.zip").touch()
    (tmp_path / "there").mkdir()
    for source, out, said in (
        (shipped_model(), tmp_path / "a.zip", "serves every microscope.*`tenet learn`"),
        (tmp_path / "none", tmp_path / "a.zip", "is not a model: .*there is no such folder"),
        (model, tmp_path / "there.zip", "is there already: delete it, or choose another name"),
        (model, tmp_path / "there", "a folder has this name"),
        (model, model / "a.zip", "would replace its source"),
    ):
        with pytest.raises(TenetError, match=said) as error:
            export_model(source, out)
        assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "bioimageio.spec", None)
    with pytest.raises(TenetError, match=r"needs bioimageio\.spec: pip install 'tenet\[zoo\]'"):
        export_model(model, tmp_path / "a.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there", "there.zip"]


def test_what_the_specification_refuses_is_said_in_one_line(
    model: Path, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ZipFile(package) as archive:
        archive.extractall(tmp_path / "files")
    monkeypatch.setattr(zoo, "LICENCE", "no such licence")
    with pytest.raises(TenetError, match="the model zoo's specification refuses it") as error:
        zoo.write_package(TrainedModel.load(model), tmp_path / "files", tmp_path / "package")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "package").exists()


def test_a_package_says_that_it_does_not_align(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = experiment(**PARAMS).model_dump() | {
        "align_params": {"hidden_channels_list": [2, 2]}
    }
    aligning = Experiment.model_validate(settings)
    save_model(tmp_path, TENET(aligning.params, aligning.align_params), aligning, {})
    assert _of_one_microscope(tmp_path).network.aligner is None
    assert "the package does not align planes" in capsys.readouterr().err


def test_a_model_whose_norms_follow_the_stack_is_refused(tmp_path: Path) -> None:
    params = PARAMS | {"network": "cells", "norm": "stack"}
    save_model(tmp_path / "mine", random_model(**params), experiment(**params), {})
    with pytest.raises(
        TenetError, match=r"mine takes statistics of the stack at hand \(norm stack"
    ):
        _of_one_microscope(tmp_path / "mine")
