"""How much is tried: a few examples, always the same, in CI; random ones in `make fuzz`."""

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "unit/io")]  # whose writers of small files are used here

# The property has limits of its own on time, and no example is kept: each find becomes a test.
common = settings(
    database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)
settings.register_profile("ci", common, max_examples=25, derandomize=True)
settings.register_profile("random", common, max_examples=200)
settings.load_profile(os.environ.get("TENET_FUZZ", "ci"))
