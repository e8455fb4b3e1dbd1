"""A source of the record: what is taken, how it is read, and what is told if it is unexpected."""

import csv
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from scipy import ndimage

from tenet.errors import TenetError
from tenet.io.levels import write_levels
from tenet.io.open import open_stack
from workflow.lib.catalogue import Catalogue
from workflow.lib.source_files import archive_names, fetch_source
from workflow.lib.sources import Source, fits, natural, shared_name
from workflow.lib.stacks import source_specification
from workflow.lib.zenodo import write_manifest

UM = (0.5, 0.2, 0.2)
SHAPE = (24, 48, 48)


def bead_image(*centres, seed=0):
    """Balls of 2 µm with blurred borders, in noise."""
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    image = np.zeros(SHAPE)
    for centre in centres:
        image[(((grid - centre) * UM) ** 2).sum(-1) <= 1] = 1000
    image = ndimage.gaussian_filter(image, (2, 1.5, 1.5))
    noise = np.random.default_rng(seed).normal(100, 5, SHAPE)
    return np.clip(image + noise, 0, None).astype(np.uint16)


#: A bead in each image, and the table of them: images 0 to 3, two folds.
CENTRES = [(12, 20, 20), (11, 26, 30), (13, 30, 18), (10, 16, 28)]
TABLE = "roi,image,z,y,x,fold\n" + "".join(
    f"{i},{i},{z},{y},{x},{i % 2}\n" for i, (z, y, x) in enumerate(CENTRES)
)


@pytest.fixture
def place(tmp_path):
    """A record that is served from a folder, and where things go."""
    (tmp_path / "served").mkdir()
    (tmp_path / "rois.csv").write_text(TABLE)
    return tmp_path


def serve(place, **archives):
    """Put archives, or loose files, into the record: {name: {file: content}}."""
    served = place / "served"
    for name, content in archives.items():
        if isinstance(content, bytes):
            (served / name).write_bytes(content)
            continue
        with zipfile.ZipFile(served / name.replace("_zip", ".zip"), "w") as archive:
            for file, body in content.items():
                archive.writestr(file, body)
    sums = [
        f"{hashlib.md5(p.read_bytes()).hexdigest()}  {p.name}\n"
        for p in served.iterdir()
        if p.name != "md5sums.txt"
    ]
    (served / "md5sums.txt").write_text("".join(sums))


def tiff(image, **options):
    """Bytes of a TIFF as Python writes it."""
    path = Path("written.tif")
    tifffile.imwrite(path, image, **options)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fetch(place, **spec):
    source = Source(**{"name": "s", "folder": "stacks", "voxel_size_um": UM} | spec)
    write_manifest("1", place / "manifest.csv", str(place / "served"))
    out = place / "out/s"
    fetch_source(source, place / "manifest.csv", place / "files", out, place / "out/s.csv")
    return out


def refused(place, **spec):
    with pytest.raises(TenetError) as error:
        fetch(place, **spec)
    assert not (place / "out/s").exists()
    assert not (place / "out/s.csv").exists()
    return str(error.value)


def beads(places=CENTRES, name="stacks/{:02}.tif"):
    return {name.format(i): tiff(bead_image(c, seed=i)) for i, c in enumerate(places)}


# What is written ----------------------------------------------------------------------------------


def test_stacks_become_ome_tiffs_with_the_right_voxels(place, capfd):
    image = bead_image(CENTRES[0])
    frames = image.reshape(24, 1, 1, 48, 48)
    imagej = tiff(
        frames,
        imagej=True,
        metadata={"axes": "TZCYX", "unit": "um", "spacing": 0.4},
        resolution=(5, 5),
    )
    torch.save(torch.from_numpy(image.astype(np.float32))[None], place / "t.pt")
    serve(
        place,
        a_zip={
            "deep/stacks/a.tif": tiff(image),
            "deep/stacks/b.tif": imagej,
            "deep/stacks/more/c.pt": (place / "t.pt").read_bytes(),
            "deep/stacks/notes.txt": b"x",
        },
    )
    out = fetch(place, planes_are="T")
    assert sorted(p.name for p in out.iterdir()) == ["a.ome.tif", "b.ome.tif", "c.ome.tif"]
    for path in out.iterdir():
        stack = open_stack(path)
        assert stack.voxel_size_um == pytest.approx(UM)
        np.testing.assert_array_equal(stack.read(), image)
    assert open_stack(out / "a.ome.tif").dtype == np.uint16
    with (place / "out/s.csv").open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert rows["b.tif"]["planes"] == "24"
    assert rows["a.tif"]["stack"] == "a.ome.tif"
    told = capfd.readouterr().err
    assert "source s: 3 of 3 stacks used" in told
    assert "a.tif: is a; 24×48×48 uint16, 0.5 × 0.2 × 0.2 µm" in told


def test_stacks_in_levels_keep_their_values(place):
    values = np.random.default_rng(0).random(SHAPE, np.float32)
    write_levels(place / "a.ome.tif", values, UM, "intensity", 1023)
    serve(place, a_zip={"stacks/a.ome.tif": (place / "a.ome.tif").read_bytes()})
    written = open_stack(fetch(place) / "a.ome.tif").read()
    assert np.abs(written - values).max() < 1e-3


def test_a_voxel_size_that_differs_is_mentioned_and_one_that_is_missing_is_asked_for(place, capfd):
    image = bead_image(CENTRES[0])
    said = tiff(
        image,
        imagej=True,
        metadata={"axes": "ZYX", "unit": "um", "spacing": 0.6},
        resolution=(5, 5),
    )
    serve(place, a_zip={"stacks/a.tif": said})
    fetch(place)
    assert (
        "warning: a.tif says 0.6 × 0.2 × 0.2 µm; voxel_size_um, 0.5 × 0.2" in capfd.readouterr().err
    )
    fetch(place, voxel_size_um=None)
    assert open_stack(place / "out/s/a.ome.tif").voxel_size_um == pytest.approx((0.6, 0.2, 0.2))
    serve(place, a_zip={"stacks/a.tif": tiff(image)})
    (place / "files/a.zip").unlink()
    (place / "out/s.csv").unlink()
    import shutil

    shutil.rmtree(place / "out/s")
    assert "expected a voxel size in a.tif" in refused(place, voxel_size_um=None)
    told = refused(place, expected_um={"fig9": (0.5, 0.25, 0.25)})
    assert "expected voxels of 0.5 × 0.25 × 0.25 µm in a.tif (experiment fig9), found 0.5" in told


def test_short_stacks_are_left_out_by_name_and_a_limit_is_kept_to(place, capfd):
    image = bead_image(CENTRES[0])
    serve(
        place,
        a_zip={
            f"stacks/{n}.tif": tiff(image[: 5 if n == 2 else 24] + np.uint16(n))
            for n in (1, 2, 3, 10)
        },
    )
    out = fetch(place, limit=2, least_zyx=(8, 40, 40))
    assert sorted(p.name for p in out.iterdir()) == ["1.ome.tif", "3.ome.tif"]
    told = capfd.readouterr().err
    assert "2.tif: left out: too small for a crop (5 planes of 8)" in told
    assert "10.tif: left out: more than limit: 2" in told


def test_only_the_archives_that_are_needed_are_downloaded(place):
    image = tiff(bead_image(CENTRES[0]))
    serve(
        place,
        a_zip={"other/x.tif": image},
        fig3_zip={"stacks/a.tif": image},
        z_zip={"huge/x.tif": image},
    )
    assert archive_names(
        Source("s", "stacks", ("*Fig3*", "*")), ["a.zip", "fig3.ZIP", "a.tif"]
    ) == ["fig3.ZIP", "a.zip"]
    fetch(place, archives=("*fig3*", "*"))
    assert [p.name for p in (place / "files").iterdir() if p.name[0] != "."] == ["fig3.zip"]
    fetch(place)
    assert not (place / "files/z.zip").exists()


def test_an_archive_in_an_archive_and_loose_files(place):
    image = tiff(bead_image(CENTRES[0]))
    with zipfile.ZipFile("inner.zip", "w") as archive:
        archive.writestr("stacks/a.tif", image)
    serve(
        place,
        a_zip={"data/inner.zip": Path("inner.zip").read_bytes()},
        **{"b_1.tif": image, "b_2.tif": image[:-1] + b"x", "c.tif": image},
    )
    assert [p.name for p in fetch(place).iterdir()] == ["a.ome.tif"]
    out = fetch(place, folder="", files="b_*")
    assert sorted(p.name for p in out.iterdir()) == ["b_1.ome.tif", "b_2.ome.tif"]
    assert not (place / "files/c.tif").exists()


def test_what_is_not_there_is_told_with_what_is(place):
    serve(place, a_zip={"other/x.tif": b"x"})
    assert "no folder fits 'stacks'" in refused(place)
    assert "a/other" in refused(place)
    told = refused(place, archives=("*.7z",))
    assert "expected an archive that fits *.7z, found none in the record, which holds a.zip" in told
    assert "expected loose files that fit 'b*'" in refused(place, folder="", files="b*")
    told = refused(place, folder="other", files="b*")
    assert "expected stacks that fit 'b*', found x.tif" in told
    told = refused(place, folder="other")
    assert "expected a stack in x.tif, found: " in told
    serve(place, b_zip={"other/x.oir": b"x", "other/notes.txt": b"x"})
    told = refused(place, folder="other", archives=("b*",))
    assert "expected stacks that fit '*', found notes.txt, x.oir" in told


def test_intensities_that_are_no_image_are_all_named(place):
    image = bead_image(CENTRES[0])
    serve(
        place,
        a_zip={
            "stacks/0.tif": tiff(image),
            "stacks/1.tif": tiff(np.where(image > 500, np.nan, image).astype(np.float32)),
            "stacks/2.tif": tiff(np.full(SHAPE, 7, np.uint16)),
        },
    )
    told = refused(place)
    assert "expected an image in 1.tif, found: plane " in told
    assert "holds NaN or infinite intensities" in told
    assert "expected an image in 2.tif, found: all intensities are 7" in told
    assert "(2); nothing is trained on it" in told
    assert len(list(fetch(place, limit=1).iterdir())) == 1


def test_what_planes_are_hides_no_other_error(place):
    colours = tiff(np.zeros((*SHAPE, 3), np.uint8), photometric="rgb")
    serve(place, a_zip={"stacks/0.tif": colours, "stacks/1.pt": b"x"})
    told = refused(place, planes_are="T")
    assert "expected a stack in 0.tif, found: this is a colour (RGB) image" in told
    assert "expected a stack in 1.pt, found: this is no file of torch.save" in told


def test_files_of_one_name_are_told_with_their_folders(place):
    image = tiff(bead_image(CENTRES[0]))
    serve(place, a_zip={f"stacks/{name}.tif": image for name in ("a/x", "b/a/x")})
    assert "expected one stack a_x, found several: a/x.tif, b/a/x.tif" in refused(place)


# Channels in files of their own -------------------------------------------------------------------

PAIRS = {"files": "*C1", "partner": "*C2"}


def test_natural_order():
    names = ["a", "image10", "2b", "image2", "image", "10b"]
    ordered = ["2b", "10b", "a", "image", "image2", "image10"]
    assert sorted(map(Path, names), key=natural) == list(map(Path, ordered))


def test_files_of_an_image_share_their_name():
    assert shared_name(Path("mouse 1_C1.tif"), "*C1") == "mouse 1"
    assert shared_name(Path("mouse 1_C1.tif"), "*C1.tif") == "mouse 1"
    assert shared_name(Path("x.tiff"), "*") == "x"
    assert fits(Path("aC1.tiff"), "*C1")
    assert not fits(Path("aC1.tiff"), "*C1.tif")


def test_both_channels_have_the_same_names(place):
    one, two = (bead_image(c, seed=n) for n, c in enumerate(CENTRES[:2]))
    serve(
        place,
        a_zip={
            "stacks/m1/t_C1.tif": tiff(one),
            "stacks/m1/t_C2.tif": tiff(two),
            "stacks/m2/t_C1.tif": tiff(two),
            "stacks/m2/t_C2.tif": tiff(one),
        },
    )
    names = [
        sorted(p.name for p in fetch(place, files=a, partner=b).iterdir())
        for a, b in (("*C1", "*C2"), ("*C2", "*C1"))
    ]
    assert names == [["m1_t.ome.tif", "m2_t.ome.tif"]] * 2


def test_pairs_that_are_wrong_are_all_named(place):
    one, two = (bead_image(c, seed=n) for n, c in enumerate(CENTRES[:2]))
    serve(
        place,
        a_zip={
            "stacks/a_C1.tif": tiff(one),
            "stacks/b_C2.tif": tiff(two),
            "stacks/c_C1.tif": tiff(one),
            "stacks/c_C2.tif": tiff(one[:20]),
            "stacks/d_C1.tif": tiff(one),
            "stacks/d_C2.tif": tiff(one),
            "stacks/e_C1.tif": b"damaged",
            "stacks/e_C2.tif": tiff(two),
        },
    )
    told = refused(place, **PAIRS)
    assert "expected a partner that fits '*C2' for a_C1.tif, found none" in told
    assert "expected a partner that fits '*C1' for b_C2.tif, found none" in told
    assert "expected c_C2.tif to be as large as c_C1.tif (24×48×48), found 20×48×48" in told
    assert "expected another channel in d_C2.tif, found the same as in d_C1.tif" in told
    assert "expected a stack in e_C1.tif, found: this is not a TIFF file" in told
    assert "(5); nothing is trained on it" in told


# Beads where regions say --------------------------------------------------------------------------


def test_images_are_named_by_their_numbers(place):
    serve(place, a_zip=beads(name="stacks/roi_{:02}_reg.tif"))
    out = fetch(place, rois=(str(place / "rois.csv"),))
    assert sorted(p.name for p in out.iterdir()) == [f"{i:02}.ome.tif" for i in range(4)]


@pytest.mark.parametrize(
    ("names", "right"),
    [
        ([1, 2, 3, 4], {"numbering": "digits", "first_image": -1}),
        ([3, 5, 8, 11], {"numbering": "order", "first_image": 0}),
    ],
)
def test_the_numbering_that_fits_is_named(place, names, right):
    images = beads()
    serve(
        place,
        a_zip={f"stacks/{n:02}.tif": body for n, body in zip(names, images.values(), strict=True)},
    )
    rois = (str(place / "rois.csv"),)
    told = refused(place, rois=rois)
    words = ", ".join(f"{key}: {value}" for key, value in right.items())
    assert f"with {words}, every region has its bead" in told
    out = fetch(place, rois=rois, **right)
    assert sorted(p.name for p in out.iterdir()) == [f"{i:02}.ome.tif" for i in range(4)]


def test_an_image_below_the_first_is_left_out(place, capfd):
    """As -1 its name would end with the number of another image."""
    images = beads(name="stacks/{:02}.tif", places=[CENTRES[1], *CENTRES])
    serve(place, a_zip=images)
    out = fetch(place, rois=(str(place / "rois.csv"),), first_image=-1)
    assert sorted(p.name for p in out.iterdir()) == [f"{i:02}.ome.tif" for i in range(4)]
    assert "00.tif: left out: before image 0" in capfd.readouterr().err


def test_a_table_for_other_images_is_told(place):
    serve(place, a_zip=beads([(12, 30, 34), (11, 8, 12), (13, 12, 40), (10, 38, 10)]))
    told = refused(place, rois=(str(place / "rois.csv"),))
    assert told.count("expected a bead at plane") == 4
    assert (
        "expected a bead at plane 12, row 20, column 20 of 00.tif (region 0, image 0), found "
        in told
    )
    assert "is the table that of other images?" in told
    empty = {f"stacks/{i:02}.tif": tiff(bead_image(seed=i)) for i in range(4)}
    (place / "files/a.zip").unlink()
    serve(place, a_zip=empty)
    assert refused(place, rois=(str(place / "rois.csv"),)).count("expected a bead") == 4


@pytest.mark.parametrize(("column", "value"), [("image", "0.5"), ("z", "1e300")])
def test_a_table_of_no_whole_numbers_is_told(place, column, value):
    row = {"roi": 0, "image": 0, "z": 12, "y": 20, "x": 20, "fold": 0} | {column: value}
    (place / "rois.csv").write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    serve(place, a_zip=beads())
    told = refused(place, rois=(str(place / "rois.csv"),))
    assert f"row 1 has '{float(value)}' under {column}, where a whole number must stand" in told


def test_an_image_that_is_missing_or_too_short_is_told_with_its_regions(place):
    images = beads()
    images.pop("stacks/02.tif")
    images["stacks/03.tif"] = tiff(bead_image(CENTRES[3])[:12])
    serve(place, a_zip=images)
    told = refused(place, rois=(str(place / "rois.csv"),), least_zyx=(20, 8, 8))
    assert "expected image 2 (regions 2), found none" in told
    assert "expected image 3 (regions 3), found 03.tif, too small for a crop" in told


def test_a_fold_that_leaks_is_an_error(place, capfd):
    """Image 1, of fold 1, is there once more as image 4, which fold 1 would be trained on."""
    images = beads()
    images["stacks/04.tif"] = images["stacks/01.tif"]
    serve(place, a_zip=images)
    told = refused(place, rois=(str(place / "rois.csv"),))
    assert "one image under several names (01.tif, 04.tif): the models of folds 1 would see" in told
    (place / "rois.csv").write_text(TABLE + "4,1,11,26,30,0\n")
    (place / "files/a.zip").unlink()
    serve(place, a_zip=beads())
    fetch(place, rois=(str(place / "rois.csv"),))
    assert "image 1 is tested in folds 0, 1; each of their models" in capfd.readouterr().err


# The configuration --------------------------------------------------------------------------------


def test_a_source_knows_what_its_experiments_need(paper):
    beads = Source.parse(source_specification(paper, "beads"))
    assert beads.rois == ("resources/bead_rois.csv",)
    assert beads.expected_um["fig3_beads"] == [0.5, 0.05, 0.05]
    assert beads.least_zyx == (24, 112, 112)
    tumour = Source.parse(source_specification(paper, "tumour"))
    assert (tumour.files, tumour.partner, tumour.rois) == ("*C2", "*C1", ())
    assert list(tumour.expected_um) == ["fig5_tumour"]
    assert json.loads(source_specification(paper, "neurons"))["planes_are"] == "T"


def test_an_experiment_with_the_needs_of_another_is_no_reason_to_run_again(paper):
    """What a rule's `params` say is what runs it again, and with it every training."""
    fewer = Catalogue({**paper.config, "ablations": ["supp_mrf"]}, {}, paper.root)
    assert source_specification(fewer, "beads") == source_specification(paper, "beads")
