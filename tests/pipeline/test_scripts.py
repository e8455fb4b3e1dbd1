"""The scripts beside the rules: code hashes, checks of tables, downloads, devices."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from hashlib import md5
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from support import Moody, serving

from tenet.errors import TenetError
from workflow.lib import zenodo
from workflow.lib.archives import take_folder
from workflow.lib.code_hash import closure, code_hash
from workflow.lib.gpus import visible_gpus
from workflow.lib.validation import check_config, check_files
from workflow.lib.zenodo import download
from workflow.scripts.checksums import checksums

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow/scripts"
SCHEMAS = ROOT / "workflow/schemas"


# Code hashes --------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path):
    files = {
        "__init__.py": "",
        "a.py": '"""Doc."""\nfrom pk import b\nfrom pk.sub.c import f\nimport os\nX = 1  # one\n',
        "b.py": "def g():\n    '''Doc.'''\n    from pk import lazy\n    return lazy\n",
        "sub/c.py": "from .. import d\nfrom . import e\n\ndef f(): ...\n",
        "sub/e.py": "try:\n    import pk.h\nexcept ImportError:\n    pass\n",
        "d.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pk.lazy\n",
        "h.py": "Y = 2\n",
        "lazy.py": "Z = 3\n",
    }
    for name, text in files.items():
        path = tmp_path / "pk" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_words_for_people_leave_the_hash_as_it_is(tmp_path):
    """The text of an error, and the description of a setting; not what the code does with them."""
    path = tmp_path / "pk.py"
    code = """def f(n):
    if n > {most}:
        raise TenetError(f"{words} {{n}}", {code}) from None
    return "{word}"
class Loop:
    lr: float = Field({default}, gt=0, description="{words}", examples=["{words}"])
"""
    values = {"most": 3, "words": "too many:", "code": 2, "word": "a", "default": 0.1}
    path.write_text(code.format_map(values))
    before = code_hash(tmp_path, ["pk"])
    path.write_text(code.format_map(values | {"words": "there are more than 3, namely"}))
    assert code_hash(tmp_path, ["pk"]) == before
    for key, other in {"most": 4, "code": 5, "word": "b", "default": 0.2}.items():
        path.write_text(code.format_map(values | {key: other}))
        assert code_hash(tmp_path, ["pk"]) != before, key


def test_closure_follows_imports_at_the_top_level(package):
    found = set(closure(package, ["pk.a"]))
    assert found == {"pk", "pk.a", "pk.b", "pk.sub.c", "pk.sub.e", "pk.d", "pk.h"}
    assert set(closure(package, ["pk.a"], without=["pk.sub.c"])) == {"pk", "pk.a", "pk.b"}


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("a.py", "# one", "# eins", False),
        ("a.py", "Doc.", "Another text.", False),
        ("b.py", "    '''Doc.'''\n", "", False),
        ("a.py", "X = 1", "\n\nX   =   1", False),
        ("lazy.py", "3", "4", False),
        ("a.py", "X = 1", "X = 2", True),
        ("h.py", "2", "3", True),
        ("sub/c.py", "def f(): ...", "def f(x): ...", True),
    ],
)
def test_hash_changes_with_code_alone(package, file, old, new, changes):
    before = code_hash(package, ["pk.a"])
    path = package / "pk" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(1, 1))
    assert (code_hash(package, ["pk.a"]) != before) == changes


def test_missing_module_is_named(package):
    with pytest.raises(FileNotFoundError, match=r"no module pk\.nothing"):
        code_hash(package, ["pk.nothing"])


def test_training_depends_on_the_network_and_not_on_drawing_or_the_command_line():
    modules = set(closure(ROOT, ["tenet.learn.finetune"]))
    assert {
        "tenet.networks.coarse",
        "tenet.learn.losses",
        "tenet.physics.psf",
        "tenet.learn.loop",
    } <= modules
    assert not {"tenet.paper.figures", "tenet.enhance.pictures", "tenet.cli"} & modules


# Configuration ------------------------------------------------------------------------------------


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "config/config.yaml").read_text())


def check(config):
    check_config(config, SCHEMAS / "config.schema.yaml")


def test_paper_configuration_is_valid(config):
    check(config)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["experiment"], {}, "unknown key 'experiment'; did you mean 'experiments'"),
        (["experiments", "fig3_beads", "fold"], [0], "fig3_beads: unknown key 'fold'.*'folds'"),
        (["seed"], "1", "seed: '1' is not of type integer"),
        (["methods"], ["deepcad"], "methods: 0: 'deepcad' is not one of"),
        (["phantoms", "tuning", "kind"], "lines", "tuning: kind: 'lines' is not one of"),
        (["pretrained", "scale3", "tuning"], "tunning", "unknown name 'tunning'.*'tuning'"),
        (["experiments", "fig3_beads", "source"], "bead", "unknown name 'bead'.*'beads'"),
        (["experiments", "fig2_phantoms", "folds"], [0], "only beads have folds"),
        (["zenodo", "record"], "zenodo.15545449", "is not the number of a record"),
        (["phantoms", "own"], {"kind": "import"}, "own: folder missing"),
        (["seeds"], [], "seeds: "),
        (["figures"], ["supp_training"], "shows the trainings behind others"),
        (["experiments", "fig4_neurons"], None, "no experiment is left for fig4"),
        (["methods"], ["rltv"], "methods lacks tenet, which fig2 shows"),
        (["experiments", "fig4_neurons", "methods"], ["rltv"], "fig4_neurons: methods lacks tenet"),
        (["ablation", "folds"], "none", "ablation: folds"),
        (["experiments", "supp_motion_aligned", "images"], "supp_motion", "unknown name 'supp_mot"),
    ],
)
def test_wrong_configuration_gets_one_clear_line(config, keys, value, message):
    section = config
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    with pytest.raises(ValueError, match=message) as error:
        check(config)
    assert "\n" not in str(error.value)


def places(value, path=()):
    """Every place in a configuration."""
    yield path
    keyed = {dict: dict.items, list: enumerate}.get(type(value), lambda _: ())
    for key, part in keyed(value):
        yield from places(part, (*path, key))


NESTED, SELF = [], {}
for _ in range(5000):
    NESTED = [NESTED]
SELF["x"] = [SELF]
LAUGHS = ["ha"] * 9
for _ in range(12):
    LAUGHS = [LAUGHS] * 9
WRONG = [
    None, True, -1, 0, 3, 0.5, 10**400, float("inf"), float("nan"), "", "x", "a\nb", "\x00",
    [], [[]], [None], {}, {1: 2}, {"x": None}, {None: {}}, NESTED, LAUGHS, SELF,
]  # fmt: skip


def told(config):
    """What is said of a configuration; nothing if it is taken."""
    try:
        check(config)
    except ValueError as error:
        return str(error)
    return ""


def test_whatever_stands_in_a_configuration_is_taken_or_told_in_one_short_line(config):
    """Each of some 400 places with each of the wrong values."""
    text, said = json.dumps(config), []
    for number, path in enumerate(places(config)):
        for value in WRONG[number % 7 :: 1 if len(path) < 2 else 7] if path else ():
            changed = json.loads(text)
            section = changed
            for key in path[:-1]:
                section = section[key]
            section[path[-1]] = value
            said.append(told(changed))
    assert all(not line or line.startswith("configuration: ") for line in said)
    assert not any("\n" in line or len(line) > 500 for line in said)
    assert sum(map(bool, said)) > 800


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["samples"], 3, "samples: 3 is not of type string"),
        (["phantoms"], [], "phantoms: .* is not of type object"),
        (["experiments"], None, "experiments: None is not of type object"),
        pytest.param(["seed"], 10**5000, "seed: a number of more than 18 digits", id="digits"),
        (["seed"], 2**53, "seed: .* is greater than the maximum of 9007199254740991"),
        (["rltv", "iterations"], [10**6], "is greater than the maximum of 100000"),
        (["rltv", "tv_weights"], [float("nan")], "tv_weights: 0: nan is not a finite number"),
        (["phantoms", "training", "count"], 10**9, "count: .*greater than the maximum of 1000000"),
        (["phantoms", "fig2_angle00", "size"], [10**9] * 3, "greater than the maximum of 100000"),
        (["care", "n_epochs"], "ten", "care: n_epochs: 'ten' is not of type integer"),
        (["neuroclear"], {}, "neuroclear: n_epochs, steps_per_epoch missing"),
        (["figures"], LAUGHS, "figures: .*more than 100000 values"),
        (["figures"], NESTED, "more than 32 levels deep"),
        (["figures"], SELF, "more than 32 levels deep"),
        (["experiments", "fig5_microglia", "tumour"], ..., "fig5_microglia: tumour is missing"),
    ],
)
def test_values_beyond_all_bounds_are_refused(config, keys, value, message):
    section = config
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    if value is ...:
        del section[keys[-1]]
    with pytest.raises(ValueError, match=message) as error:
        check(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nresults: x\nseed: 2\n", r"own\.yaml, line 3: the key 'seed' stands twice"),
        ("a: {b: [{c: 1, c: 2}]}\n", "line 1: the key 'c' stands twice"),
        ('{"seed": 1,\n "seed": 2}', "line 2: the key 'seed' stands twice"),
    ],
)
def test_a_key_that_stands_twice_is_told(tmp_path, text, message):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        check_files([tmp_path / "own.yaml"])


def test_references_are_no_keys_that_stand_twice(tmp_path):
    (tmp_path / "own.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: &s [*a, *a]}\nc: {x: *s}\n")
    check_files([*sorted((ROOT / "config").glob("*.yaml")), tmp_path / "own.yaml"])


def test_folds_of_simulated_beads_must_exist(config):
    beads = config["experiments"]["fig3_beads"]
    config["phantoms"]["spheres"] = config["phantoms"]["fig2_angle00"]
    beads.update(source="simulated", phantoms="spheres", folds=[0, 3])
    with pytest.raises(ValueError, match="number_of_folds is missing"):
        check(config)
    beads["number_of_folds"] = 3
    with pytest.raises(ValueError, match="no fold 3 among 3"):
        check(config)


# Data ---------------------------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path):
    """A web folder with two archives and their checksums, as a mirror of a record."""
    served = tmp_path / "served"
    served.mkdir()
    with zipfile.ZipFile(served / "beads.zip", "w") as archive:
        archive.writestr("_2023_beads_stackreged/b/01.tif", b"one")
        archive.writestr("_2023_beads_stackreged/00.tif", b"zero")
        archive.writestr("_2023_beads_roi_stackreged/00.tif", b"roi")
        archive.writestr("__MACOSX/_2023_beads_stackreged/00.tif", b"litter")
    with tarfile.open(served / "microglia_trim.tar.gz", "w:gz") as archive:
        for name in ("00.tif", "01.tif"):
            info = tarfile.TarInfo(name)
            info.size = 5
            archive.addfile(info, io.BytesIO(b"glia" + name[1].encode()))
        link = tarfile.TarInfo("link.tif")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    sums = [f"{md5(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(served.iterdir())]
    (served / "md5sums.txt").write_text("".join(sums))
    return served


@pytest.fixture
def server(record, monkeypatch):
    monkeypatch.setattr(zenodo.time, "sleep", lambda _: None)
    Moody.moods, Moody.asked = [], []
    with serving(record) as url:
        yield url


def fetched(mirror, folder):
    zenodo.write_manifest("1", folder / "manifest.csv", str(mirror))
    for name in zenodo.read_manifest(folder / "manifest.csv"):
        download(name, folder / "manifest.csv", folder / "files" / name)
    return folder / "files"


def test_the_manifest_tells_the_sizes(record, server, tmp_path):
    for mirror in (server, str(record)):
        zenodo.write_manifest("1", tmp_path / "manifest.csv", mirror)
        rows = zenodo.read_manifest(tmp_path / "manifest.csv")
        assert set(rows) == {"beads.zip", "microglia_trim.tar.gz"}
        for name, row in rows.items():
            content = (record / name).read_bytes()
            assert (row["size"], row["md5"]) == (str(len(content)), md5(content).hexdigest())


def test_a_disk_too_small_is_told_before_anything_is_fetched(record, tmp_path, monkeypatch):
    zenodo.write_manifest("1", tmp_path / "manifest.csv", str(record))
    room = (record / "beads.zip").stat().st_size - 1
    monkeypatch.setattr(zenodo.shutil, "disk_usage", lambda _: SimpleNamespace(free=room))
    with pytest.raises(TenetError, match=r"beads\.zip: .* GB are to come.*make room"):
        download("beads.zip", tmp_path / "manifest.csv", tmp_path / "files/beads.zip")
    assert not list((tmp_path / "files").iterdir())


ZENODO_GET = """#!{python}
# As zenodo-get 3 behaves: `--md5` writes sums, `--wget FILE` addresses, into the output folder.
import shutil
import sys
from pathlib import Path

options = sys.argv[1:]
out = Path(options[options.index("--output-dir") + 1])
assert options[options.index("--record") + 1] == "15545449"
if "--md5" in options:
    shutil.copy("{served}/md5sums.txt", out)
else:
    names = [line.split()[1] for line in Path("{served}/md5sums.txt").read_text().splitlines()]
    urls = ["{url}records/15545449/files/" + name + "/content" for name in names]
    (out / options[options.index("--wget") + 1]).write_text("\\n".join(urls))
"""


def test_the_manifest_is_made_with_zenodo_get(record, server, tmp_path, monkeypatch):
    for name in ("beads.zip", "microglia_trim.tar.gz"):
        folder = record / f"records/15545449/files/{name}"
        folder.mkdir(parents=True)
        (folder / "content").write_bytes((record / name).read_bytes())
    program = tmp_path / "bin/zenodo_get"
    program.parent.mkdir()
    program.write_text(ZENODO_GET.format(python=sys.executable, served=record, url=server))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    zenodo.write_manifest("15545449", tmp_path / "manifest.csv")
    download("beads.zip", tmp_path / "manifest.csv", tmp_path / "beads.zip")
    assert (tmp_path / "beads.zip").read_bytes() == (record / "beads.zip").read_bytes()
    rows = zenodo.read_manifest(tmp_path / "manifest.csv")
    assert rows["beads.zip"]["size"] == str((record / "beads.zip").stat().st_size)
    program.write_text("#!/bin/sh\nexit 0\n")  # no such record: nothing is written
    with pytest.raises(TenetError, match="gave no list of files"):
        zenodo.write_manifest("15545449", tmp_path / "other.csv")
    program.unlink()
    with pytest.raises(TenetError, match="pip install zenodo-get"):
        zenodo.write_manifest("15545449", tmp_path / "other.csv")
    assert not (tmp_path / "other.csv").exists()


def test_download_from_a_web_mirror(record, server, tmp_path):
    files = fetched(server, tmp_path)
    names = {p.name for p in record.iterdir()} - {"md5sums.txt"}
    assert {p.name for p in files.iterdir()} == names
    for name in names:
        assert (files / name).read_bytes() == (record / name).read_bytes()


@pytest.mark.parametrize("moods", [["cut"], ["429"], ["500", "503"], ["cut", "429", "cut"]])
def test_download_outlasts_a_moody_server(record, server, tmp_path, moods):
    zenodo.write_manifest("1", tmp_path / "manifest.csv", server)
    Moody.moods, Moody.asked = list(moods), []
    download("beads.zip", tmp_path / "manifest.csv", tmp_path / "beads.zip")
    assert (tmp_path / "beads.zip").read_bytes() == (record / "beads.zip").read_bytes()
    assert len(Moody.asked) == len(moods) + 1
    if "cut" in moods:  # goes on where it was
        half = (record / "beads.zip").stat().st_size // 2
        assert f"bytes={half}-" in Moody.asked
    assert not list(tmp_path.glob(".*partial"))


def test_a_wrong_byte_is_noticed_and_the_file_fetched_anew(record, server, tmp_path):
    zenodo.write_manifest("1", tmp_path / "manifest.csv", server)
    Moody.moods = ["wrong"]
    download("beads.zip", tmp_path / "manifest.csv", tmp_path / "beads.zip")
    assert (tmp_path / "beads.zip").read_bytes() == (record / "beads.zip").read_bytes()


def test_a_server_that_never_recovers_is_given_up_and_what_came_is_kept(server, tmp_path):
    zenodo.write_manifest("1", tmp_path / "manifest.csv", server)
    Moody.moods = ["cut", *["500"] * 10]
    with pytest.raises(TenetError, match=r"500.*6 tries.*goes on from here"):
        download("beads.zip", tmp_path / "manifest.csv", tmp_path / "beads.zip")
    assert not (tmp_path / "beads.zip").exists()
    assert (tmp_path / ".beads.zip.partial").stat().st_size > 0


def test_a_full_disk_is_told_and_what_came_is_kept(record, tmp_path):
    zenodo.write_manifest("1", tmp_path / "manifest.csv", str(record))
    size = (record / "beads.zip").stat().st_size

    def no_room():  # larger files cannot be written, as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    script = [sys.executable, SCRIPTS / "zenodo.py", "file", "beads.zip"]
    options = ["--manifest", tmp_path / "manifest.csv", "--out", tmp_path / "beads.zip"]
    run = partial(subprocess.run, [*script, *options], capture_output=True, text=True)
    done = run(preexec_fn=no_room)
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "beads.zip").exists()
    assert run().returncode == 0
    assert (tmp_path / "beads.zip").read_bytes() == (record / "beads.zip").read_bytes()


def test_a_disk_that_is_full_while_extracting_leaves_no_folder(record, tmp_path):
    def no_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2, 2))

    script = [sys.executable, SCRIPTS / "zenodo.py", "folder", "*beads_stackreged"]
    options = ["--downloads", record, "--out", tmp_path / "taken/beads"]
    run = partial(subprocess.run, [*script, *options], capture_output=True, text=True)
    done = run(preexec_fn=no_room)
    assert done.returncode == 1
    assert f"cannot write {tmp_path / 'taken/beads'}: " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "taken").iterdir())
    assert run().returncode == 0
    assert list((tmp_path / "taken/beads").iterdir())


def test_download_refuses_what_differs_from_its_checksum(record, tmp_path):
    (record / "beads.zip").write_bytes(b"truncated")
    with pytest.raises(TenetError, match=r"beads\.zip did not arrive whole"):
        fetched(record, tmp_path)
    assert not (tmp_path / "files/beads.zip").exists()


def test_download_keeps_whole_files(record, tmp_path):
    files = fetched(record, tmp_path)
    before = (files / "beads.zip").stat().st_mtime_ns
    (record / "beads.zip").unlink()  # not asked for again
    fetched(record, tmp_path)
    assert (files / "beads.zip").stat().st_mtime_ns == before


def test_a_record_that_is_not_there_is_told_in_one_line(tmp_path):
    with pytest.raises(TenetError, match=r"cannot fetch .*md5sums"):
        zenodo.write_manifest("1", tmp_path / "manifest.csv", str(tmp_path))
    assert not (tmp_path / "manifest.csv").exists()


def test_download_writes_only_below_its_folder(record, tmp_path):
    (record / "md5sums.txt").write_text(f"{'0' * 32}  ../../outside.tif\n")
    with pytest.raises(TenetError, match="outside of the folder"):
        fetched(record, tmp_path)
    (tmp_path / "manifest.csv").write_text("file,md5,url\n../x,0,http://127.0.0.1/x\n")
    with pytest.raises(TenetError, match="outside of the folder"):
        download("../x", tmp_path / "manifest.csv", tmp_path / "x")


def test_folder_is_taken_out_by_pattern(record, tmp_path):
    take_folder("*beads_stackreged", record, tmp_path / "beads")
    files = {p.relative_to(tmp_path / "beads").as_posix() for p in (tmp_path / "beads").rglob("*")}
    assert files == {"00.tif", "b", "b/01.tif"}
    assert (tmp_path / "beads/00.tif").read_bytes() == b"zero"


def test_archive_without_folders_is_a_folder_and_its_links_are_left_out(record, tmp_path):
    take_folder("microglia_trim", record, tmp_path / "microglia")
    assert sorted(p.name for p in (tmp_path / "microglia").iterdir()) == ["00.tif", "01.tif"]


@pytest.mark.parametrize(("pattern", "what"), [("*neurons", "no folder"), ("_2023*", "more than")])
def test_folder_that_is_not_found_is_answered_with_those_that_are(record, tmp_path, pattern, what):
    with pytest.raises(TenetError, match=what) as error:
        take_folder(pattern, record, tmp_path / "out")
    assert "beads/_2023_beads_roi_stackreged" in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../evil.tif", "/etc/evil.tif", "a\\..\\..\\evil.tif"])
def test_archives_cannot_write_elsewhere(tmp_path, name):
    (tmp_path / "files").mkdir()
    with zipfile.ZipFile(tmp_path / "files/x_beads.zip", "w") as archive:
        archive.writestr(name, b"evil")
    with pytest.raises(TenetError, match="outside of the folder"):
        take_folder("*beads", tmp_path / "files", tmp_path / "deep/out")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["files", "x_beads.zip"]


def test_checksums_follow_content_and_names(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "00.bin").write_bytes(b"zero")
    (folder / ".snakemake_timestamp").touch()
    before = checksums(folder)
    os.utime(folder / "00.bin", ns=(1, 1))
    assert checksums(folder) == before
    assert before.endswith("  00.bin\n")
    assert before.count("\n") == 1
    (folder / "00.bin").write_bytes(b"null")
    assert checksums(folder) != before
    known = subprocess.run(
        ["sha256sum", "00.bin"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert checksums(folder) == known.stdout


# Devices ------------------------------------------------------------------------------------------


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A driver that lists two GPUs."""
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    listed = "GPU 0: A (UUID: GPU-aa)\nGPU 1: B (UUID: GPU-bb)\n"
    program.write_text(f"#!/bin/sh\ncat <<E\n{listed}E\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("workflow.lib.gpus.version", lambda _: "2.14.1")


@pytest.mark.parametrize(
    ("allowed", "seen"),
    [
        (None, ["0", "1"]),
        ("", []),
        ("-1", []),
        ("1", ["1"]),
        ("1,0", ["1", "0"]),
        ("0,7,1", ["0"]),
        ("GPU-bb", ["GPU-bb"]),
        ("0,NoDevFiles", ["0"]),
    ],
)
@pytest.mark.usefixtures("driver")
def test_visible_gpus_are_those_that_cuda_would_see(monkeypatch, allowed, seen):
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert visible_gpus() == seen


def test_pytorch_for_the_cpu_sees_no_gpu(driver, monkeypatch):
    monkeypatch.setattr("workflow.lib.gpus.version", lambda _: "2.14.1+cpu")
    assert visible_gpus() == []


def run_on_device(granted, code):
    command = [sys.executable, SCRIPTS / "on_device.py", str(granted), sys.executable, "-c", code]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_no_grant_means_the_cpu(driver):
    job = run_on_device(0, "import sys; print(sys.argv[1:])")
    assert job.communicate()[0] == "['--device', 'cpu']\n"


@pytest.fixture
def for_cuda():
    """Skips where PyTorch is built for the CPU alone."""
    code = "from importlib.metadata import version; print(version('torch'))"
    command = [sys.executable, "-c", code]
    if "+cpu" in subprocess.run(command, capture_output=True, text=True, check=True).stdout:
        pytest.skip("this PyTorch is built for the CPU alone")


#: Says which GPU it sees, and ends when its input does.
WAITS = (
    "import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES'], sys.argv[2], flush=True);"
    "sys.stdin.read()"
)


@pytest.mark.usefixtures("driver", "for_cuda")
def test_jobs_of_a_cluster_do_not_wait_for_one_another(monkeypatch):
    """Each was granted a GPU, and each cluster job may call its own 0."""
    monkeypatch.setenv("TENET_JOBS_PER_GPU", "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    jobs = [run_on_device(1, WAITS) for _ in range(3)]
    assert [job.stdout.readline() for job in jobs] == ["0 cuda\n"] * 3
    for job in jobs:
        job.communicate()


@pytest.mark.parametrize("places", [1, 2])
@pytest.mark.usefixtures("driver", "for_cuda")
def test_jobs_at_the_same_time_hold_different_gpus_or_places(monkeypatch, places):
    monkeypatch.setenv("TENET_JOBS_PER_GPU", str(places))
    jobs = []
    for _ in range(places):
        pair = [run_on_device(1, WAITS) for _ in range(2)]
        assert {job.stdout.readline() for job in pair} == {"0 cuda\n", "1 cuda\n"}
        jobs += pair
    last = run_on_device(1, WAITS)
    assert last.stderr.readline() == "waiting for a free GPU\n"
    jobs.pop(0).communicate()  # ends the first job, whose place is free then
    assert last.stdout.readline() in {"0 cuda\n", "1 cuda\n"}
    for job in (*jobs, last):
        job.communicate()
