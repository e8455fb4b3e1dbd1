"""What a tile takes of memory, per fine voxel, and of time.

    python benchmarks/tile_memory.py SCALE_EXPERIMENT DECONVOLUTION_STEPS Z,Y,X CHANNELS [jnet]

As scale12 0 26,256,256 16,32,64,128,256; untrained, on noise, with the demo's optics, all threads.
"""

import sys
import threading
import time

import numpy as np
import psutil

from tenet.cli.device import keep_freed_memory
from tenet.enhance.enhance import enhance_array
from tenet.model.tenet import TENET
from tenet.settings.load import load_experiment


def main() -> None:
    """Enhance one tile; print the peak of the process above its start."""
    name, steps, zyx, channels, *network = sys.argv[1:]
    shape = tuple(int(n) for n in zyx.split(","))
    update = {
        "network": network[0] if network else "coarse",
        "deconvolution_steps": int(steps),
        "hidden_channels_list": [int(n) for n in channels.split(",")],
    }
    experiment = load_experiment(name, overlays=["demo"])
    model = TENET(experiment.params.model_copy(update=update)).eval()
    model.half_precision = True
    keep_freed_memory()
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    process, ended = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    watcher, started = threading.Thread(target=watch), time.perf_counter()
    watcher.start()
    enhance_array(model, image, tile_zyx_shape=shape)
    ended.set()
    watcher.join()
    voxels, seconds = image.size * model.params.scale, time.perf_counter() - started
    print(
        f"{(peak - before) / voxels:.0f} bytes and {1e6 * seconds / voxels:.2f} µs a fine voxel, "
        f"{(peak - before) / 2**20:.0f} MiB in all"
    )


if __name__ == "__main__":
    main()
