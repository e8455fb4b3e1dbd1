"""The PSF family against a PSF that was measured."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MEASURED = ROOT.parent / "shared" / "data" / "psf_measured_na085.tif"


@pytest.mark.skipif(not MEASURED.is_file(), reason=f"needs {MEASURED}")
def test_family_explains_what_the_nominal_pupil_does_not() -> None:
    """Of what is round about the axis: the measured PSF has coma as well."""
    spec = spec_from_file_location("psf_measured", ROOT / "benchmarks" / "psf_measured.py")
    assert spec is not None
    assert spec.loader is not None
    benchmark = module_from_spec(spec)
    sys.modules["psf_measured"] = benchmark
    spec.loader.exec_module(benchmark)
    measured = benchmark.read(MEASURED)
    nominal = benchmark.fitted(measured, [])
    z_um, xy_um = benchmark.widths_um(nominal.image)
    assert z_um < 1.1
    assert xy_um < 0.36
    pupil = benchmark.fitted(measured, ["NA", "fill", "spherical_waves"])
    assert benchmark.widths_um(pupil.image) == pytest.approx((1.30, 0.39), rel=0.03)
    assert pupil.residual < 0.75 * nominal.residual
    family = benchmark.fitted(measured, benchmark.FAMILY)
    assert benchmark.widths_um(family.image) == pytest.approx(
        benchmark.widths_um(nominal.measured), rel=0.07
    )
    least = benchmark.round_residual(measured, benchmark.ROUND_CENTRE_PX)
    explained, unexplained = (fit.residual**2 - least**2 for fit in (nominal, family))
    assert unexplained < 0.2 * explained
