"""Fuzz for some minutes with random seeds, and print what was tried: ``run_fuzz.py MINUTES``."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent


def main(minutes: float) -> int:
    """Run all targets again and again; the number of rounds in which something was found."""
    end, finds, rounds = time.monotonic() + 60 * minutes, 0, 0
    with tempfile.NamedTemporaryFile() as counts:
        environment = {**os.environ, "TENET_FUZZ": "random", "TENET_FUZZ_COUNTS": counts.name}
        while time.monotonic() < end:
            rounds += 1
            seed = secrets.randbelow(2**32)
            command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short", HERE]
            command += [f"--hypothesis-seed={seed}", "-p", "no:cacheprovider"]
            done = subprocess.run(
                command,
                env=environment,
                cwd=HERE.parents[1],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if done.returncode:
                finds += 1
                print(f"Seed {seed} ended with status {done.returncode}:\n{done.stdout}")
        lines = Path(counts.name).read_text(encoding="utf-8").splitlines()
        cases = Counter(tuple(line.split("\t")) for line in lines)
    print(f"{'target':26}{'cases':>8}{'refused in one line':>22}{'accepted':>10}")
    total: Counter[str] = Counter()
    for target in sorted({target for target, _ in cases}):
        refused, accepted = cases[target, "refused"], cases[target, "accepted"]
        total.update(refused=refused, accepted=accepted)
        print(f"{target:26}{refused + accepted:8}{refused:22}{accepted:10}")
    print(f"{'all':26}{total.total():8}{total['refused']:22}{total['accepted']:10}")
    print(f"Rounds: {rounds}. Rounds with a find: {finds}.")
    return finds


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])) > 0)
