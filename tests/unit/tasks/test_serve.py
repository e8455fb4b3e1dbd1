"""A model of every microscope: fitted to a stack, and what is said of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from small_models import EVERY as SETTINGS

import tenet
from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.optics import Optics
from tenet.learn.calibrate import _alike, _thickness
from tenet.learn.likeness import likeness, noise_variance
from tenet.learn.microscopes import widths
from tenet.learn.serve import (
    CALIBRATING,
    CHECKING,
    LOOKING,
    SCALING,
    SHORT,
    Served,
    _binned,
    coarser,
    serve,
    with_steps,
)
from tenet.metrics.widths import fwhm
from tenet.model.shipped import BOX, ONE_PHOTON, TENET_MODELS, shipped_model
from tenet.model.store import TUNING, digests_of_enhancing
from tenet.model.tenet import TENET
from tenet.model.trained import TrainedModel
from tenet.networks.norms import has_stack_norms
from tenet.settings.schema import parse_experiment
from tenet.tasks.enhance import Enhancing, Wanted, enhance
from tenet.tasks.pretrain import pretrain
from tenet.tasks.reading import Reading

CPU = torch.device("cpu")
#: Of a network for one photon.
ONE: dict[str, Any] = {"photons": 1, "wavelength": 0.5, "fill": None, "norm": "stack"}


def served(every: Path, raw: Path, step_um: float, optics: Optics | None = None) -> Served:
    """Fit the model to pixels of 0.2 µm, with the PSF as told."""
    model, stack = TrainedModel.load(every), open_stack(raw)
    return serve(model, stack, (step_um, 0.2, 0.2), optics or Optics(), find_psf=False)


@pytest.mark.parametrize(("step_um", "scale"), [(0.2, 1), (0.5, 3), (0.8, 4), (1.2, 6)])
def test_a_model_takes_planes_pixels_and_optics_of_a_stack(
    every: Path, raw: Path, step_um: float, scale: int
) -> None:
    model, _, found = served(every, raw, step_um, Optics(0.6, 0.8, 1.4, 2))
    params = model.params
    assert params.scale == scale
    assert params.coarse_voxel_size_um == (step_um, 0.2, 0.2)
    assert (params.NA, params.wavelength, params.ni, params.photons) == (0.6, 0.8, 1.4, 2)
    assert found["fine_voxel_size_um"] == pytest.approx([step_um / scale, 0.2, 0.2])
    assert found["told"] == found["found"]
    assert found["psf"] is None
    # The network has the weights of the model, and the PSF is that of the optics, on its own grid.
    trained = TrainedModel.load(every).network
    for name, weight in trained.encoder.state_dict().items():
        assert torch.equal(model.network.encoder.state_dict()[name], weight)
    with torch.no_grad():
        across = model.network.psf()
    _, rows, columns = across.shape
    width = fwhm(across[across.shape[0] // 2, rows // 2].numpy(), 0.2)
    assert 0.36 * 0.8 / 0.6 < width < 0.52 * 0.8 / 0.6  # two photons, even and empty pupils
    assert columns % 2 == 1


def test_a_long_psf_has_more_steps_of_deconvolution(every: Path, raw: Path) -> None:
    short, long = (served(every, raw, 0.8, Optics(na)).model for na in (0.8, 0.25))
    assert short.params.estimate_steps == TrainedModel.load(every).params.estimate_steps == (4, 2)
    assert long.params.estimate_steps == long.network.params.estimate_steps == (60, 30)


def test_steps_are_never_fewer_than_in_training() -> None:
    params = tenet.load_experiment("box_one_photon").params
    for na in (0.9, 0.3):
        assert with_steps(params.model_copy(update={"NA": na})).estimate_steps == (60, 20)
    none = params.model_copy(update={"deconvolution_steps": 0, "early_steps": None})
    assert with_steps(none).estimate_steps == ()


@pytest.fixture
def both(every: Path, phantom_folder: Path, tmp_path: Path) -> Path:
    """The model with another one in it, for one photon, whose norms follow the stack."""
    folder = Path(shutil.copytree(every, tmp_path / "both"))
    free = {"free": SETTINGS["microscopes"]["free"] | {"one_photon": 1.0}}
    settings = SETTINGS | {
        "params": SETTINGS["params"] | ONE,
        "microscopes": SETTINGS["microscopes"] | free,
    }
    inner = folder / ONE_PHOTON
    pretrain(parse_experiment(settings), phantom_folder, inner, tuning=phantom_folder)
    return folder


@pytest.mark.parametrize("photons", [1, 2])
def test_stacks_of_one_photon_have_the_network_for_them(
    both: Path, raw: Path, photons: int
) -> None:
    model = served(both, raw, 0.8, Optics(0.6, 0.8, 1.4, photons)).model
    assert model.params.photons == photons
    assert model.folder == (both / ONE_PHOTON if photons == 1 else both)
    assert has_stack_norms(model.network) == (photons == 1)
    trained = TrainedModel.load(model.folder).network.encoder.state_dict()
    weights = [name for name in trained if name.endswith(("weight", "bias"))]
    for name in weights:
        assert torch.equal(model.network.encoder.state_dict()[name], trained[name])


def test_other_weights_for_one_photon_are_other_results(both: Path, raw: Path) -> None:
    before = digests_of_enhancing(both)
    (both / ONE_PHOTON / "model.pt").write_bytes(b"other")
    after = digests_of_enhancing(both)
    assert (before[:2], len(before)) == (after[:2], len(after))
    assert before != after


@pytest.mark.parametrize("times", [1.0, 1.2, 1.5, 1.7, 4.0])
@pytest.mark.parametrize("pixel_um", [0.1, 0.3])
def test_steps_grow_with_the_square_of_the_length_in_voxels(times: float, pixel_um: float) -> None:
    params = tenet.load_experiment("box").params
    params = params.model_copy(
        update={"res_lateral": pixel_um, "res_axial": pixel_um * 4, "scale": 4}
    )
    for _ in range(20):  # an aperture whose PSF is so long; lengths go with 1/NA², or nearly
        length = widths(params).axial / pixel_um
        na = params.NA * (length / (times * SHORT)) ** 0.5
        params = params.model_copy(update={"NA": min(na, 1.2)})
    assert widths(params).axial / pixel_um == pytest.approx(times * SHORT, rel=0.01)
    steps, early = with_steps(params).estimate_steps
    assert steps == pytest.approx(20 * min(times**2, 3), rel=0.03)
    assert early == pytest.approx(8 * min(times**2, 3), rel=0.07)


def test_a_numerical_aperture_that_is_not_told_is_guessed_from_the_pixels(
    every: Path, raw: Path
) -> None:
    model, _, found = served(every, raw, 0.8)
    # Two-photon PSFs are 0.36 λ / NA wide, and pixels a third to a quarter of that.
    assert found["told"]["NA"] == pytest.approx(0.36 * 0.92 / (3.5 * 0.2))
    assert found["told"]["NA"] == model.told.NA
    assert model.told.wavelength == 0.92


def test_phantoms_count_by_the_thickness_that_is_told(every: Path, raw: Path) -> None:
    model, stack = TrainedModel.load(every), open_stack(raw)
    size_um, optics = (0.8, 0.2, 0.2), Optics(0.6, 0.8, 1.4, 2)
    unknown, thin, thick = (
        serve(model, stack, size_um, optics, structure_um=um, find_psf=False)
        for um in (None, 0.4, 2.0)
    )
    assert [one.found["structure_um"] for one in (unknown, thin, thick)] == [None, 0.4, 2.0]
    assert thin.model.params.structure_um == 0.4
    found = [one.found["calibration"] for one in (unknown, thin, thick)]
    assert len({tuple(one.model.calibration.inside) for one in (unknown, thin, thick)}) == 3
    # Levels are those of all phantoms.
    assert len({(one["signal_level"], one.get("gain")) for one in found}) == 1
    assert ["by how thick" in one["how"] for one in found] == [False, True, True]


def test_phantoms_as_thick_as_the_stack_count_most(every: Path) -> None:
    params = TrainedModel.load(every).params
    solids = [np.zeros((40, 40, 40), np.uint8) for _ in range(3)]
    for solid, radius in zip(solids, (3, 6, 12), strict=True):
        z, y, x = np.indices(solid.shape) - 20
        solid[z**2 + y**2 + x**2 <= radius**2] = 1
    sizes = [_thickness(solid, params.model_copy(update={"structure_um": 1.0})) for solid in solids]
    assert sizes == pytest.approx([2 / 3 * 2 * r * params.res_lateral for r in (3, 6, 12)], rel=0.1)
    told = params.model_copy(update={"structure_um": sizes[1]})
    least, most, other = _alike(told, solids)
    assert most == pytest.approx(1.02)
    # Half and twice as thick: two standard deviations.
    assert [least, other] == pytest.approx([0.02 + np.exp(-2)] * 2, rel=0.2)
    assert _alike(params, solids) is None


@pytest.mark.parametrize("thickness", [0.0, -1.0, 0.1, 9.0, float("nan"), float("inf")])
def test_an_impossible_thickness_is_refused(every: Path, raw: Path, thickness: float) -> None:
    model, stack = TrainedModel.load(every), open_stack(raw)
    with pytest.raises(TenetError, match=r"a thickness of .* µm is .* pixels, and phantoms have"):
        serve(model, stack, (0.8, 0.2, 0.2), Optics(0.6), structure_um=thickness)


@pytest.mark.parametrize("photons", [1, 2])
def test_the_work_is_told_and_ends_with_the_exception_of_who_is_told(
    every: Path, raw: Path, photons: int
) -> None:
    model, stack = TrainedModel.load(every), open_stack(raw)
    told: list[tuple[str, int, int]] = []

    class Enough(Exception):
        pass

    def served(most: int) -> None:
        def stage(work: str, done: int, total: int) -> None:
            if len(told) == most:
                raise Enough
            told.append((work, done, total))

        serve(model, stack, (0.8, 0.2, 0.2), Optics(0.6, 0.8, 1.4, photons), stage=stage)

    served(most=1000)
    works = [work for work, *_ in told]
    assert list(dict.fromkeys(works)) == [LOOKING, CALIBRATING, SCALING, CHECKING]
    for work in (LOOKING, CALIBRATING):
        numbers = [done for name, done, _ in told if name == work]
        (total,) = {total for name, _, total in told if name == work}
        assert numbers == list(range(len(numbers)))
        assert 3 < len(numbers) <= total
    for most in (2, works.index(CALIBRATING) + 1):
        told.clear()
        with pytest.raises(Enough):
            served(most)
        assert len(told) == most


def test_a_model_is_calibrated_for_each_microscope(every: Path, raw: Path) -> None:
    sharp, *_ = served(every, raw, 0.4, Optics(1.0))
    blurred, *_ = served(every, raw, 0.4, Optics(0.4))
    assert sharp.calibration is not None
    assert blurred.calibration is not None
    # The blur dims what is thin.
    assert sharp.calibration.signal_level is not None
    assert blurred.calibration.signal_level is not None
    assert sharp.calibration.signal_level > blurred.calibration.signal_level


def test_planes_farther_apart_than_was_learned_are_refused(every: Path, raw: Path) -> None:
    with pytest.raises(TenetError, match=r"planes are 10 pixels apart.*at most 6: bin the pixels"):
        served(every, raw, 2.0)


def test_a_model_without_its_phantoms_is_refused(every: Path, raw: Path, tmp_path: Path) -> None:
    (every / TUNING).rename(tmp_path / "away")
    try:
        with pytest.raises(TenetError, match="has no folder tuning: pre-train with --tuning again"):
            served(every, raw, 0.8)
    finally:
        (tmp_path / "away").rename(every / TUNING)


def test_what_was_found_lies_beside_the_result(every: Path, raw: Path, tmp_path: Path) -> None:
    reading = Reading([raw], voxel_size_um=(0.8, 0.2, 0.2))
    written = list(enhance(reading, every, tmp_path, Wanted(optics=Optics(0.6)), device=CPU))
    assert [path.name for path in written] == ["cells.ome.tif", "cells.json"]
    result = open_stack(written[0], channel=0)
    assert result.zyx_shape == (40, 32, 28)
    assert result.voxel_size_um == pytest.approx((0.2, 0.2, 0.2))
    found = json.loads(written[1].read_text())
    assert found["told"]["NA"] == 0.6
    assert found["psf"]["axial_fwhm_um"]["value"] > 0
    assert found["psf"]["messages"]
    assert 0 <= found["calibration"]["threshold"] <= 1
    assert found["intensities"]["high"] > found["intensities"]["low"]
    assert 0 <= found["likeness"]["explained"] <= 1
    assert 0 <= found["likeness"]["wrong"] <= 1


def test_a_guess_of_the_aperture_is_said(
    every: Path, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reading = Reading([raw], voxel_size_um=(0.8, 0.2, 0.2))
    list(enhance(reading, every, tmp_path, Wanted(find_psf=False), device=CPU))
    said = capsys.readouterr().err
    assert "cells.tif: NA 0.47 is guessed from the pixels: give --na" in said
    assert (
        "cells.tif: wavelength 0.92 µm, immersion index 1.33 and number of photons 2 are those of "
        "the model" in said
    )
    assert json.loads((tmp_path / "cells.json").read_text())["sources"]["na"] == "guess"


@pytest.fixture
def described(raw: Path, tmp_path: Path) -> Path:
    """The stack with an objective, a wavelength and voxels in its OME-XML."""
    path = tmp_path / "cells.ome.tif"
    size = {"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2, "PhysicalSizeZ": 0.8}
    channel = {"ExcitationWavelength": 1040, "AcquisitionMode": "MultiPhotonMicroscopy"}
    metadata = {"axes": "ZYX", "Channel": channel} | size
    tifffile.imwrite(path, tifffile.imread(raw), metadata=metadata)
    xml = tifffile.tiffcomment(path)
    assert isinstance(xml, str)
    lens = '<Instrument ID="I:0"><Objective ID="O:0" LensNA="0.8" Immersion="Oil"/></Instrument>'
    tifffile.tiffcomment(path, xml.replace("<Image ", f"{lens}<Image ", 1).encode())
    return path


def test_optics_come_from_the_file_and_options_go_before(
    every: Path, described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    optics = Optics(immersion_index=1.33)
    out = tmp_path / "out"
    wanted = Wanted(optics=optics, find_psf=False)
    list(enhance(Reading([described]), every, out, wanted, device=CPU))
    said = capsys.readouterr().err
    assert (
        "cells.ome.tif: NA 0.8, wavelength 1.04 µm and number of photons 2 are those of the file; "
        "immersion index 1.33 is that of the options (the file says 1.515)" in said
    )
    assert "guessed" not in said
    found = json.loads((out / "cells.json").read_text())
    assert found["sources"] == {
        "na": "file", "wavelength_um": "file", "immersion_index": "options", "photons": "file",
    }  # fmt: skip
    assert found["file_says"] == {
        "na": 0.8, "wavelength_um": 1.04, "immersion_index": 1.515, "photons": 2,
    }  # fmt: skip
    told = found["told"]
    assert (told["NA"], told["wavelength"], told["ni"], told["photons"]) == (0.8, 1.04, 1.33, 2)


def test_an_aperture_that_the_medium_does_not_allow_is_refused(every: Path, raw: Path) -> None:
    said = (
        r"cells.tif: no objective of NA 1.4 \(from the options\) works with immersion index 1.33 "
        r"\(from the model\): give --na or --immersion"
    )
    with pytest.raises(TenetError, match=said):
        served(every, raw, 0.8, Optics(1.4))
    with pytest.raises(TenetError, match="NA"):
        served(every, raw, 0.8, Optics(0.0))


def test_what_a_user_can_do_about_planes_is_said(every: Path, raw: Path, tmp_path: Path) -> None:
    def asked(*size_um: float) -> None:
        size = (size_um[0], size_um[1], size_um[2]) if size_um else None
        list(enhance(Reading([raw], voxel_size_um=size), every, tmp_path, device=CPU))

    with pytest.raises(TenetError, match=r"finer than its pixels.*or keep one plane in 3"):
        asked(0.1, 0.3, 0.3)
    with pytest.raises(TenetError, match=r"10 pixels apart.*: bin the pixels 2 × 2, or train"):
        asked(2.0, 0.2, 0.2)
    with pytest.raises(TenetError, match="at most 32 can be filled in; bin the pixels"):
        asked(20.0, 0.2, 0.2)
    with pytest.raises(TenetError, match="give --voxel-size Z Y X"):
        asked()
    assert list(tmp_path.iterdir()) == []


def test_larger_pixels_leave_the_microscope_as_it_is(every: Path, raw: Path) -> None:
    params = served(every, raw, 1.2, Optics(0.6)).model.params
    binned = coarser(params, 2)
    assert binned.coarse_voxel_size_um == pytest.approx((1.2, 0.4, 0.4))
    assert (params.scale, binned.scale) == (6, 3)
    assert widths(binned) == pytest.approx(widths(params))
    ramp = torch.arange(12.0).expand(1, 1, 3, 9, 12)  # 4 pixels are left of 9 rows, 6 of 12 columns
    assert torch.equal(_binned(ramp, 2, (1, 2, 2))[0, 0, 0], torch.arange(0.5, 12, 2).expand(4, 6))


def test_optics_of_a_model_of_one_microscope_are_refused(
    phantom_folder: Path, raw: Path, tmp_path: Path
) -> None:
    one = SETTINGS | {"microscopes": {"count": 0}, "pretrain_loop": {"n_epochs": 1}}
    pretrain(parse_experiment(one), phantom_folder, tmp_path / "one")
    reading = Reading([raw], voxel_size_um=(0.36, 0.12, 0.12))
    for asked in (Wanted(optics=Optics(0.6)), Wanted(find_psf=False)):
        with pytest.raises(TenetError, match="was trained for one microscope: leave --na"):
            list(enhance(reading, tmp_path / "one", tmp_path, asked, device=CPU))
    assert list(tmp_path.glob("cells*")) == []


def test_python_gives_arrays_and_findings(
    every: Path, raw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / BOX).symlink_to(every)
    monkeypatch.setenv(TENET_MODELS, str(tmp_path))
    enhanced = tenet.enhance(raw, voxel_size_um=(0.8, 0.2, 0.2), na=0.6, find_psf=False)
    shape, brightness = enhanced
    assert brightness is enhanced.brightness
    assert shape.shape == brightness.shape == (40, 32, 28)
    assert enhanced.voxel_size_um == pytest.approx((0.2, 0.2, 0.2))
    assert enhanced.found["told"]["NA"] == 0.6
    assert enhanced.threshold == enhanced.found["calibration"]["threshold"]
    # An array in memory is a stack as well.
    again = tenet.enhance(
        tifffile.imread(raw), every, voxel_size_um=(0.8, 0.2, 0.2), na=0.6, find_psf=False
    )
    np.testing.assert_array_equal(again.shape, shape)
    # As the command does.
    reading = Reading([raw], voxel_size_um=(0.8, 0.2, 0.2))
    optics = Optics(0.6)
    path, _ = enhance(reading, every, tmp_path, Wanted(optics=optics, find_psf=False), device=CPU)
    np.testing.assert_allclose(open_stack(path, channel=0).read(), shape, atol=1e-4)


def test_a_folder_without_the_model_of_every_microscope_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(TENET_MODELS, str(tmp_path))
    with pytest.raises(TenetError, match=r"TENET_MODELS is .*, and there is no model .*box: give"):
        shipped_model()


def test_what_is_explained_is_told_from_what_is_not(every: Path, raw: Path) -> None:
    """An image that the PSF made of structure, and one that no PSF makes: noise between rows."""
    model, *_ = served(every, raw, 0.8)
    scale = model.params.scale
    shape = torch.zeros(1, 1, 10 * scale, 32, 32)
    shape[..., 18:22, 14:17, :] = 1
    with torch.no_grad():
        image = model.network.decode(shape, shape)
    calibration = model.calibration.model_copy(update={"threshold": 0.5})
    truth = replace(model, network=_Knows(model.network, shape), calibration=calibration)
    like = likeness(truth, [image / image.max()])
    assert like.explained > 0.95
    assert like.segmented == pytest.approx(float(shape.mean()))
    assert not any("explains" in warning for warning in like.warnings())
    stripes = image.flip(-2)
    stripes[:, :, ::2] = 0.1
    other = likeness(truth, [stripes])
    assert other.explained < 0.5
    assert any("explains" in warning for warning in other.warnings())
    nothing = likeness(replace(truth, network=_Knows(model.network, 0 * shape)), [image])
    assert nothing.segmented == 0
    assert "nothing is segmented" in nothing.warnings()[0]


class _Knows:
    """A network that answers with a known shape; its physics is that of the real one."""

    def __init__(self, network: TENET, shape: torch.Tensor) -> None:
        self.network, self.shape = network, shape

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def eval(self) -> "_Knows":
        return self

    def enhance(self, image: torch.Tensor, blur: Any = None) -> dict[str, torch.Tensor]:
        return {"shape_probability": self.shape, "brightness": self.shape.clamp_min(1e-3)}


def test_noise_is_told_from_structure() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = 0.05 * torch.randn(1, 1, 8, 96, 96, generator=generator)
    z, y, x = torch.meshgrid(torch.arange(8), torch.arange(96), torch.arange(96), indexing="ij")
    blurred = torch.exp(-((y - 48) ** 2) / (2 * 5**2)) + 0 * (x + z)
    assert noise_variance(noise) == pytest.approx(0.0025, rel=0.03)
    assert noise_variance(noise + blurred) == pytest.approx(0.0025, rel=0.1)
    assert noise_variance(torch.zeros(1, 1, 1, 2, 5)) == 0


def test_a_folder_is_checked_before_its_first_stack_is_enhanced(
    every: Path, raw: Path, tmp_path: Path
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    metadata = {"axes": "ZYX", "PhysicalSizeY": 0.2, "PhysicalSizeX": 0.2}
    for name, step_um in (("a", 0.8), ("b", 2.0)):
        path = data / f"{name}.ome.tif"
        tifffile.imwrite(path, tifffile.imread(raw), metadata=metadata | {"PhysicalSizeZ": step_um})
    wanted = Wanted(optics=Optics(0.6), find_psf=False)
    with pytest.raises(TenetError, match=r"b\.ome\.tif: planes are 10 pixels apart"):
        list(enhance(Reading([data]), every, out, wanted, device=CPU))
    assert not out.exists()
    (data / "b.ome.tif").unlink()
    reading = Reading([data])
    list(enhance(reading, every, out, wanted, device=CPU))
    # Each stack has its own threshold, in its record.
    assert {path.name for path in out.iterdir()} == {"a.ome.tif", "a.json"}
    reading = Reading([data], for_evaluation=True)
    with pytest.raises(TenetError, match="is of every microscope: use `tenet enhance`"):
        list(enhance(reading, every, tmp_path / "predicted", device=CPU))


def test_what_python_gives_is_0_where_an_array_has_nan(every: Path, raw: Path) -> None:
    image = tifffile.imread(raw).astype(np.float32)
    image[:, :, :5] = np.nan
    enhanced = tenet.enhance(image, every, voxel_size_um=(0.8, 0.2, 0.2), na=0.6, find_psf=False)
    for channel in enhanced:
        assert channel[:, :, :5].max() == 0
        assert channel[:, :, 5:].min() > 0


def test_a_result_is_made_again_when_the_optics_in_the_header_are_corrected(
    every: Path, described: Path, tmp_path: Path
) -> None:
    work = Enhancing(Reading([described]), every, Wanted(find_psf=False), CPU)
    (result,) = work.reading.open(tmp_path / "out", None, "ome.tif")
    list(work.run(result))
    assert work.is_done(result)
    stack = result.stacks[0]
    (optics,) = stack.channel_optics
    corrected = replace(stack, channel_optics=(replace(optics, na=0.7),))
    part = replace(result.parts[0], stack=corrected, first=corrected)
    assert not work.is_done(replace(result, parts=[part]))
