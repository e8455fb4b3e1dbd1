"""Small files as microscopes write them, for the tests of their readers."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import tifffile

from tenet.errors import TenetError
from tenet.io.open import open_stack

Voxels = np.ndarray[Any, np.dtype[Any]]

PRAIRIE_STATE = """<PVStateShard>
  <PVStateValue key="laserWavelength"><IndexedValue index="0" value="920"/></PVStateValue>
  <PVStateValue key="micronsPerPixel">
    <IndexedValue index="XAxis" value="0.3"/><IndexedValue index="YAxis" value="0.4"/>
    <IndexedValue index="ZAxis" value="9"/>
  </PVStateValue>
  <PVStateValue key="objectiveLens" value="Nikon 16x W"/>
  <PVStateValue key="objectiveLensNA" value="0.8"/>
  <PVStateValue key="positionCurrent"><SubindexedValues index="ZAxis">
    <SubindexedValue subindex="0" value="-50" description="Z Focus"/>
  </SubindexedValues></PVStateValue>
</PVStateShard>"""


def plane_file(path: Path, plane: Voxels) -> None:
    tifffile.imwrite(path, plane, photometric="minisblack", metadata=None)


def prairie_folder(folder: Path, voxels: Voxels, *, kind: str = "ZSeries", extra: str = "") -> Path:
    """Write a recording of Prairie View from T, Z, C, Y, X, at 2 µm from plane to plane."""
    folder.mkdir(exist_ok=True)
    sequences = ""
    for t, of_time in enumerate(voxels):
        frames = ""
        for z, of_plane in enumerate(of_time):
            files = ""
            for c, plane in enumerate(of_plane):
                name = f"stack_Cycle{t + 1:05}_Ch{c + 1}_{z + 1:06}.ome.tif"
                plane_file(folder / name, plane)
                files += f'<File channel="{c + 1}" page="1" filename="{name}"/>'
            place = (
                '<PVStateShard><PVStateValue key="positionCurrent"><SubindexedValues index="ZAxis">'
                f'<SubindexedValue subindex="0" value="{-50 + 2 * z}"/>'
                "</SubindexedValues></PVStateValue></PVStateShard>"
            )
            frames += f'<Frame index="{z + 1}">{files}{place}</Frame>'
        sequences += f'<Sequence type="{kind}" cycle="{t + 1}" {extra}>{frames}</Sequence>'
    xml = f'<?xml version="1.0" encoding="utf-8"?><PVScan version="5.4">{PRAIRIE_STATE}{sequences}'
    (folder / "stack.xml").write_text(f"{xml}</PVScan>")
    (folder / "stack.env").write_text("<Environment/>")
    (folder / "other.xml").write_text("<VoltageRecording/>")
    return folder


def thor_xml(voxels: Voxels, **attributes: Any) -> str:
    times, planes, _, rows, columns = voxels.shape
    given = {"mode": 0, "frames": 1, "fast": 0, "flyback": 0, "steps": planes} | attributes
    return (
        '<?xml version="1.0"?><ThorImageExperiment>'
        '<Magnification mag="16" name="Nikon 16x/0.8 W"/>'
        f'<LSM pixelX="{columns}" pixelY="{rows}" pixelSizeUM="0.5" channel="3"/>'
        f'<ZStage steps="{given["steps"]}" stepSizeUM="-2.5" enable="1"/>'
        f'<Timelapse timepoints="{times}"/><CaptureMode mode="{given["mode"]}"/>'
        f'<Streaming frames="{given["frames"]}" zFastEnable="{given["fast"]}" '
        f'flybackFrames="{given["flyback"]}"/></ThorImageExperiment>'
    )


def thor_folder(folder: Path, voxels: Voxels, *, raw: bool = False, **attributes: Any) -> Path:
    """Write a recording of ThorImage from T, Z, C, Y, X."""
    folder.mkdir(exist_ok=True)
    (folder / "Experiment.xml").write_text(thor_xml(voxels, **attributes))
    if raw:
        voxels.astype("<u2").tofile(folder / "Image_0001_0001.raw")
        return folder
    for t, z, c in np.ndindex(voxels.shape[:3]):
        name = f"Chan{'AB'[c]}_0001_0001_{z + 1:04}_{t + 1:04}.tif"
        plane_file(folder / name, voxels[t, z, c])
        plane_file(folder / f"Chan{'AB'[c]}_Preview.tif", voxels[t, z, c])
    return folder


def scanbox_file(path: Path, voxels: Voxels, **changes: Any) -> Path:
    """Write a recording of Scanbox from T, Z, C, Y, X; its planes are 20 µm apart."""
    times, planes, channels, rows, columns = voxels.shape
    stored = 65535 - voxels.transpose(0, 1, 3, 4, 2).astype("<u2")
    stored.tofile(path)
    info = {
        "sz": np.array([rows, columns], np.uint16),
        "channels": {1: 2, 2: 1}[channels],
        "volscan": int(planes > 1),
        "otwave_um": 20.0 * np.arange(planes) if planes > 1 else np.array([], np.uint8),
        "objective": "Nikon 16x/0.8w/WD3.0",
        "config": {"wavelength": 920, "magnification": 2, "frames": times * planes},
        "calibration": np.array([(1.5, 1.6), (0.75, 0.8)], [("x", object), ("y", object)]),
    }
    scipy.io.savemat(path.with_suffix(".mat"), {"info": info | changes}, do_compression=True)
    return path


def _scan_entry(entry: int, value: str | int | float | None = None) -> bytes:
    """One entry of the scan information of an LSM; without a value, a block begins."""
    if value is None:
        return struct.pack("<III", entry, 0, 0)
    if isinstance(value, str):
        text = value.encode() + b"\0"
        return struct.pack("<III", entry, 2, len(text)) + text
    if isinstance(value, int):
        return struct.pack("<IIIi", entry, 4, 4, value)
    return struct.pack("<IIId", entry, 5, 8, value)


def _scan_information(lines_nm: list[float]) -> bytes:
    """Scan information of an LSM: an objective, and a track of one laser for each channel."""
    end = _scan_entry(0xFFFFFFFF)
    tracks = b""
    for line in lines_nm:
        lasers = _scan_entry(0x90000000) + _scan_entry(0x90000003, line)
        lasers += _scan_entry(0x90000004, 1) + end
        lasers += _scan_entry(0x90000000) + _scan_entry(0x90000003, 633.0)
        lasers += _scan_entry(0x90000004, 0) + end
        detectors = _scan_entry(0x70000000) + _scan_entry(0x7000000B, 1) + end
        tracks += _scan_entry(0x40000000)
        tracks += _scan_entry(0x80000000) + lasers + end
        tracks += _scan_entry(0x60000000) + detectors + end + end
    objective = _scan_entry(0x10000004, "W Plan-Apochromat 20x/1.0 DIC")
    return _scan_entry(0x10000000) + objective + _scan_entry(0x20000000) + tracks + end + end


def _bits_elsewhere(content: bytes) -> bytes:
    """Move the bits of two samples out of their tags, as the program of Zeiss does."""
    moved = bytearray(content)
    (place,) = struct.unpack_from("<I", content, 4)
    while place:
        (tags,) = struct.unpack_from("<H", content, place)
        for tag in range(place + 2, place + 2 + 12 * tags, 12):
            code, _, count = struct.unpack_from("<HHI", content, tag)
            if (code, count) == (258, 2):
                struct.pack_into("<I", moved, tag + 8, len(content))
        (place,) = struct.unpack_from("<I", content, place + 2 + 12 * tags)
    return bytes(moved) + struct.pack("<HH", 16, 16)


def lsm_file(path: Path, voxels: Voxels, lines_nm: list[float]) -> Path:
    """Write an LSM from Z, C, Y, X: a page a plane, with thumbnails between."""
    planes, channels, rows, columns = voxels.shape
    dtype = np.dtype(tifffile.TIFF.CZ_LSMINFO)
    record = np.zeros((), dtype)
    record["MagicNumber"], record["StructureSize"] = 67127628, dtype.itemsize
    sizes = {"X": columns, "Y": rows, "Z": planes, "Channels": channels, "Time": 1}
    for axis, size in sizes.items():
        record[f"Dimension{axis}"] = size
    for axis, metres in zip("XYZ", (0.2e-6, 0.25e-6, 1.5e-6), strict=True):
        record[f"VoxelSize{axis}"] = metres
    scan = _scan_information(lines_nm)
    record["OffsetScanInformation"] = 123_456_789
    tag = (34412, 1, dtype.itemsize, record.tobytes(), True)
    with tifffile.TiffWriter(path) as tiff:
        for z in range(planes):
            tiff.write(
                voxels[z] if channels > 1 else voxels[z, 0], photometric="minisblack",
                planarconfig="separate" if channels > 1 else None, metadata=None,
                extratags=[tag] if z == 0 else [],
            )  # fmt: skip
            tiff.write(
                np.zeros((3, 8, 8), np.uint8), photometric="rgb", planarconfig="separate",
                subfiletype=1, metadata=None,
            )  # fmt: skip
    content = path.read_bytes()
    if channels == 2:
        content = _bits_elsewhere(content)
    place = struct.pack("<I", len(content))
    path.write_bytes(content.replace(struct.pack("<I", 123_456_789), place, 1) + scan)
    return path


def refused(path: Path, said: str, **options: Any) -> str:
    """Return the one line with which a file is refused."""
    with pytest.raises(TenetError, match=said) as error:
        open_stack(path, **options).read()
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"{path.parent}")
    return message
