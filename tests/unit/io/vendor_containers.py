"""Small files of formats that a library of the extra `formats` reads."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from vendor_files import Voxels, plane_file

# HDF5 ---------------------------------------------------------------------------------------------


def letters(text: object) -> Voxels:
    """A text as Imaris writes it: an array of single letters."""
    return np.array(list(str(text)), "S1")


def ims_file(path: Path, voxels: Voxels) -> Path:
    """Write an IMS from T, Z, C, Y, X; its datasets are filled up to whole chunks."""
    import h5py

    times, planes, channels, rows, columns = voxels.shape
    with h5py.File(path, "w") as file:
        for t, c in np.ndindex(times, channels):
            name = f"DataSet/ResolutionLevel 0/TimePoint {t}/Channel {c}/Data"
            stored = np.pad(voxels[t, :, c], [(0, 4), (0, 4), (0, 12)])
            file.create_dataset(name, data=stored, chunks=(4, 8, 16), compression="gzip")
        image = file.create_group("DataSetInfo/Image").attrs
        sizes = {"X": columns, "Y": rows, "Z": planes}
        for axis, (size, um) in enumerate(zip(sizes.values(), (0.25, 0.5, 2.0), strict=True)):
            image[f"ExtMin{axis}"], image[f"ExtMax{axis}"] = letters(-5), letters(size * um - 5)
        for name, value in (sizes | {"Unit": "um", "NumericalAperture": "1.05"}).items():
            image[name] = letters(value)
        for c in range(channels):
            attributes = file.create_group(f"DataSetInfo/Channel {c}").attrs
            attributes["LSMExcitationWavelength"] = letters((920, 488)[c])
            attributes["MicroscopyMode"] = letters("LaserScanningConfocal")
    return path


def bdv_files(path: Path, voxels: Voxels, *, tiles: tuple[int, ...] = (0, 0)) -> Path:
    """Write the HDF5 and the XML file of BigDataViewer from T, Z, C, Y, X; return the HDF5 file."""
    import h5py

    times, planes, channels, rows, columns = voxels.shape
    setups = ""
    with h5py.File(path, "w") as file:
        for t, c in np.ndindex(times, channels):
            file[f"t{t:05}/s{c:02}/0/cells"] = voxels[t, :, c].astype(np.uint16).view(np.int16)
    for c in range(channels):
        setups += (
            f"<ViewSetup><id>{c}</id><size>{columns} {rows} {planes}</size><voxelSize>"
            "<unit>micron</unit><size>0.25 0.5 2.0</size></voxelSize><attributes>"
            f"<channel>{c}</channel><tile>{tiles[c]}</tile><angle>0</angle></attributes></ViewSetup>"
        )
    path.with_suffix(".xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?><!-- made --><SpimData version="0.2">'
        '<BasePath type="relative">.</BasePath><SequenceDescription>'
        f'<ImageLoader format="bdv.hdf5"><hdf5 type="relative">{path.name}</hdf5></ImageLoader>'
        f"<ViewSetups>{setups}</ViewSetups></SequenceDescription></SpimData>"
    )
    return path


# CZI ----------------------------------------------------------------------------------------------

CZI_OPTICS = """<Instrument><Objectives><Objective Id="Objective:1"><LensNA>1.0</LensNA>
<Immersion>Water</Immersion></Objective></Objectives></Instrument>"""


def czi_file(path: Path, voxels: Voxels, *, planes: int | None = None, scenes: int = 1) -> Path:
    """Write a CZI from T, Z, C, Y, X; with `planes`, only the first planes of the last channel."""
    from pylibCZIrw import czi

    with czi.create_czi(str(path), exist_ok=True) as file:
        for t, z, c in np.ndindex(voxels.shape[:3]):
            if planes is not None and c == voxels.shape[2] - 1 and z >= planes:
                continue
            for scene in range(scenes):
                place = {"T": t, "Z": z, "C": c}
                file.write(
                    voxels[t, z, c][..., np.newaxis], plane=place, scene=scene,
                    location=(100 + 50 * scene, 30),
                )  # fmt: skip
        file.write_metadata("a", scale_x=0.25e-6, scale_y=0.25e-6, scale_z=2e-6)
    with czi.edit_czi(str(path)) as editor, editor.edit_session() as session:
        xml = session.get_xml()
        xml = xml.replace("<Information>", f"<Information>{CZI_OPTICS}", 1)
        for nm in (920, 488)[: voxels.shape[2]]:
            entry = f"<ExcitationWavelength>{nm}</ExcitationWavelength><AcquisitionMode>"
            entry += "LaserScanningConfocalMicroscopy</AcquisitionMode><PixelType>"
            xml = xml.replace("<PixelType>", entry.replace("<Pixel", "<pixel"), 1)
        session.set_xml(xml.replace("<pixelType>", "<PixelType>"))
    return path


# LIF ----------------------------------------------------------------------------------------------


def _lif_dimension(number: int, size: int, step_um: float, stride: int) -> str:
    return (
        f'<DimensionDescription DimID="{number}" NumberOfElements="{size}" Origin="0" '
        f'Length="{step_um * 1e-6 * (size - 1)!r}" Unit="m" BitInc="0" BytesInc="{stride}"/>'
    )


def _lif_image(name: str, voxels: Voxels, block: str) -> str:
    times, planes, channels, rows, columns = voxels.shape
    plane = rows * columns * voxels.itemsize
    described = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{8 * voxels.itemsize}" '
        'NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" LUTName="Gray" IsLUTInverted="0" '
        f'BytesInc="{c * plane}" BitInc="0"/>'
        for c in range(channels)
    )
    dimensions = (
        _lif_dimension(1, columns, 0.25, voxels.itemsize)
        + _lif_dimension(2, rows, 0.5, columns * voxels.itemsize)
        + (_lif_dimension(3, planes, 2.0, channels * plane) if planes > 1 else "")
        + (_lif_dimension(4, times, 1e6, planes * channels * plane) if times > 1 else "")
    )
    return (
        f'<Element Name="{name}" UniqueID="{block}"><Data><Image><ImageDescription>'
        f"<Channels>{described}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription>"
        '<Attachment Name="HardwareSetting"><ATLConfocalSettingDefinition '
        'NumericalAperture="0.95" RefractionIndex="1.33" ObjectiveName="HC FLUOTAR 25x/0.95 W">'
        '<Aotf><LaserLineSetting LaserLine="488" IntensityDev="0"/>'
        '<LaserLineSetting LaserLine="900" IntensityDev="12.5"/></Aotf>'
        "</ATLConfocalSettingDefinition></Attachment></Image></Data>"
        f'<Memory Size="{voxels.nbytes}" MemoryBlockID="{block}"/></Element>'
    )


def lif_file(path: Path, images: dict[str, Voxels], *, before: str = "") -> Path:
    """Write a LIF of images from T, Z, C, Y, X."""
    children = "".join(_lif_image(n, v, f"MemBlock_{k}") for k, (n, v) in enumerate(images.items()))
    xml = (
        f'{before}<LMSDataContainerHeader Version="2"><Element Name="{path.name}">'
        f"<Children>{children}</Children></Element></LMSDataContainerHeader>"
    )
    content = struct.pack("<IIBI", 0x70, 2 * len(xml) + 5, 0x2A, len(xml)) + xml.encode("utf-16-le")
    for k, voxels in enumerate(images.values()):
        name = f"MemBlock_{k}"
        content += struct.pack(
            "<IIBQBI", 0x70, 14 + 2 * len(name), 0x2A, voxels.nbytes, 0x2A, len(name)
        )
        content += name.encode("utf-16-le") + voxels.tobytes()
    path.write_bytes(content)
    return path


# OIF and OIB --------------------------------------------------------------------------------------


def _oif_settings(voxels: Voxels) -> str:
    times, planes, channels, rows, columns = voxels.shape
    axes = [
        ("X", columns, 0, columns * 0.25, "um"), ("Y", rows, 0, rows * 0.5, "um"),
        ("C", channels, 0, 0, ""), ("Z", planes, 0, (planes - 1) * 2000, "nm"),
        ("T", times, 0, 0, "ms"),
    ]  # fmt: skip
    lines = ["[Acquisition Parameters Common]", 'ObjectiveLens Name="XLPLN 25x W NA1.05"']
    for k, (code, size, start, end, unit) in enumerate(axes):
        lines += [f"[Axis {k} Parameters Common]", f'AxisCode="{code}"', f"MaxSize={size}"]
        lines += [f"StartPosition={start}", f"EndPosition={end}", f'UnitName="{unit}"']
        lines += ["Interval=2000"] if code == "Z" else []
    for c in range(channels):
        lines += [f"[Channel {c + 1} Parameters]", f"ExcitationWavelength={(920, 488)[c]}"]
    return "\r\n".join(lines)


def _oif_planes(voxels: Voxels) -> dict[str, Voxels]:
    return {
        f"s_C{c + 1:03}Z{z + 1:03}T{t + 1:03}.tif": voxels[t, z, c]
        for t, z, c in np.ndindex(voxels.shape[:3])
    }


def oif_file(path: Path, voxels: Voxels) -> Path:
    """Write an OIF and its folder from T, Z, C, Y, X."""
    path.write_text(_oif_settings(voxels), "utf-16")
    folder = path.with_name(f"{path.name}.files")
    folder.mkdir(exist_ok=True)
    for name, plane in _oif_planes(voxels).items():
        plane_file(folder / name, plane)
    return path


def oib_file(path: Path, voxels: Voxels) -> Path:
    """Write an OIB from T, Z, C, Y, X."""
    streams: dict[str, bytes] = {}
    info = ["[OibSaveInfo]", "Name=a.oib", "MainFileName=Stream00000", "Stream00000=a.oif"]
    streams["Stream00000"] = _oif_settings(voxels).ljust(4096).encode("utf-16")
    for k, (name, plane) in enumerate(_oif_planes(voxels).items(), start=1):
        plane_file(path, plane)
        streams[f"Stream{k:05}"] = path.read_bytes()
        info.append(f"Stream{k:05}=Storage00001\\{name}")
    streams["OibInfo.txt"] = "\r\n".join(info).ljust(4096).encode("utf-16")
    path.write_bytes(compound(streams))
    return path


def compound(streams: dict[str, bytes]) -> bytes:
    """A compound file: a header, one table of sectors, a directory, and the streams."""
    size, free, end = 512, 0xFFFFFFFF, 0xFFFFFFFE
    entries = [("Root Entry", 5, free, 1, end, 0)]
    sectors, chains = b"", list[int]()
    directory = -(-(len(streams) + 1) * 128 // size)
    table = -(-sum(-(-max(len(d), 4096) // size) for d in streams.values()) // 100) + 1
    first = table + directory
    for k, (name, data) in enumerate(streams.items(), start=1):
        data = data.ljust(4096, b"\0")  # short streams would lie in a stream of their own
        count = -(-len(data) // size)
        start = first + len(chains)
        chains += [*range(start + 1, start + count), end]
        sectors += data.ljust(count * size, b"\0")
        entries.append((name, 2, k + 1 if k < len(streams) else free, free, start, len(data)))
    fat = [0xFFFFFFFD] * table
    fat += [*range(table + 1, table + directory), end, *chains]
    fat += [free] * (table * size // 4 - len(fat))
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16)
    header += struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<IIIIIIIII", 0, table, table, 0, 4096, end, 0, end, 0)
    header += struct.pack("<109I", *range(table), *[free] * (109 - table))
    described = b"".join(_entry(*entry) for entry in entries).ljust(directory * size, b"\0")
    return header + struct.pack(f"<{len(fat)}I", *fat) + described + sectors


def _entry(name: str, kind: int, right: int, child: int, start: int, size: int) -> bytes:
    text = (name + "\0").encode("utf-16-le")
    numbers: tuple[Any, ...] = (len(text), kind, 1, 0xFFFFFFFF, right, child, bytes(16), 0, 0, 0)
    return text.ljust(64, b"\0") + struct.pack("<HBBIII16sIQQIQ", *numbers, start, size)
