"""What results lose, and how small they get, in so many levels.

python benchmarks/stored_levels.py PREDICTIONS PHANTOMS

The folders are those of a run whose predictions are of 32-bit floats: the experiment's folder under
``predictions``, and its phantoms. For the first stack of each method and part, a row of Markdown:
bytes of a voxel, and the change of IoU at the method's threshold, of average precision, and of the
volume that is segmented.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from tenet.data.phantoms.store import SUFFIX, open_phantom
from tenet.io.levels import write_levels
from tenet.io.open import open_stack
from tenet.metrics.segmentation import average_precision, iou
from tenet.paper.evaluate.tables import PREDICTION, read_threshold

LEVELS = (255, 1023, 16383, 65535)


def measures(score: np.ndarray, truth: np.ndarray, threshold: float) -> np.ndarray:
    """IoU, average precision, and the voxels segmented."""
    mask = score >= np.float32(threshold)
    return np.array([iou(mask, truth), average_precision(score, truth), mask.sum()])


def main() -> None:
    """Print a row for each method, part and number of levels."""
    predictions, phantoms = (Path(word) for word in sys.argv[1:3])
    print("| method | part | levels | bytes a voxel | IoU | change | precision | volume |")
    print("|---|---|---|---|---|---|---|---|")
    small = Path(tempfile.mkdtemp()) / f"small{PREDICTION}"
    for folder in sorted(path for path in predictions.iterdir() if path.is_dir()):
        threshold = read_threshold(folder, predictions)
        for part in sorted(path for path in folder.iterdir() if path.is_dir()):
            path = min(part.glob(f"*{PREDICTION}"))
            stack = open_stack(path, channel=0)
            score = stack.read()
            name = path.name.removesuffix(PREDICTION)
            shape, _ = open_phantom(phantoms / f"{name}{SUFFIX}").read(*[slice(None)] * 3)
            truth = shape[: len(score)]
            whole = measures(score, truth, threshold)
            for levels in LEVELS:
                write_levels(small, score, stack.voxel_size_um or (1, 1, 1), "score", levels)
                found = measures(open_stack(small).read(), truth, threshold)
                change, size = found - whole, small.stat().st_size / score.size
                print(
                    f"| {folder.name} | {part.name} | {levels} | {size:.3f} "
                    f"| {whole[0]:.3f} | {change[0]:+.4f} "
                    f"| {change[1]:+.4f} | {100 * change[2] / max(whole[2], 1):+.2f} % |"
                )
    small.unlink(missing_ok=True)
    small.parent.rmdir()


if __name__ == "__main__":
    main()
