"""Several channels and time points of a file, enhanced into one result."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.optics import Optics
from tenet.io.picks import Picks
from tenet.io.results import result_channels
from tenet.tasks.batch import enhance_each
from tenet.tasks.enhance import Wanted, enhance
from tenet.tasks.reading import Reading

CPU, ALL = torch.device("cpu"), Picks.parse("all")
SIZE_UM = (0.8, 0.2, 0.2)
AS_TOLD = Wanted(optics=Optics(0.6), find_psf=False)


def write(path: Path, broken: Sequence[tuple[int, int]] = ()) -> Path:
    """Two channels and three time points of a line that fades; broken ones have no end."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(20, (3, 2, 10, 32, 28)).astype(np.float32)
    for time in range(3):
        counts[time, :, 4:6, 15:18] += 600 / (time + 1)
    counts[:, 1] *= 2
    for channel, time in broken:
        counts[time, channel, 5, 5, 5] = np.inf
    sizes = {f"PhysicalSize{axis}": um for axis, um in zip("ZYX", SIZE_UM, strict=True)}
    metadata = {"axes": "TCZYX"} | sizes
    tifffile.imwrite(path, counts, photometric="minisblack", metadata=metadata)
    return path


def one(reading: Reading, model: Path, out: Path, wanted: Wanted = AS_TOLD) -> list[Path]:
    return list(enhance(reading, model, out, wanted, device=CPU))


@pytest.mark.parametrize("as_zarr", [False, True])
def test_parts_of_one_result_are_what_they_are_apart(
    as_zarr: bool, every: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "series.ome.tif")
    wanted = Wanted(optics=Optics(0.6), find_psf=False, as_zarr=as_zarr, uncertainty=True)
    reading = Reading([path], channel=ALL, time=ALL)
    written = one(reading, every, tmp_path / "out", wanted)
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    whole, record = tmp_path / f"out/series.{wanted.suffix}", tmp_path / "out/series.json"
    assert written == [whole, record]
    kinds = ("shape", "brightness", "uncertainty")
    assert result_channels(whole) == tuple(f"{kind} c{c}" for c in (0, 1) for kind in kinds)
    apart = Reading([path], channel=ALL, time=ALL, apart=True)
    one(apart, every, tmp_path / "apart", wanted)
    for channel in (0, 1):
        for time in range(3):
            own = tmp_path / f"apart/series_c{channel}_t00{time}.{wanted.suffix}"
            for kind in range(3):
                joined = open_stack(whole, channel=3 * channel + kind, time=time)
                assert joined.voxel_size_um == pytest.approx((0.2, 0.2, 0.2))
                np.testing.assert_array_equal(joined.read(), open_stack(own, channel=kind).read())
    parts = json.loads(record.read_text())["parts"]
    assert [(part["channel"], part["time"]) for part in parts] == [
        (c, t) for c in (0, 1) for t in range(3)
    ]
    for part in parts:
        name = f"apart/series_c{part['channel']}_t00{part['time']}.json"
        assert part == json.loads((tmp_path / name).read_text())


@pytest.mark.parametrize("fit", ["once", "each"])
def test_a_channel_is_fitted_once_or_at_each_time_point(
    fit: str, every: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "series.ome.tif")
    wanted = Wanted(optics=Optics(0.6), find_psf=False, fit=fit)  # type: ignore[arg-type]
    one(Reading([path], channel=ALL, time=ALL), every, tmp_path / "out", wanted)
    record = json.loads((tmp_path / "out/series.json").read_text())
    high = {(p["channel"], p["time"]): p["intensities"]["high"] for p in record["parts"]}
    for channel in (0, 1):
        of_channel = [high[channel, time] for time in range(3)]
        # The line fades, and its intensities with it, if each has its own.
        assert len(set(of_channel)) == (1 if fit == "once" else 3)
    assert high[1, 0] == pytest.approx(2 * high[0, 0], rel=0.2)


def test_a_series_goes_on_where_it_stopped(
    every: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "series.ome.tif", tmp_path / "out"
    reading = Reading([write(path, broken=[(0, 2)])], channel=0, time=ALL)
    with pytest.raises(TenetError, match=r"series\.ome\.tif t002: NaN or infinite"):
        one(reading, every, out)
    # The first time point has the intensities of all, and so the third is met when it is enhanced.
    assert [p.name for p in out.iterdir()] == ["series.parts"]
    assert {p.name for p in (out / "series.parts").iterdir()} == {
        f"series_t00{time}.{suffix}" for time in (0, 1) for suffix in ("ome.tif", "json")
    }
    write(path)
    capsys.readouterr()
    one(reading, every, out)
    said = capsys.readouterr().err
    assert "series.ome.tif t002: intensities" in said
    assert "t000: intensities" not in said
    assert {p.name for p in out.iterdir()} == {"series.ome.tif", "series.json"}
    assert open_stack(out / "series.ome.tif", channel=0, time=0).times == 3


def test_a_folder_has_a_row_for_each_series(every: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    write(data / "a.ome.tif")
    write(data / "b.ome.tif", broken=[(1, 1)])
    reading = Reading([data], channel=ALL, time=ALL)

    def rows(**how: bool) -> list[tuple[str, str, str]]:
        found = enhance_each(reading, every, out, AS_TOLD, device=CPU, **how)
        return [(Path(row.stack).name, row.status, Path(row.result).name) for row in found]

    a = "a.ome.tif"
    assert rows() == [(a, "done", a), ("b.ome.tif", "failed", "")]
    assert rows() == [(a, "done before", a), ("b.ome.tif", "failed", "")]
    assert len(list((out / "b.parts").glob("*.ome.tif"))) == 4  # all before the broken one
    write(data / "b.ome.tif")
    # What a kill leaves that comes while the parts of a result are removed.
    (out / "a.parts").mkdir()
    (out / "a.parts/a_c1_t002.ome.tif").touch()
    assert rows() == [(a, "done before", a), ("b.ome.tif", "done", "b.ome.tif")]
    assert list(out.glob("*.parts")) == []


def test_pictures_are_of_the_first_time_point_of_each_channel(every: Path, tmp_path: Path) -> None:
    path, out = write(tmp_path / "series.ome.tif"), tmp_path / "out"
    wanted = Wanted(optics=Optics(0.6), find_psf=False, sheet=True)
    one(Reading([path], channel=ALL, time=Picks.parse("1:")), every, out, wanted)
    pictures = {f"series_c{c}_t001.{suffix}" for c in (0, 1) for suffix in ("png", "html")}
    assert {p.name for p in out.iterdir()} == {"series.ome.tif", "series.json", *pictures}
