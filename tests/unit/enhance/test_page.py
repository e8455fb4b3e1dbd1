"""The page of a result: what it shows, that it is small and safe, and that its sliders move."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from small_models import experiment, trained, transparent_model

from tenet.enhance.page import SECTIONS, result_page
from tenet.io.open import open_stack
from tenet.io.writing import write_ome_tiff
from tenet.model.trained import TrainedModel

RAW_UM, FINE_UM = (0.4, 0.1, 0.1), (0.1, 0.1, 0.1)
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
RECORD = {
    "threshold": 0.4,
    "model": "models/<b>box",
    "warnings": ["the PSF is <i>at its limit</i>"],
    "found": {"NA": 0.9, "fill": None},
    "told": {"NA": 0.8, "fill": None},
    "psf_um": {"axial": 2.5, "lateral": None},
    "likeness": {"explained": 0.97, "wrong": 0.2},
}


def own_model(scale: int) -> TrainedModel:
    model = trained(transparent_model(scale=scale, size_z=6 * scale))
    return replace(model, experiment=experiment(scale=scale, size_z=6 * scale))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The page of a stack of 10 × 60 × 50 voxels, enhanced four-fold, with a hostile name."""
    rng = np.random.default_rng(0)
    raw = tmp_path / "a<script>alert(1).tif"
    tifffile.imwrite(raw, rng.random((10, 60, 50), dtype=np.float32), photometric="minisblack")
    channels = np.zeros((2, 40, 60, 50), np.float32)
    channels[:, 20:24, 10:20, 30:40] = 1  # one block
    write_ome_tiff(tmp_path / "a.ome.tif", channels, FINE_UM, ("shape", "brightness"))
    out = tmp_path / "a.html"
    stack, model = open_stack(raw), own_model(scale=4)
    return result_page(out, model, stack, tmp_path / "a.ome.tif", RECORD, voxel_size_um=RAW_UM)


def content(page: Path) -> dict:  # type: ignore[type-arg]
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.S)
    assert found is not None
    parsed: dict = json.loads(found[1])  # type: ignore[type-arg]
    return parsed


def image(uri: str) -> np.ndarray:
    kind, data = uri.split(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(imagecodecs.jpeg8_decode(base64.b64decode(data)))


def test_sections_lie_where_the_page_says(page: Path) -> None:
    found = content(page)
    views, after = found["views"], found["images"]["after"]
    assert {view: len(uris) - 1 for view, uris in after.items()} == dict.fromkeys(
        ("xy", "xz", "yz"), SECTIONS
    )
    assert views["xy"]["ratio"] == pytest.approx(60 / 50)
    assert views["xz"]["ratio"] == pytest.approx(40 / 50)
    assert views["yz"]["ratio"] == pytest.approx(40 / 60)
    # The block is bright in the sections through it, and dark in all others.
    for view, (low_um, high_um) in {"xy": (2.0, 2.4), "xz": (1, 2), "yz": (3, 4)}.items():
        for um, uri in zip(views[view]["places_um"], after[view][1:], strict=True):
            assert (image(uri).max() > 200) == (low_um <= um < high_um), (view, um)
    xy = image(after["xy"][0])
    assert xy.shape == (60, 50)
    assert xy[12:18, 32:38].min() > 200
    assert xy[30:, :20].max() < 20
    # A plane of the raw stack stands for four of the result.
    before = found["images"]["before"]["xz"][1]
    assert image(before).shape == (10, 50)


def test_a_page_is_small_needs_no_network_and_runs_nothing_of_a_name(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text) < 5e6
    assert "http" not in text.replace("http-equiv", "")
    assert "a<script>" not in text
    assert "a&lt;script&gt;alert(1).tif" in text
    assert "&lt;i&gt;at its limit&lt;/i&gt;" in text
    assert "0.9 (told: 0.8)" in text
    assert "97%" in text
    assert "longer than its grid" in text


def test_large_stacks_make_small_pages(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    raw = rng.random((40, 700, 700), dtype=np.float32)  # noise compresses worst
    np.save(tmp_path / "a.npy", raw)
    write_ome_tiff(tmp_path / "a.ome.tif", np.stack([raw, raw]), FINE_UM, ("shape", "brightness"))
    stack, model, out = open_stack(tmp_path / "a.npy"), own_model(scale=1), tmp_path / "a.html"
    result_page(out, model, stack, tmp_path / "a.ome.tif", {}, voxel_size_um=FINE_UM)
    assert out.stat().st_size < 5e6


@pytest.mark.skipif(BROWSER is None, reason="needs the browser Chromium")
def test_the_sliders_move_in_a_browser(page: Path, tmp_path: Path) -> None:
    """The page loads without an error; a script moves what a hand would."""
    assert BROWSER is not None
    script = """<script>
      const errors = [];
      window.onerror = message => errors.push(message);
      const move = (id, value) => {
        get(id).value = value;
        get(id).dispatchEvent(new Event("input"));
      };
      move("slider", 25);
      const cut = enhanced.style.clipPath;
      document.querySelectorAll("#cut button")[1].click();
      move("section", 3);
      const shown = get("after").src === content.images.after.xz[4];
      document.title = JSON.stringify([errors, cut, get("where").textContent, shown,
                                       raw.naturalWidth]);
    </script>"""
    tried = tmp_path / "tried.html"
    tried.write_text(page.read_text(encoding="utf-8") + script, encoding="utf-8")
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=5000", "--dump-dom", tried.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    errors, cut, where, shown, _ = json.loads(title[1])
    assert errors == []
    assert cut == "inset(0px 0px 0px 25%)"
    assert where.startswith("xz at y = ")
    assert "section 4 of 32" in where
    assert shown
