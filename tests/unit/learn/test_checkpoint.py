"""What becomes of a training that is stopped anywhere: the same command ends it, to the bit."""

import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tenet.data.phantoms.store import open_phantoms
from tenet.errors import TenetError
from tenet.io.atomic import LOCK, UNFINISHED
from tenet.io.open import open_stack
from tenet.io.writing import write_ome_tiff
from tenet.learn.align import ALIGNMENT
from tenet.learn.loop import CHECKPOINT, Plan, train
from tenet.model.store import (
    HISTORY,
    MODEL,
    PROVENANCE,
    PSF_TABLE,
    THRESHOLD,
    load_tensors,
    save_tensors,
)
from tenet.paper.tasks.baselines import train_baseline
from tenet.settings.schema import Experiment, Optimisation, parse_experiment
from tenet.tasks.align import train_alignment
from tenet.tasks.finetune import fine_tune
from tenet.tasks.pretrain import pretrain as pretrain_model
from tenet.tasks.raw_stacks import RawStacks

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "params": {
        "network": "coarse", "NA": 0.7, "wavelength": 0.9, "res_lateral": 0.1, "res_axial": 0.3,
        "scale": 3, "size_z": 9, "size_y": 5, "size_x": 5, "hidden_channels_list": [2, 4],
        "nblocks": 1, "psf_sampling": "continuous", "blur_mode": "gaussian", "bet_z": 1.0,
        "bet_xy": 1.5, "nipsf_loss_target": 1e-2, "dropout": 0.3,
    },
    "pretrain_dataset": {"cropsize": [12, 16, 16], "I": 2, "low": 0, "high": 2, "mask": False},
    "pretrain_val_dataset": {"cropsize": [12, 16, 16], "I": 1, "low": 2, "high": 3},
    "pretrain_loop": {"n_epochs": 2, "ema_decay": 0.9, "precision": "float32"},
    "train_dataset": {"cropsize": [12, 16, 16], "I": 2, "mask": False},
    "val_dataset": {"cropsize": [12, 16, 16], "I": 1},
    "train_loop": {"n_epochs": 2, "ewc_batches": 1, "precision": "float32"},
    "align_params": {"loss_mode": "pixelwise"},
}  # fmt: skip
EXPERIMENT: Experiment = parse_experiment(SETTINGS)
PLAIN = EXPERIMENT.model_copy(update={"align_params": None})
Command = Callable[[Path], object]


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the program handles it."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def stack(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    phantom = open_phantoms(phantom_folder)[0]
    _, brightness = phantom.read(slice(0, 24), slice(0, 40), slice(0, 40))
    counts = (100 + 3000 * brightness.reshape(8, 3, 40, 40).mean(1)).astype(np.uint16)
    path = tmp_path_factory.mktemp("raw") / "raw.ome.tif"
    write_ome_tiff(path, counts, (0.3, 0.1, 0.1))
    return path


def pretrain(phantoms: Path, out: Path, seed: int = 0) -> None:
    pretrain_model(EXPERIMENT, phantoms, out, tuning=phantoms, device=CPU, seed=seed)


@pytest.fixture(scope="module")
def pretrained(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    pretrain(phantom_folder, folder)
    return folder


@pytest.fixture(scope="module")
def commands(pretrained: Path, phantom_folder: Path, stack: Path) -> dict[str, Command]:
    """Each command that trains, as a function of its --out."""
    care = {"channels_2d": [2, 4], "n_epochs": 2, "steps_per_epoch": 2, "batch_size": 1, "crop": 16}
    neuroclear = {
        "channels_3d": [2, 4], "linear_channels": 2, "discriminator_channels": 2, "crop": 16,
        "discriminator_layers": 1, "depths": [2, 4], "n_epochs": 1, "steps_per_epoch": 1,
        "batch_size": 1, "attempts": 2,
    }  # fmt: skip
    shared: dict[str, Any] = {"device": CPU, "seed": 0}
    return {
        "pretrain": lambda out: pretrain(phantom_folder, out),
        "align": lambda out: train_alignment(
            EXPERIMENT, pretrained, phantom_folder, out, tuning=phantom_folder, **shared
        ),
        "finetune": lambda out: fine_tune(
            PLAIN, pretrained, out, RawStacks([stack]), tuning=phantom_folder,
            phantoms=phantom_folder, mode="old", align=None, **shared,
        ),
        "care": lambda out: train_baseline(
            "care", pretrained, RawStacks([stack]), phantom_folder, out, settings=care, **shared
        ),
        "neuroclear": lambda out: train_baseline(
            "neuroclear", pretrained, RawStacks([stack]), phantom_folder, out,
            settings=neuroclear, **shared,
        ),
    }  # fmt: skip


def contents(folder: Path) -> dict[str, Any]:
    """What a training wrote, but for clocks, and its logs."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".pt":
            found[name] = load_tensors(path)
        elif path.name == HISTORY:
            found[name] = [line.split(",")[:4] for line in path.read_text().splitlines()]
        elif not name.startswith(("tensorboard", f"{ALIGNMENT}/tensorboard")):
            found[name] = path.read_text()
    return found


def assert_equal(first: Any, second: Any, where: str = "") -> None:
    if isinstance(first, Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_equal(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_equal(*pair, f"{where}/{index}")
    else:
        assert first == second, where


@contextmanager
def killed_after(changes: int) -> Iterator[list[str]]:
    """Stop once so many files of a folder have got their name, or have been deleted."""
    replace, unlink = os.replace, Path.unlink
    done: list[str] = []

    def count(path: Path) -> None:
        done.append(path.name)
        if len(done) == changes:
            raise Killed

    def replacing(source: Path, target: Path) -> None:
        replace(source, target)
        count(Path(target))

    def unlinking(path: Path, missing_ok: bool = False) -> None:
        there = path.exists()
        unlink(path, missing_ok=missing_ok)
        if there and path.name != LOCK and not path.name.startswith("."):
            count(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tenet.io.atomic.os.replace", replacing)
        patch.setattr(Path, "unlink", unlinking)
        yield done


@pytest.mark.parametrize("name", ["pretrain", "align", "finetune", "care", "neuroclear"])
def test_a_training_that_is_killed_anywhere_ends_with_the_same_files(
    name: str, commands: dict[str, Command], tmp_path: Path
) -> None:
    command, whole = commands[name], tmp_path / "whole"
    with killed_after(0) as changes:
        command(whole)
    assert changes[-1] == CHECKPOINT
    expected = contents(whole)
    assert MODEL in expected
    epochs = changes.index(CHECKPOINT) + 1
    for number in range(epochs, len(changes) + 1):
        out = tmp_path / str(number)
        with pytest.raises(Killed), killed_after(number):
            command(out)
        command(out)
        assert_equal(expected, contents(out), f"{name} killed after {changes[number - 1]}")


def test_what_a_killed_process_leaves_is_no_obstacle(
    pretrained: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    """Killed while the threshold is half written: lock and temporary file stay behind."""
    code = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
import test_checkpoint
torch.set_num_threads(1)
replace = os.replace
def killed(source, target):
    if Path(target).name == "threshold.json":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = killed
test_checkpoint.pretrain(Path({str(phantom_folder)!r}), Path({str(tmp_path)!r}))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert (tmp_path / f".{THRESHOLD}{UNFINISHED}").exists()
    assert (tmp_path / LOCK).exists()
    pretrain(phantom_folder, tmp_path)
    assert_equal(contents(pretrained), contents(tmp_path))


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["pretrain", "align", "finetune", "care"])
def test_a_finished_folder_is_left_as_it_is(
    name: str, commands: dict[str, Command], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands[name](tmp_path)
    before = stamps(tmp_path)
    capsys.readouterr()
    commands[name](tmp_path)
    assert stamps(tmp_path) == before
    lines = capsys.readouterr().out.splitlines()
    finished = (
        f"{tmp_path} is finished: nothing to train; choose another folder, or delete this one"
    )
    assert lines == [finished]


def test_another_seed_or_other_phantoms_train_anew(
    pretrained: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    folder, fresh = tmp_path / "folder", tmp_path / "fresh"
    shutil.copytree(pretrained, folder)
    pretrain(phantom_folder, folder, seed=1)
    pretrain(phantom_folder, fresh, seed=1)
    assert_equal(contents(fresh), contents(folder))
    # Phantoms of the same names that hold something else.
    others = tmp_path / "others"
    others.mkdir()
    names = [phantom.path.name for phantom in open_phantoms(phantom_folder)]
    for name, source in zip(names, names[::-1], strict=True):
        shutil.copyfile(phantom_folder / source, others / name)
    before = load_tensors(folder / MODEL)["encoder.stem.weight"]
    pretrain(others, folder, seed=1)
    assert not torch.equal(load_tensors(folder / MODEL)["encoder.stem.weight"], before)


@pytest.mark.parametrize(("name", "record"), [("pretrain", PROVENANCE), ("care", "settings.json")])
def test_a_finished_model_of_another_version_is_replaced_with_a_line(
    name: str,
    record: str,
    commands: dict[str, Command],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands[name](tmp_path)
    assert "holds a model" not in capsys.readouterr().out
    content = json.loads((tmp_path / record).read_text())
    (tmp_path / record).write_text(json.dumps({**content, "identity": "0" * 64}))
    commands[name](tmp_path)
    said = f"{tmp_path} holds a model of another version, other settings or data: it is replaced"
    assert capsys.readouterr().out.splitlines()[0] == said


def test_a_finished_model_keeps_the_checkpoint_of_another_training(
    pretrained: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(pretrained, folder)
    with killed_after(4) as changes, pytest.raises(Killed):
        pretrain(phantom_folder, folder, seed=1)
    assert changes[-1] == CHECKPOINT
    pretrain(phantom_folder, folder)
    assert (folder / CHECKPOINT).exists()


def test_what_is_missing_of_a_finished_folder_is_added(
    pretrained: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(pretrained, folder)
    weights = stamps(folder)[folder / MODEL]
    for name in (THRESHOLD, PSF_TABLE):
        (folder / name).unlink()
    pretrain(phantom_folder, folder)
    assert stamps(folder)[folder / MODEL] == weights
    assert_equal(contents(pretrained), contents(folder))


def test_a_training_whose_outputs_were_deleted_goes_on_from_its_checkpoint(
    pretrained: Path, phantom_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Snakemake deletes what a rule declares when its command fails, as in the calibration."""
    with killed_after(10**6) as changes:
        pretrain(phantom_folder, tmp_path / "whole")
    folder = tmp_path / "folder"
    with killed_after(changes.index(THRESHOLD) + 1), pytest.raises(Killed):
        pretrain(phantom_folder, folder)
    for path in folder.iterdir():
        if path.is_file() and path.name != CHECKPOINT:
            path.unlink()
    capsys.readouterr()
    pretrain(phantom_folder, folder)
    assert "going on after epoch 2 of 2" in capsys.readouterr().out
    assert_equal(contents(pretrained), contents(folder))


# Damage, and numbers that are not finite ----------------------------------------------------------


class Easy:
    """Learn a line from points; a weight or the validation may be spoilt from an epoch on."""

    def __init__(self, spoilt: str = "", epoch: int = 1) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        self.spoilt, self.first, self.epoch = spoilt, epoch, 0

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.model.parameters())}]

    def draw(self, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(rng.normal(size=(16, 1)).astype(np.float32))

    def training_terms(
        self, epoch: int, drawn: Tensor, rng: np.random.Generator
    ) -> Mapping[str, Tensor]:
        self.epoch = epoch
        return {"fit": (self.model(drawn) - 3 * drawn).square().mean()}

    def validation_terms(self, model: nn.Module) -> Iterable[Mapping[str, Tensor]]:
        spoilt = self.spoilt if self.epoch >= self.first else ""
        if spoilt == "weight":
            with torch.no_grad():
                self.model[0].bias[2] = math.inf
        yield {"fit": torch.tensor(math.nan if spoilt == "validation" else 1.0 / (1 + self.epoch))}


def plan(folder: Path) -> Plan:
    return Plan(Optimisation(n_epochs=4, lr=0.01), folder, 2, 11, 1, "easy")


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ("validation", "the validation loss is not finite in epoch 3"),
        ("weight", "the weight 0.bias is not finite after epoch 3"),
    ],
)
def test_what_is_not_finite_ends_training_before_a_checkpoint_holds_it(
    spoilt: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(TenetError) as error:
        train(Easy(spoilt, epoch=2), plan(tmp_path))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    state = load_tensors(tmp_path / CHECKPOINT)
    assert state["epoch"] == 2
    assert all(bool(value.isfinite().all()) for value in state["model"].values())


@pytest.mark.parametrize("place", [0.1, 0.4, 0.6, 0.9])
def test_a_checkpoint_with_flipped_bytes_is_refused(place: float, tmp_path: Path) -> None:
    train(Easy(), plan(tmp_path))
    path = tmp_path / CHECKPOINT
    damaged = bytearray(path.read_bytes())
    # Within the numbers of a tensor: in files of PyTorch these are followed by their checksum.
    with zipfile.ZipFile(path) as archive:
        tensors = [entry for entry in archive.infolist() if "/data/" in entry.filename]
        entry = tensors[int(place * len(tensors))]
    at = damaged.find(zipfile.ZipFile(path).read(entry))
    damaged[at] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(TenetError) as error:
        train(Easy(), plan(tmp_path))
    assert str(error.value).startswith(str(path))
    assert "delete it to train from the beginning" in str(error.value)
    assert path.read_bytes() == damaged  # whose it is decides


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": None}, {"model": {}}, {"optimiser": 3}, {"schedule": []}, {"history": "[NaN]"},
        {"history": 7}, {"best_weights": None}, {"best": "low"}, {"epoch": "2"},
        {"schedule": torch.zeros(1)},
    ],
    ids=str,
)  # fmt: skip
def test_a_checkpoint_of_other_contents_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    train(Easy(), plan(tmp_path))
    path = tmp_path / CHECKPOINT
    save_tensors(path, load_tensors(path) | change)
    with pytest.raises(TenetError) as error:
        train(Easy(), plan(tmp_path))
    assert str(error.value).startswith(str(path))
    assert "delete it" in str(error.value)


# Folders that cannot be written -------------------------------------------------------------------


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 200, 2_000, 10_000])
def test_a_full_disk_ends_in_one_line_and_training_goes_on_later(
    size: int, pretrained: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    """Whatever is written first that is too large: the log, the history, the checkpoint."""
    failures: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", failures.append)
        with largest_file(size), pytest.raises(TenetError, match="no room on the disk") as error:
            pretrain(phantom_folder, tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert not failures
    assert not list(tmp_path.rglob(f"*{UNFINISHED}"))
    pretrain(phantom_folder, tmp_path)
    assert_equal(contents(pretrained), contents(tmp_path))


@pytest.fixture
def small(small_disk: Callable[[str], Path]) -> Path:
    """A disk that has room for the log, but not for a training."""
    return small_disk("32k")


def test_a_full_disk_that_gets_room(small: Path, pretrained: Path, phantom_folder: Path) -> None:
    sizes = [f"{n}k" for n in (48, 64, 80, 96, 128, 160)]
    for size in sizes:
        with pytest.raises(TenetError, match="no room on the disk"):
            pretrain(phantom_folder, small / "out")
        assert not list(small.rglob(f"*{UNFINISHED}"))
        words = ["mount", "-o", f"remount,size={size}", str(small)]
        subprocess.run(words, check=True, capture_output=True)
    subprocess.run(["mount", "-o", "remount,size=2m", str(small)], check=True)
    pretrain(phantom_folder, small / "out")
    assert_equal(contents(pretrained), contents(small / "out"))


@pytest.mark.parametrize("filled", [MODEL, "optimiser.pt", "fisher.pt", THRESHOLD])
def test_a_disk_that_is_full_after_training(
    filled: str, pretrained: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    """On a disk without room from the first write of one file on."""
    from tenet.io import atomic

    locking = atomic._lock

    def full(path: Path, **options: Any) -> int | None:
        if filled in path.name:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8, resource.RLIM_INFINITY))
        return locking(path, **options)

    with largest_file(resource.RLIM_INFINITY), pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "_lock", full)
        with pytest.raises(TenetError, match="no room on the disk") as error:
            pretrain(phantom_folder, tmp_path)
    assert filled in str(error.value)
    assert "\n" not in str(error.value)
    pretrain(phantom_folder, tmp_path)
    assert_equal(contents(pretrained), contents(tmp_path))


@pytest.mark.parametrize("name", ["pretrain", "align", "finetune", "care"])
def test_an_out_that_is_a_file_is_refused_before_any_work(
    name: str, commands: dict[str, Command], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(TenetError, match="cannot be written") as error:
            commands[name](out)
        assert str(error.value).startswith(str(out))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["align", "finetune", "care"])
def test_the_model_that_a_training_reads_is_not_written_over(
    name: str, commands: dict[str, Command], pretrained: Path, tmp_path: Path
) -> None:
    before = stamps(pretrained)
    (tmp_path / "link").symlink_to(pretrained)
    for out in (pretrained, tmp_path / "link", pretrained / ".." / pretrained.name):
        with pytest.raises(TenetError, match="would replace"):
            commands[name](out)
    assert stamps(pretrained) == before


@pytest.mark.parametrize("name", ["pretrain", "align", "finetune", "care"])
def test_a_second_training_in_a_folder_is_told_who_works_there(
    name: str, commands: dict[str, Command], tmp_path: Path
) -> None:
    holding = f"""
import sys
from pathlib import Path
from tenet.io.atomic import exclusive
with exclusive(Path({str(tmp_path)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    words = [sys.executable, "-c", holding]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(TenetError, match=f"process {other.pid} on .* is working there"):
            commands[name](tmp_path)
        other.communicate("")
    assert [path.name for path in tmp_path.iterdir()] in ([], [LOCK])


# What tells one training from another -------------------------------------------------------------


@pytest.mark.parametrize("name", ["finetune", "care", "neuroclear"])
def test_a_stack_whose_planes_are_turned_round_is_another_stack(
    name: str, commands: dict[str, Command], stack: Path, tmp_path: Path
) -> None:
    """Of one name, size and range of intensities."""
    folder, fresh, original = tmp_path / "folder", tmp_path / "fresh", stack.read_bytes()
    commands[name](folder)
    before = load_tensors(folder / MODEL)
    try:
        write_ome_tiff(stack, open_stack(stack).read()[::-1].astype(np.uint16), (0.3, 0.1, 0.1))
        commands[name](folder)
        commands[name](fresh)
    finally:
        stack.write_bytes(original)
    assert_equal(contents(fresh), contents(folder))
    after = load_tensors(folder / MODEL)
    assert any(not torch.equal(before[key], after[key]) for key in before)
