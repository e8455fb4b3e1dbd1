"""Kill each kind of run at random moments, start it again, and compare: ``kills.py KILLS [SEED]``.

A run is a process of its own group, and SIGKILL ends the group. The files of the run that was
started again must be those of a run that nothing disturbed. Right after the kill no file may lie
half written under its final name.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT)]
sys.path.append(str(HERE))

import numpy as np  # noqa: E402
from support import Moody, copy_repository, serving  # noqa: E402

import tenet.paper.tasks.baselines  # noqa: E402 (imported once, before the runs)
from tenet import cli  # noqa: E402
from tenet.data.phantoms.store import open_phantoms  # noqa: E402
from tenet.io.writing import write_ome_tiff  # noqa: E402
from tenet.model.store import load_tensors  # noqa: E402
from workflow.lib.zenodo import download, write_manifest  # noqa: E402

#: Settings of trainings that take seconds; they differ from those of users by size alone.
SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "params": {
        "network": "coarse", "NA": 0.7, "wavelength": 0.9, "res_lateral": 0.1, "res_axial": 0.3,
        "scale": 3, "size_z": 9, "size_y": 5, "size_x": 5, "hidden_channels_list": [2, 4],
        "nblocks": 1, "psf_sampling": "continuous", "blur_mode": "gaussian", "bet_z": 1.0,
        "bet_xy": 1.5, "nipsf_loss_target": 1e-2, "dropout": 0.3,
    },
    "simulation_data_generation": {
        "image_size": [24, 40, 40], "train_num": 3, "valid_num": 1, "train_object_num_min": 8,
        "train_object_num_max": 8,
    },
    "pretrain_dataset": {"cropsize": [12, 16, 16], "I": 8, "low": 0, "high": 2, "mask": False},
    "pretrain_val_dataset": {"cropsize": [12, 16, 16], "I": 1, "low": 2, "high": 3},
    "pretrain_loop": {"n_epochs": 3, "ema_decay": 0.9, "precision": "float32"},
    "train_dataset": {"cropsize": [12, 16, 16], "I": 8, "mask": False},
    "val_dataset": {"cropsize": [12, 16, 16], "I": 1},
    "train_loop": {"n_epochs": 3, "ewc_batches": 1, "precision": "float32"},
}  # fmt: skip
CARE = {"channels_2d": [2, 4], "n_epochs": 3, "steps_per_epoch": 8, "batch_size": 1, "crop": 16}
SMALL = {"simulation_data_generation.image_size": [48, 40, 40]}
CONFIGURATION = {
    "phantoms": {"fig2_phantoms": {"count": 2, "set": SMALL}},
    "results": "results/tiny",
}
TARGET = "results/tiny/acquisitions/fig2_phantoms.sha256"
DOWNLOADED_BYTES = 8 * 2**20
#: Logs, which grow under their own name, and columns and entries that are times.
LOGS = ("tensorboard", "log", ".snakemake", "benchmarks")
TIMES = ("seconds", "time", "date", "when", "started", "finished", "wall_s", "made")


class Slow(Moody):
    """A server that takes half a second for the file."""

    def do_GET(self) -> None:
        self.wfile, whole = _Pieces(self.wfile), self.wfile
        super().do_GET()
        self.wfile = whole


class _Pieces:
    """A stream that writes a sixteenth of what it is given at a time."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, content: bytes) -> None:
        step = max(len(content) // 16, 2**16)
        for start in range(0, len(content), step):
            self.stream.write(content[start : start + step])
            time.sleep(0.03 if len(content) > 2**16 else 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Scenario(NamedTuple):
    """A kind of run: what it does in a folder, and what must be said before it is started again."""

    run: Callable[[Path], object]
    before_again: Callable[[Path], object] = lambda folder: None
    prepare: Callable[[Path], object] = lambda folder: None


# Runs ---------------------------------------------------------------------------------------------


def tenet(*words: object) -> None:
    sys.argv = ["tenet", *map(str, words)]
    cli.main()


def started(run: Callable[[Path], object], folder: Path, log: Path) -> int:
    """Start a run in a process and a group of its own, which has imported everything; its id."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        run(folder)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(process: int, log: Path) -> None:
    """Wait for a run that must succeed."""
    _, status = os.waitpid(process, 0)
    if status:
        raise AssertionError(f"a run failed with status {status}:\n{log.read_text()}")


def killed(process: int, seconds: float) -> bool:
    """Kill a run after some time; False if it has ended before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.002)
    os.killpg(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


def snakemake(folder: Path, *options: str) -> None:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *options]
    command += ["--configfile", "config/demo.yaml", "tiny.yaml"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(done.returncode)


def copy_of_repository(folder: Path) -> None:
    copy_repository(folder)
    (folder / "tiny.yaml").write_text(json.dumps(CONFIGURATION))  # JSON is YAML


def scenarios(inputs: Path, address: str) -> dict[str, Scenario]:
    """Return each kind of run; `inputs` is what `make_inputs` has made."""
    experiment, phantoms, stack = inputs / "tiny.json", inputs / "phantoms", inputs / "raw.ome.tif"
    pretrained, shared = inputs / "pretrained", ("--device", "cpu", "--threads", "1")
    care = [word for key, value in CARE.items() for word in ("--set", f"{key}={value}")]
    enhance = ("enhance", stack, "--model", pretrained, *shared)

    def fetch(folder: Path) -> None:
        write_manifest("1", folder / "manifest.csv", mirror=address)
        download("a.tif", folder / "manifest.csv", folder / "a.tif")

    return {
        "pre-training": Scenario(
            lambda out: tenet(
                "pretrain", experiment, "--phantoms", phantoms, "--tuning", phantoms,
                "--out", out / "model", *shared,
            )
        ),
        "fine-tuning": Scenario(
            lambda out: tenet(
                "finetune", experiment, "--pretrained", pretrained, "--data", stack,
                "--phantoms", phantoms, "--tuning", phantoms, "--out", out / "model", *shared,
            )
        ),
        "baseline (care)": Scenario(
            lambda out: tenet(
                "baseline", "train", "care", "--model", pretrained, "--data", stack,
                "--tuning", phantoms, "--out", out / "model", *care, *shared,
            )
        ),
        "enhance to TIFF": Scenario(lambda out: tenet(*enhance, "--out", out / "results")),
        "enhance to Zarr": Scenario(
            lambda out: tenet(*enhance, "--zarr", "--out", out / "results")
        ),
        "download": Scenario(fetch),
        "phantoms": Scenario(
            lambda out: tenet(
                "phantoms", "training", experiment, "--out", out / "set", "--count", 6
            )
        ),
        "Snakemake": Scenario(
            lambda out: snakemake(out, TARGET),
            lambda out: snakemake(out, "--unlock"),
            copy_of_repository,
        ),
    }  # fmt: skip


def make_inputs(folder: Path) -> None:
    """Make phantoms, a raw stack, a pre-trained model, and a file to download."""
    (folder / "tiny.json").write_text(json.dumps(SETTINGS))
    tenet_of(folder, "phantoms", "training", folder / "tiny.json", "--out", folder / "phantoms")

    def stack(_: Path) -> None:
        _, brightness = open_phantoms(folder / "phantoms")[0].read(
            *(slice(0, n) for n in (24, 40, 40))
        )
        counts = (100 + 3000 * brightness.reshape(8, 3, 40, 40).mean(1)).astype(np.uint16)
        write_ome_tiff(folder / "raw.ome.tif", np.tile(counts, (1, 2, 2)), (0.3, 0.1, 0.1))

    in_process(stack, folder)
    tenet_of(
        folder, "pretrain", folder / "tiny.json", "--phantoms", folder / "phantoms",
        "--tuning", folder / "phantoms", "--out", folder / "pretrained", "--device", "cpu",
        "--threads", 1,
    )  # fmt: skip
    served = folder / "served"
    served.mkdir()
    content = random.Random(0).randbytes(DOWNLOADED_BYTES)
    (served / "a.tif").write_bytes(content)
    (served / "md5sums.txt").write_text(f"{md5(content).hexdigest()}  a.tif\n")


def in_process(run: Callable[[Path], object], folder: Path) -> None:
    ended(started(run, folder, folder / "inputs.log"), folder / "inputs.log")


def tenet_of(folder: Path, *words: object) -> None:
    in_process(lambda _: tenet(*words), folder)


# Files --------------------------------------------------------------------------------------------


def contents(folder: Path, only: str = "") -> dict[str, Any]:
    """Return what a run wrote, but for logs, times, and hidden files."""
    return {
        name: _content(folder / name)
        for name in _names(folder)
        if name.startswith(only) and not _is_of(name, LOGS) and not _is_hidden(name)
    }


def _names(folder: Path) -> list[str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path.relative_to(folder).as_posix() for path in files]


def _is_of(name: str, words: tuple[str, ...]) -> bool:
    return any(part.startswith(words) for part in Path(name).parts)


def _is_hidden(name: str) -> bool:
    names = (".zgroup", ".zattrs", ".zarray", ".snakemake_timestamp")  # of Zarr, Snakemake
    return any(part.startswith(".") and part not in names for part in Path(name).parts)


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text()))
    if path.suffix == ".csv":
        rows = [line.split(",") for line in path.read_text().splitlines()]
        kept = [k for k, name in enumerate(rows[0]) if not _is_time(name)]
        return [[row[k] for k in kept if k < len(row)] for row in rows]
    return path.read_bytes()


def _is_time(name: str) -> bool:
    return any(word in name.lower() for word in TIMES)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not _is_time(k)}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def partial(folder: Path, whole: dict[str, Any], only: str = "") -> list[str]:
    """Return the files under final names that are neither those of a whole run nor complete."""
    try:
        found = contents(folder, only)
    except ValueError as error:  # half of a JSON file
        return [str(error)]
    return [
        n
        for n, got in found.items()
        if got != whole.get(n) and not _is_whole(folder / n, got, whole.get(n))
    ]


def _is_whole(path: Path, got: Any, whole: Any) -> bool:
    """Whether a file is one of an earlier epoch: it can be read, or it is a beginning."""
    if path.suffix == ".csv":
        return whole is None or whole[: len(got)] == got
    if path.suffix == ".pt":
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None and bool(load_tensors(path))
    return path.suffix == ".json"  # it was parsed


# Kills --------------------------------------------------------------------------------------------


def kill(
    scenario: Scenario, folder: Path, kills: int, rng: random.Random, only: str = ""
) -> tuple[int, list[str]]:
    """Run, and kill and run again some times; how many were right, and what was wrong."""
    log = folder.with_suffix(".log")

    def fresh(name: str) -> Path:
        made = folder / name
        made.mkdir(parents=True)
        scenario.prepare(made)
        return made

    undisturbed = fresh("undisturbed")
    start = time.monotonic()
    ended(started(scenario.run, undisturbed, log), log)
    duration = time.monotonic() - start
    whole = contents(undisturbed, only)
    right, wrong = 0, list[str]()
    for number in range(kills):
        out = fresh(str(number))
        share = rng.uniform(0.05, 0.95)
        while not killed(started(scenario.run, out, log), share * duration):
            duration *= 0.9  # the first run was slower than this one
            shutil.rmtree(out)
            out = fresh(str(number))
        faults = [f"partial: {name}" for name in partial(out, whole, only)]
        scenario.before_again(out)
        try:
            ended(started(scenario.run, out, log), log)
        except AssertionError as error:
            faults.append(str(error))
        found = contents(out, only)
        names = sorted(found.keys() | whole.keys())
        faults += [f"other: {n}" for n in names if found.get(n) != whole.get(n)]
        faults += [f"left: {n}" for n in _names(out) if n.startswith(only) and _is_hidden(n)]
        right += not faults
        wrong += [f"killed at {100 * share:.0f} %: {fault}" for fault in faults]
        shutil.rmtree(out)
    return right, wrong


def main(kills: int, seed: int = 0, only_kind: str = "") -> int:
    """Kill all kinds of runs and print a table; the number of kills that left something wrong."""
    all_right = 0
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name) / "inputs"
        inputs.mkdir()
        make_inputs(inputs)
        with serving(inputs / "served", Slow) as address:
            runs = scenarios(inputs, address)
            runs = {kind: run for kind, run in runs.items() if only_kind in ("", kind)}
            print(f"{'run':20}{'seconds':>10}{'kills':>7}{'right':>7}", flush=True)
            for kind, scenario in runs.items():
                only = "results/" if kind == "Snakemake" else ""
                start = time.monotonic()
                rng = random.Random(f"{seed} {kind}")
                right, wrong = kill(scenario, Path(name) / kind, kills, rng, only)
                print(f"{kind:20}{time.monotonic() - start:10.0f}{kills:7}{right:7}", flush=True)
                print(*(f"  {line}" for line in wrong), sep="\n", end="\n" * bool(wrong))
                all_right += right
    print(f"{all_right} of {kills * len(runs)} runs ended as if nothing had been.")
    return kills * len(runs) - all_right


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3]), *sys.argv[3:]) > 0)
