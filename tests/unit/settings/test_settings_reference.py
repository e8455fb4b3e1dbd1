"""The reference page is that of the schema, and every setting is described."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tenet.settings.reference import reference
from tenet.settings.schema import Experiment
from tenet.settings.sections import Section, section_of

PAGE = Path(__file__).parents[3] / "docs/configuration.md"


def settings(kind: type[Section] = Experiment, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Key and description of every setting."""
    for key, field in kind.model_fields.items():
        yield f"{prefix}{key}", field.description or ""
        part = section_of(field.annotation)
        if part:
            yield from settings(part, f"{prefix}{key}.")


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "tenet config reference > docs/configuration.md"


@pytest.mark.parametrize(("key", "description"), list(settings()))
def test_every_setting_is_described_in_a_sentence(key: str, description: str) -> None:
    assert description[:1].isupper() or description.startswith("lookup:"), key
    assert description.endswith((".", ")")), key
    assert "|" not in description, key


def test_lengths_have_a_unit() -> None:
    described = dict(settings())
    for key in ("wavelength", "ti0", "tg0", "tg", "res_lateral", "res_axial", "pZ"):
        assert "in µm" in described[f"params.{key}"]
    for key in ("size_x", "size_y"):
        assert "in pixels" in described[f"params.{key}"]
    assert "in fine voxels" in described["params.size_z"]
    assert "in fine voxels" in described["train_dataset.cropsize"]


def test_values_defaults_and_ranges_are_told() -> None:
    rows = reference().splitlines()
    assert (
        "| `scale` | integer > 0, ≤ 100 | **needed** | Fine planes for each recorded one. |" in rows
    )
    assert any(row.startswith("| `photons` | `1`, `2` | `1` |") for row in rows)
    assert any(row.startswith("| `mask_size` | 3 × integer > 0, ≤ 1e+06 |") for row in rows)
    assert any(
        row.startswith("| `psf_lr` | number > 0, ≤ 100 or `null` | `null` |") for row in rows
    )
