"""What must be made anew after a change of code or settings is, and what must not be is not."""

import ast
import json
import shutil
from pathlib import Path

import pytest
import yaml

from workflow.lib.catalogue import Catalogue, resolved
from workflow.lib.code_hash import closure, code_hash
from workflow.lib.tracking import CODE, NO_RESULT, SETTINGS, WITHOUT, left_out, settings

ROOT = Path(__file__).parents[3]

TRAININGS = {"pretrain", "align", "finetune"}
BASELINES = {"care", "neuroclear"}
FIGURES = {step for step in CODE if step.startswith(("fig", "supp", "quality"))}
TABLES = {"table", "published"}
#: Steps whose results come of a fine-tuned or pre-trained model.
MODELS = TRAININGS | BASELINES | {"rltv", "predict", "enhance"}


@pytest.fixture(scope="module")
def followed():
    """Modules that each step follows."""
    return {step: set(closure(ROOT, modules, left_out(step))) for step, modules in CODE.items()}


def steps_of(followed, module):
    assert ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file(), module
    return {step for step, modules in followed.items() if module in modules}


@pytest.mark.parametrize(
    ("module", "must", "must_not"),
    [
        # Where images are kept out of a fold: a leak that is mended trains and predicts anew.
        (
            "tenet.data.folds",
            {"finetune", "predict", "rltv"} | BASELINES,
            {"pretrain", "align", "phantoms", "simulate", "evaluate"},
        ),
        # What is written of a record, and not how its files came.
        ("workflow.lib.source_files", {"source"}, TRAININGS),
        ("workflow.lib.zenodo", set(), {"source"}),
        ("tenet.tasks.raw_stacks", {"finetune"} | BASELINES, {"pretrain", "align", "simulate"}),
        ("tenet.tasks.finetune", {"finetune"}, {"pretrain", "phantoms", "simulate"} | BASELINES),
        ("tenet.tasks.pretrain", {"pretrain"}, {"finetune", "align", "phantoms", "simulate"}),
        ("tenet.tasks.enhance", {"predict", "enhance"}, TRAININGS | BASELINES),
        # Samples may be enhanced by a model of every microscope; stacks of figures are not.
        ("tenet.learn.serve", {"enhance"}, TRAININGS | BASELINES | {"predict"}),
        ("tenet.tasks.package", {"package_model"}, TRAININGS | {"enhance"}),
        ("tenet.learn.calibrate", TRAININGS, {"phantoms", "simulate"}),
        ("tenet.learn.align", {"align"}, {"pretrain", "phantoms", "simulate"} | BASELINES),
        ("tenet.networks.jnet", MODELS, {"phantoms", "simulate", "register"} | TABLES),
        ("tenet.data.simulate", {"simulate"} | TRAININGS, {"phantoms"}),
        ("tenet.data.phantoms.kinds", {"phantoms"}, TABLES),
        ("tenet.physics.optics", {"simulate"} | TRAININGS, {"phantoms", "register"}),
        ("tenet.paper.baselines.care", {"care"}, TRAININGS | {"neuroclear", "predict"}),
        ("tenet.paper.baselines.neuroclear", {"neuroclear"}, TRAININGS | {"care", "predict"}),
        # The threshold is chosen at the end of every training.
        ("tenet.metrics.thresholds", TRAININGS | BASELINES, {"phantoms", "simulate", "predict"}),
        # Other measures are those of evaluations.
        *(
            (f"tenet.metrics.{module}", {"evaluate"}, MODELS | {"phantoms", "simulate"})
            for module in ("segmentation", "shapes", "gaussian_widths")
        ),
        ("tenet.metrics.intervals", TABLES, MODELS | {"simulate", "evaluate"}),
        ("tenet.paper.evaluate.summary", {"table"}, MODELS | {"evaluate", "structures"}),
        ("tenet.paper.figures.fig3", {"fig3"}, set(CODE) - {"fig3"}),
        ("tenet.paper.figures.page", FIGURES - {"fig1"}, set(CODE) - FIGURES),
        ("tenet.enhance.pictures", {"enhance"}, TRAININGS | BASELINES | {"predict"}),
    ],
)
def test_a_change_of_a_module_reruns_what_it_decides_and_nothing_else(
    followed, module, must, must_not
):
    steps = steps_of(followed, module)
    assert must <= steps
    assert not must_not & steps


@pytest.mark.parametrize("module", NO_RESULT)
def test_what_decides_no_result_reruns_nothing(followed, module):
    path = ROOT.joinpath(*module.split("."))
    assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
    assert not any(module in modules for modules in followed.values())


def test_the_command_line_is_followed_nowhere(followed):
    """It only parses; what it decides stands in a rule's command."""
    assert not [m for modules in followed.values() for m in modules if m.startswith("tenet.cli")]


def test_every_rule_that_runs_tenet_names_a_step():
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    for step in set(CODE) - FIGURES - BASELINES:
        assert f'following("{step}")' in rules, step
    assert set(WITHOUT) <= set(CODE)


@pytest.mark.parametrize("module", ["tenet/errors.py", "tenet/io/atomic.py", "tenet/cli/train.py"])
def test_hashes_stay_as_they_are_when_such_a_module_changes(tmp_path, module):
    for package in ("tenet", "workflow"):
        shutil.copytree(ROOT / package, tmp_path / package)
    before = {step: code_hash(tmp_path, CODE[step], left_out(step)) for step in CODE}
    path = tmp_path / module
    path.write_text(path.read_text() + "\nCHANGED = True\n")
    assert {step: code_hash(tmp_path, CODE[step], left_out(step)) for step in CODE} == before
    folds = tmp_path / "tenet/data/folds.py"
    folds.write_text(folds.read_text() + "\nCHANGED = True\n")
    changed = {s for s in CODE if code_hash(tmp_path, CODE[s], left_out(s)) != before[s]}
    assert {"finetune", "care", "neuroclear", "rltv", "predict"} <= changed
    assert not {"pretrain", "align", "phantoms", "simulate", "evaluate", "table"} & changed


@pytest.mark.parametrize(
    "notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_what_a_notebook_imports_is_followed_by_its_figure(followed, notebook):
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    code = "\n".join(line for line in code.splitlines() if not line.startswith(("%", "!")))
    imported = {
        node.module
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tenet")
    }
    assert imported
    assert imported <= followed[notebook.stem] | set(NO_RESULT)


# Settings -----------------------------------------------------------------------------------------


@pytest.fixture
def experiments(tmp_path):
    """A folder of the project's experiments, which may be changed."""
    folder = tmp_path / "config/experiments"
    shutil.copytree(ROOT / "config/experiments", folder)
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())

    def read(name, step, section=None, **changed):
        if changed:
            path = folder / f"{name}.json"
            content = json.loads(path.read_text())
            (content.setdefault(section, {}) if section else content).update(changed)
            path.write_text(json.dumps(content))
        return settings(Catalogue(config, {}, tmp_path), name, step)

    return read


@pytest.mark.parametrize(
    ("section", "changed"),
    [
        ("params", {"device": "cuda:1"}),
        ("params", {"M": 60}),
        ("params", {"use_fftconv": False}),
        ("train_dataset", {"folderpath": "elsewhere"}),
        ("visualization", {"mip": 3}),
        (None, {"explanation": "Other words."}),
        ("pretrain_loop", {"lr": 0.5}),  # that of the pre-trained model counts
    ],
)
def test_a_setting_without_effect_retrains_nothing(experiments, section, changed):
    before = experiments("fig3_beads", "finetune")
    assert experiments("fig3_beads", "finetune", section, **changed) == before


@pytest.mark.parametrize(
    ("section", "changed"),
    [
        ("params", {"NA": 0.65}),
        ("params", {"threshold": 0.4}),
        ("train_loop", {"ewc_weight": 0.25}),
        ("train_dataset", {"I": 7}),
        ("test_dataset", {"test_images": ["00"]}),
        ("vibration", {"max_step": 70}),
        # Of the pre-training, what a rehearsal does again on phantoms.
        ("pretrain_loop", {"loss_fnx": "mse"}),
        ("pretrain_loop", {"loss_fnz": "mse"}),
        ("pretrain_loop", {"weight_x": 0.5}),
        ("pretrain_loop", {"weight_z": 0.5}),
        ("pretrain_loop", {"is_vibrate": True}),
        ("pretrain_loop", {"n_epochs": 7}),
    ],
)
def test_a_setting_with_an_effect_retrains(experiments, section, changed):
    before = experiments("fig3_beads", "finetune")
    key = next(iter(changed))
    assert experiments("fig3_beads", "finetune", section, **changed) != before, key


def test_a_step_reads_the_sections_that_are_there():
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    catalogue = Catalogue(config, {}, ROOT)
    known = resolved(catalogue, "fig3_beads").effective()
    for step in SETTINGS:
        assert set(settings(catalogue, "fig3_beads", step)) == set(SETTINGS[step])
    unread = set(known) - {key.split(".")[0] for keys in SETTINGS.values() for key in keys}
    # Names, of itself and of what it starts from, which is among a rule's inputs.
    assert unread == {"name", "pretrained_model"}
