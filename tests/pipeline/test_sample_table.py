"""The table of the user's own stacks: what is clear is read, what is not is named in one line."""

import os

import pytest
from support import ROOT

from workflow.lib.sample_table import MOST_BYTES, read_samples
from workflow.lib.samples import reading_options

SCHEMA = ROOT / "workflow/schemas/samples.schema.yaml"

VOXEL = ["voxel_z_um", "voxel_y_um", "voxel_x_um"]
HEADER = ["name", "file", *VOXEL, "experiment", "NA", "wavelength", "ni"]
NO_VOXEL = ["", "", ""]
OPTICS = ["", "0.8", "0.9", "1.33"]


def write_samples(folder, *rows):
    (folder / "stack.tif").touch()
    path = folder / "samples.tsv"
    text = "\n".join("\t".join(row) for row in rows)
    path.write_text(text.replace("STACK", f"{folder}/stack.tif"))
    return read_samples(path, SCHEMA)


def test_samples_are_read(tmp_path):
    samples = write_samples(
        tmp_path,
        ["# a comment"],
        [*HEADER, "photons"],
        ["one", "STACK", "1.0", ".12", "0.12", "", "0.8", "0.92", "1.33", "2"],
        ["two", "STACK", "", "", "", "fig5_microglia"],
    )
    optics = {"NA": 0.8, "wavelength": 0.92, "ni": 1.33, "photons": 2}
    voxel = {"voxel_z_um": 1.0, "voxel_y_um": 0.12, "voxel_x_um": 0.12}
    file, table = f"{tmp_path}/stack.tif", f"{tmp_path}/samples.tsv"
    assert samples == {
        "one": {"name": "one", "file": file, **voxel, **optics, "where": f"{table}, line 3 (one)"},
        "two": {
            "name": "two",
            "file": file,
            "experiment": "fig5_microglia",
            "where": f"{table}, line 4 (two)",
        },
    }


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (["name", "file", "voxel_z"], [], "unknown column 'voxel_z'; did you mean 'voxel_z_um'"),
        (HEADER, ["a b", "STACK", *NO_VOXEL, *OPTICS], "line 2: name: 'a b' is not a name of"),
        (HEADER, ["a", "STACK", "1", "", "0.1", *OPTICS], "voxel_y_um missing: give all three"),
        (HEADER, ["a", "STACK", "0.1", "0.5", "0.5", *OPTICS], "finer than voxel_x_um"),
        (HEADER, ["a", "STACK", "nan", "1", "1", *OPTICS], "voxel_z_um: 'nan' is not a number"),
        (HEADER, ["a", "STACK", "1e999", "1", "1", *OPTICS], "'1e999' is not a number"),
        (HEADER, ["a", "STACK", "1 µm", "1", "1", *OPTICS], "'1 µm' is not a number"),
        (HEADER, ["a", "STACK", "1,234,5", "1", "1", *OPTICS], "'1,234,5' is not a number"),
        (HEADER, ["a", "STACK", "9" * 5000, "1", "1", *OPTICS], "'9{40}' is not a number"),
        (HEADER, ["a", "STACK", "1_0", "1", "1", *OPTICS], "'1_0' is not a number"),
        (HEADER, ["a", "x<results>.tif", *NO_VOXEL, *OPTICS], "takes for a pattern"),
        (HEADER, ["a", "x{y}.tif", *NO_VOXEL, *OPTICS], "takes for a pattern"),
        (HEADER, ["a", "x" * 5000, *NO_VOXEL, *OPTICS], "line 2 .a.: file: x+ cannot be opened"),
        (HEADER, ["-a", "STACK", *NO_VOXEL, *OPTICS], "'-a' is not a name of"),
        (HEADER, ["a" * 101, "STACK", *NO_VOXEL, *OPTICS], "is not a name of"),
        (HEADER, ["all", "STACK", *NO_VOXEL, *OPTICS], "'all' is not a name of"),
        (HEADER, ["fold3", "STACK", *NO_VOXEL, *OPTICS], "'fold3' is not a name of"),
        (HEADER, ['"a', "STACK", *NO_VOXEL, *OPTICS], "line 2: a quote that opens a field"),
        ([*HEADER, "na"], ["a", "STACK"], "there are 2 columns NA; keep one"),
        ([*HEADER[:3], "", *HEADER[3:]], ["a", "STACK"], "column 4 has no name"),
        (["name file experiment"], ["a"], "one field, 'name file experiment': separate"),
        (
            [*HEADER, "planes_are"],
            ["a", "STACK", *NO_VOXEL, *OPTICS, "z"],
            "planes_are: 'z' is not one of",
        ),
        (
            [*HEADER, "scan_offset"],
            ["a", "STACK", *NO_VOXEL, *OPTICS, "left"],
            "scan_offset: left: give find, or a number of pixels",
        ),
        (
            [*HEADER, "scan_offset"],
            ["a", "STACK", *NO_VOXEL, *OPTICS, "50"],
            "scan_offset: 50 pixels are beyond 12",
        ),
        (HEADER, ["a", "STACK", *NO_VOXEL, "", "1.4", "0.9", "1.33"], "above the immersion index"),
        (HEADER, ["a", "STACK", *NO_VOXEL, "", "0.8"], "wavelength, ni missing"),
        (HEADER, ["a", "STACK", *NO_VOXEL, "fig3_beads", "0.8"], "exclude each other"),
        (HEADER, ["a", "nothing.tif", *NO_VOXEL, *OPTICS], "no file or folder nothing.tif"),
        (HEADER, ["a", "STACK", *NO_VOXEL, *OPTICS, "9"], "line 2: 10 fields under 9 columns"),
        (HEADER, ["", "STACK"], "name missing"),
    ],
)
def test_wrong_sample_gets_one_clear_line(tmp_path, header, row, message):
    with pytest.raises(ValueError, match=message) as error:
        write_samples(tmp_path, header, row)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("again", ["a", "A"])
def test_sample_names_are_unique(tmp_path, again):
    row = ["a", "STACK", *NO_VOXEL, *OPTICS]
    with pytest.raises(ValueError, match=rf"line 3 \({again}\): the name {again} is taken"):
        write_samples(tmp_path, HEADER, row, [again, *row[1:]])


# As others save it --------------------------------------------------------------------------------

TABLE = """# my stacks
name;file;voxel_z_um;voxel_y_um;voxel_x_um;NA;wavelength;ni
a;STACK;1;0.12;0.12;0.8;0.92;1.33
b;STACK;2;0.25;0.25;0.8;0.92;1.33
"""
EXPECTED = {"a": (1, 0.12, 0.8), "b": (2, 0.25, 0.8)}


def read(folder, content):
    (folder / "größe.tif").touch()
    path = folder / "samples.tsv"
    path.write_bytes(content)
    return read_samples(path, SCHEMA)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", ["\t", ";", ","])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_spreadsheets_save_is_read(tmp_path, encoding, separator, end):
    text = TABLE.replace("STACK", str(tmp_path / "größe.tif"))
    text = text.replace(";", separator).replace("\n", end)
    rows = read(tmp_path, text.encode(encoding))
    found = {name: (r["voxel_z_um"], r["voxel_x_um"], r["NA"]) for name, r in rows.items()}
    assert found == EXPECTED
    assert rows["b"]["where"].endswith("line 4 (b)")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.12", "0,12"),
        ("0.12", '"0,12"'),
        ("name;file", "Name;FILE"),
        ("NA", "na"),
        ("NA", " NA\xa0"),
        ("0.92;1.33", "\xa00.92\xa0; 1.33 "),
        ("1.33\n", "1.33;;;\n"),
        ("ni\n", "ni;;\n"),
        ("b;", '\n;;;;;\n\n\xa0\n# c; "d\nb;'),
        ("# my stacks\n", "sep=;\n"),
        ("# my stacks", '"# my; stacks"'),
        ("b;STACK", '"b";"STACK"'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_harmless_differences_change_nothing(tmp_path, old, new, encoding):
    text = TABLE.replace(old, new).replace("STACK", str(tmp_path / "größe.tif"))
    rows = read(tmp_path, text.encode(encoding))
    found = {name: (r["voxel_z_um"], r["voxel_x_um"], r["NA"]) for name, r in rows.items()}
    assert found == EXPECTED
    assert {row["file"] for row in rows.values()} == {str(tmp_path / "größe.tif")}


def test_whole_numbers_are_whole(tmp_path):
    text = TABLE.replace(";ni", ";ni;channel;photons;planes_are;scan_offset").replace(
        "1.33\n", "1.33;1.0;2.0;T;-0,5\n"
    )
    row = read(tmp_path, text.replace("STACK", str(tmp_path / "größe.tif")).encode())["a"]
    assert (str(row["channel"]), str(row["photons"]), row["planes_are"]) == ("1", "2", "T")
    words = ["--channel", "1", "--planes-are", "T", "--scan-offset", "-0.5"]
    assert reading_options(row)[4:] == words


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 and so on", "is a workbook of a spreadsheet: save it as text"),
        (b"\xd0\xcf\x11\xe0 and so on", "is a workbook of a spreadsheet"),
        (bytes(range(256)), "is no text"),
        (b"name\tfile\x00\n", "is no text"),
        (b"name\tfile\x8f\n", "is no text"),
        (b"", "has no header line"),
        (b"# only a comment\n", "has no header line"),
        (b"name,file,NA\na,b,0,8\n", "line 2: 4 fields under 3 columns"),
    ],
)
def test_what_is_no_table_is_told_in_one_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, content)
    assert str(tmp_path / "samples.tsv") in str(error.value)
    assert "\n" not in str(error.value)


def test_what_never_ends_or_is_too_large_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(10**10)
    messages = {
        "/dev/zero": "device or a pipe",
        tmp_path / "pipe": "device or a pipe",
        tmp_path / "loop": "cannot be opened",
        tmp_path / "large": f"at most {MOST_BYTES // 2**20} MiB",
        tmp_path / "nothing.tsv": "no such file",
        tmp_path: "this is a folder",
    }
    for path, message in messages.items():
        with pytest.raises(ValueError, match=message) as error:
            read_samples(ROOT / path, SCHEMA)
        assert "\n" not in str(error.value)
