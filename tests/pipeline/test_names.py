"""Names from users: what a shell could take for a command stays one word, or is refused."""

import re
import string
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
import yaml
from support import ROOT, copy_repository, snakemake
from test_workflow import COMMAND_LINE
from tifffile import imwrite

from workflow.lib.validation import check_config

RULES = sorted((ROOT / "workflow/rules").glob("*.smk"))
#: Numbers, which need no quotes.
NUMBERS = ("threads", "resources.gpu")


def shell_texts():
    """Rule by rule, what stands under `shell:`."""
    for path in RULES:
        for block in re.split(r"^(?=rule |checkpoint )", path.read_text(), flags=re.MULTILINE)[1:]:
            rule = block.split(":")[0].split()[-1]
            found = re.search(r"^    shell:\n((?: {8}.*\n)+)", block, flags=re.MULTILINE)
            assert found, f"{path.name}: {rule} has no shell command"
            yield f"{path.name}: {rule}", found[1]


def test_every_value_in_a_shell_command_is_quoted():
    texts = dict(shell_texts())
    assert len(texts) >= 21
    for rule, text in texts.items():
        for _, field, form, _ in string.Formatter().parse(text):
            assert field is None or field in NUMBERS or form == "q", f"{rule}: {{{field}}}"
        assert "{log" in text, rule


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "config/config.yaml").read_text())


BAD = [
    "k$(touch PWNED)", "`id`", "a;b", "a&b", "a|b", "a>b", "a<b>", "{a}", "a*", "a?", 'a"b', "a\\b",
    "a\nb", "a\n", "a\x00b", "a\x7f", "-rf", "~/x", "",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("keys", [["results"], ["zenodo", "folder"]])
def test_folders_that_a_shell_or_snakemake_misreads_are_refused(config, keys, name):
    section = config if len(keys) == 1 else config[keys[0]]
    section[keys[-1]] = name
    with pytest.raises(ValueError, match="is not a folder without") as error:
        check_config(config, ROOT / "workflow/schemas/config.schema.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["-x", "a b", "a\n", "a/b", "../x", ""])
def test_names_that_would_be_options_or_paths_are_refused(config, name):
    config["phantoms"][name] = config["phantoms"]["training"]
    with pytest.raises(ValueError, match="is not a name of letters"):
        check_config(config, ROOT / "workflow/schemas/config.schema.yaml")


# Run ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy whose commands only write files, in a folder with a space."""
    folder = copy_repository(tmp_path_factory.mktemp("a folder") / "it's")
    (folder / "tenet/__main__.py").write_text(COMMAND_LINE)
    return folder


@pytest.mark.pipeline
def test_results_may_have_a_space_an_apostrophe_and_umlauts(repository, tmp_path):
    results = tmp_path / "o'brien's größe 😀"
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"results": str(results)}))
    target = f"{results}/predictions/fig2_phantoms/tenet.sha256"
    snakemake(repository, target, "--configfile", "config/demo.yaml", tmp_path / "x.yaml")
    assert Path(target).is_file()
    assert (results / "logs/predict/fig2_phantoms/tenet.log").is_file()
    words = (results / "models/scale3/model.pt").read_text()
    assert f"--phantoms {results}/phantoms/training --tuning" in words


FILES = ["a b.tif", "$(touch PWNED).tif", "o'brien.tif", "-x.tif", "größe µ.tif", "`id`;&|*.tif"]


@pytest.fixture(scope="module")
def stacks(repository):
    """Stacks with awkward names, and their table; the names begin in the working directory."""
    rows = ["name\tfile\texperiment\tvoxel_z_um\tvoxel_y_um\tvoxel_x_um"]
    for number, name in enumerate([*FILES, "./dot.tif", "sub//deep.tif"]):
        path = repository / name
        path.parent.mkdir(exist_ok=True)
        imwrite(path, np.arange(80 * 48 * 48, dtype=np.uint32).reshape(80, 48, 48))
        rows.append(f"s{number}\t{name}\tfig3_beads\t1\t0.1\t0.1")
    (repository / "samples.tsv").write_text("\n".join(rows))
    return repository


@pytest.mark.pipeline
def test_stacks_may_have_any_name_that_a_file_can_have(stacks):
    targets = [f"results/demo/enhanced/s{n}.ome.tif" for n in range(len(FILES) + 2)]
    options = ("--configfile", "config/demo.yaml", "--config", "samples=samples.tsv")
    output = snakemake(stacks, *targets, *options)
    assert "discouraged" not in output
    assert not list(stacks.rglob("PWNED"))
    for name, target in zip([*FILES, "dot.tif", "sub/deep.tif"], targets, strict=True):
        words = (stacks / target).read_text()
        path = f"{stacks}/{name}" if name.startswith("-") else name
        assert words.startswith(f"enhance {path} ")


@pytest.mark.pipeline
def test_a_file_of_the_record_may_begin_with_a_dash(repository, tmp_path):
    name = "-x $(touch PWNED)"
    image = np.stack(2 * [np.eye(120, dtype=np.uint8)])
    imwrite(tmp_path / f"{name}.tif", image)
    digest = md5((tmp_path / f"{name}.tif").read_bytes()).hexdigest()
    (tmp_path / "md5sums.txt").write_text(f"{digest}  {name}.tif\n")
    place = {"mirror": str(tmp_path), "folder": f"{tmp_path}/z"}
    loose = {"neurons": {"folder": "", "files": "-x*", "least_planes": 1}}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"zenodo": place, "sources": loose}))
    snakemake(repository, f"{tmp_path}/z/neurons.sha256", "--configfile", tmp_path / "x.yaml")
    assert (tmp_path / f"z/files/{name}.tif").is_file()
    assert (tmp_path / f"z/neurons/{name}.ome.tif").is_file()
    assert not list(repository.rglob("PWNED"))


@pytest.mark.parametrize("value", [float("nan"), 10**30, "a"])
def test_a_key_of_two_lines_is_told_in_one(config, value):
    config["phantoms"]["training"]["a\nb"] = value
    with pytest.raises(ValueError, match="configuration") as error:
        check_config(config, ROOT / "workflow/schemas/config.schema.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("bax", "pretrained: box_one_photon: start: unknown model 'bax'; did you mean 'box'"),
        ("box_one_photon", "box_one_photon begins with box_one_photon: one of them must begin"),
        ("scale3", "box_one_photon begins with scale3 begins with box_one_photon: one of them"),
    ],
)
def test_a_training_begins_with_a_model_that_does_not_begin_with_it(config, start, said):
    config["pretrained"]["box_one_photon"]["start"] = start
    config["pretrained"]["scale3"]["start"] = "box_one_photon"
    with pytest.raises(ValueError, match=said):
        check_config(config, ROOT / "workflow/schemas/config.schema.yaml")
