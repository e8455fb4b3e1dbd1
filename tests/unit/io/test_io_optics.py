"""Optics in the headers of files, and optics that are told besides."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from test_io_scanimage import header_2016, pages_of, write
from test_volumes import write_nd2

from tenet.io.nd2 import _nd2_optics
from tenet.io.open import open_stack
from tenet.io.optics import Optics
from tenet.io.stack import Stack

TWO_PHOTON = {"AcquisitionMode": "MultiPhotonMicroscopy", "ExcitationWavelength": 920}
OIL = '<Objective ID="Objective:3" LensNA="1.4" Immersion="Oil"/>'
WATER = '<Objective ID="Objective:1" LensNA="0.8" Immersion="Water"/>'
DRY = '<Objective ID="Objective:0" LensNA="0.5" Immersion="Air"/>'


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (6, 20, 30)).astype(np.uint16)


def ome(
    path: Path, voxels: np.ndarray, channel: dict[str, Any], lenses: str, settings: str
) -> Path:
    """Write an OME-TIFF, and put objectives and the settings of one into its OME-XML."""
    axes = "CZYX" if voxels.ndim == 4 else "ZYX"
    metadata = {"axes": axes, "Channel": channel}
    tifffile.imwrite(path, voxels, photometric="minisblack", metadata=metadata)
    xml = tifffile.tiffcomment(path)
    assert isinstance(xml, str)
    assert xml.count("<Image ") == xml.count("<Pixels ") == 1
    instrument = f'<Instrument ID="Instrument:0">{lenses}</Instrument>'
    xml = xml.replace("<Image ", f"{instrument}<Image ").replace("<Pixels ", f"{settings}<Pixels ")
    tifffile.tiffcomment(path, xml.encode())
    return path


def settings_of(number: int, more: str = "") -> str:
    return f'<ObjectiveSettings ID="Objective:{number}" {more}/>'


@pytest.mark.parametrize(
    ("lenses", "settings", "na", "index"),
    [
        (WATER, settings_of(1), 0.8, 1.33),
        (WATER, "", 0.8, 1.33),
        (DRY, "", 0.5, 1.0),
        (DRY + WATER + OIL, settings_of(3), 1.4, 1.515),
        (DRY + WATER + OIL, "", None, None),  # nothing says which
        (DRY + WATER, settings_of(3), None, None),
        (WATER, settings_of(1, 'RefractiveIndex="1.34"'), 0.8, 1.34),
        (WATER, settings_of(1, 'Medium="Glycerol"'), 0.8, 1.47),
        (OIL, settings_of(3, 'RefractiveIndex="1.0"'), 1.4, 1.515),  # NA 1.4 in air is impossible
        (OIL.replace("Oil", "Air"), "", None, None),
        (OIL.replace("Oil", "Other"), "", 1.4, None),
        (WATER.replace("0.8", "0"), "", None, 1.33),
        (WATER.replace("0.8", "-1"), "", None, 1.33),
        (WATER.replace("0.8", "nan"), "", None, 1.33),
        (WATER.replace("0.8", "inf"), "", None, 1.33),
        (WATER.replace("0.8", "high"), "", None, 1.33),
        (WATER.replace("0.8", "9" * 4000), "", None, 1.33),
        (WATER, settings_of(1, 'RefractiveIndex="nan"'), 0.8, 1.33),
        (WATER, settings_of(1, 'RefractiveIndex="133"'), 0.8, 1.33),
        ("", "", None, None),
    ],
)
def test_the_objective_in_ome_xml(
    tmp_path: Path,
    voxels: np.ndarray,
    lenses: str,
    settings: str,
    na: float | None,
    index: float | None,
) -> None:
    stack = open_stack(ome(tmp_path / "a.ome.tif", voxels, TWO_PHOTON, lenses, settings))
    assert stack.optics == Optics(na, 0.92, index, 2)
    np.testing.assert_array_equal(stack.read(), voxels)


@pytest.mark.parametrize(
    ("channel", "wavelength_um", "photons"),
    [
        ({"ExcitationWavelength": 488, "AcquisitionMode": "WideField"}, 0.488, 1),
        ({"AcquisitionMode": "LaserScanningConfocalMicroscopy"}, None, 1),
        ({"AcquisitionMode": "SpinningDiskConfocal"}, None, 1),
        ({"AcquisitionMode": "FluorescenceLifetime"}, None, None),
        ({"ExcitationWavelength": 0.92, "ExcitationWavelengthUnit": "µm"}, 0.92, None),
        ({"ExcitationWavelength": 9200, "ExcitationWavelengthUnit": "Å"}, 0.92, None),
        ({"ExcitationWavelength": 920, "ExcitationWavelengthUnit": "pixel"}, None, None),
        ({"ExcitationWavelength": 0}, None, None),
        ({"ExcitationWavelength": 199}, None, None),
        ({"ExcitationWavelength": 2001}, None, None),
        ({"ExcitationWavelength": "nan"}, None, None),
        ({"ExcitationWavelength": "blue"}, None, None),
        ({}, None, None),
    ],
)
def test_the_channel_in_ome_xml(
    tmp_path: Path,
    voxels: np.ndarray,
    channel: dict[str, Any],
    wavelength_um: float | None,
    photons: int | None,
) -> None:
    found = open_stack(ome(tmp_path / "a.ome.tif", voxels, channel, WATER, "")).optics
    assert found.wavelength_um == (wavelength_um and pytest.approx(wavelength_um))
    assert replace(found, wavelength_um=None) == Optics(0.8, None, 1.33, photons)


def test_each_channel_has_a_wavelength_of_its_own(tmp_path: Path, voxels: np.ndarray) -> None:
    channels = {"ExcitationWavelength": [488, 561], "AcquisitionMode": ["WideField"] * 2}
    path = ome(tmp_path / "a.ome.tif", np.stack([voxels, voxels]), channels, OIL, "")
    expected = [Optics(1.4, 0.488, 1.515, 1), Optics(1.4, 0.561, 1.515, 1)]
    assert [open_stack(path, channel=c).optics for c in (0, 1)] == expected
    assert open_stack(path, channel=0).at(1, 0, "_c1").optics == expected[1]
    assert open_stack(path, channel=1).at(0, 0, "_c0").optics == expected[0]
    # Planes that were recorded as channels are one stack.
    path = ome(tmp_path / "b.ome.tif", voxels[:, None], {}, OIL, "")
    assert open_stack(path, planes_are="C").optics == Optics(1.4, None, 1.515)


def test_optics_of_nd2(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "stack.nd2"
    modes = [{"uiModalityMask": 0x10201}, {"uiModalityMask": 0x201}]  # two photons, and confocal
    write_nd2(
        path, np.stack([voxels, voxels]), (0.5, 0.1, 0.1), len(voxels),
        optics={"dObjectiveNA": 1.1, "dRefractIndex1": 1.333}, planes_of_channels=modes,
    )  # fmt: skip
    assert open_stack(path, channel=0).optics == Optics(1.1, None, 1.333, 2)
    assert open_stack(path, channel=0).at(1, 0, "_c1").optics == Optics(1.1, None, 1.333, 1)
    for wrong in ({"dObjectiveNA": -1.0}, {"dObjectiveNA": float("nan")}, {}):
        write_nd2(path, voxels[None], (0.5, 0.1, 0.1), len(voxels), optics=wrong)
        assert open_stack(path).optics == Optics()


@pytest.mark.parametrize(
    ("na", "index", "wavelength_nm", "modes", "expected"),
    [
        (0.8, 1.33, 920.0, ["multiphoton", "laserScanConfocal"], Optics(0.8, 0.92, 1.33, 2)),
        (1.4, 1.515, 561.0, ["fluorescence", "camera"], Optics(1.4, 0.561, 1.515, 1)),
        (1.4, 1.0, 0.0, ["fluorescence"], Optics()),
        (None, None, None, [], Optics()),
        ("x", [1.33], {}, ["brightfield"], Optics()),
    ],
)
def test_optics_of_a_channel_of_nd2(
    na: Any, index: Any, wavelength_nm: Any, modes: list[str], expected: Optics
) -> None:
    described = SimpleNamespace(
        channel=SimpleNamespace(excitationLambdaNm=wavelength_nm),
        microscope=SimpleNamespace(
            objectiveNumericalAperture=na, immersionRefractiveIndex=index, modalityFlags=modes
        ),
    )
    assert _nd2_optics(described) == expected


def test_scanimage_has_two_photons(tmp_path: Path) -> None:
    scene = np.random.default_rng(0).integers(0, 4000, (6, 20, 30)).astype(np.int16)
    path = write(tmp_path / "a.tif", pages_of(scene, channels=2), header_2016(channels=2))
    stack = open_stack(path, channel=1)
    assert stack.optics == stack.at(0, 0, "_c0").optics == Optics(photons=2)


def test_plain_files_know_nothing(tmp_path: Path, voxels: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", voxels)
    np.save(tmp_path / "a.npy", voxels)
    for name in ("a.tif", "a.npy"):
        stack: Stack = open_stack(tmp_path / name)
        assert stack.optics == Optics()
        assert not stack.optics


# Told and read ------------------------------------------------------------------------------------

MODEL = Optics(None, 0.92, 1.33, 2)


def test_options_go_before_the_file_and_the_file_before_the_model() -> None:
    known = Optics(immersion_index=1.33).over(Optics(0.8, 1.04, 1.515), MODEL)
    assert known.optics == Optics(0.8, 1.04, 1.33, 2)
    assert known.sources == {
        "na": "file", "wavelength_um": "file", "immersion_index": "options", "photons": "model",
    }  # fmt: skip
    assert known.note == (
        "NA 0.8 and wavelength 1.04 µm are those of the file; "
        "immersion index 1.33 is that of the options (the file says 1.515); "
        "number of photons 2 is that of the model"
    )
    known = Optics(0.6, 0.8, 1.33, 1).over(Optics(0.8, 1.04, 1.331, 2), MODEL)
    assert known.optics == Optics(0.6, 0.8, 1.33, 1)
    assert known.note == (
        "NA 0.6, wavelength 0.8 µm, immersion index 1.33 and number of photons 1 are those of the "
        "options (the file says NA 0.8, wavelength 1.04 µm, number of photons 2)"
    )


def test_a_guess_has_no_other_source() -> None:
    known = Optics().over(Optics(), MODEL)
    assert "na" not in known.sources
    guessed = known.guessed(0.7)
    assert (guessed.optics.na, guessed.sources["na"]) == (0.7, "guess")
    assert guessed.note == (
        "wavelength 0.92 µm, immersion index 1.33 and number of photons 2 are those of the model"
    )


@pytest.mark.parametrize(
    ("told", "read", "wavelength_um"),
    [
        (Optics(), Optics(wavelength_um=0.488, photons=2), 0.92),
        (Optics(photons=2), Optics(wavelength_um=0.488), 0.92),
        (Optics(), Optics(wavelength_um=0.488), 0.92),
        (Optics(), Optics(wavelength_um=0.488, photons=1), 0.488),
        (Optics(photons=1), Optics(wavelength_um=0.488, photons=2), 0.488),
        (Optics(), Optics(wavelength_um=0.7), 0.7),
        (Optics(wavelength_um=0.5), Optics(wavelength_um=0.488), 0.5),
    ],
)
def test_the_wavelength_of_a_dye_is_not_that_of_two_photons(
    told: Optics, read: Optics, wavelength_um: float
) -> None:
    known = told.over(read, MODEL)
    assert known.optics.wavelength_um == wavelength_um
    assert ("0.488 µm)" in known.note) == (wavelength_um != read.wavelength_um)
