"""The house: which module may import which, and what may not be called anywhere."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TENET = Path(__file__).parents[2] / "tenet"

# A package, or a module beside them, imports only from floors below its own. Modules of one package
# may import one another, but in no circle.
FLOORS = [
    "errors",
    "types",
    "io",
    "progress",
    "interruption",
    "metrics",
    "networks",
    "physics",
    "settings",
    "data",
    "model",
    "enhance",
    "learn",
    "tasks",
    "__init__",
    "paper",
    "cli",
    "__main__",
    "napari",
]
MOST_LINES = 500
FLOOR = {module: floor for floor, module in enumerate(FLOORS)}
PATHS = sorted(path for path in TENET.rglob("*.py") if path.stat().st_size)
WORKFLOW = sorted((TENET.parent / "workflow").rglob("*.py"))


def house(path: Path) -> str:
    """The module, or the subpackage that stands for its modules."""
    return path.relative_to(TENET).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """Full names of everything imported, also inside functions."""
    package = path.relative_to(TENET.parent).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_every_module_has_a_floor() -> None:
    assert {house(path) for path in PATHS} <= set(FLOOR)
    assert len(PATHS) > 15


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(TENET)))
def test_imports_come_from_floors_below(path: Path) -> None:
    own = house(path)
    for name in imports(path):
        if not name.startswith("tenet."):
            continue
        other = name.split(".")[1]
        if other == "__version__":
            other = "__init__"
        if other == own:
            continue
        assert other in FLOOR, f"{own} imports {name}, which is nowhere"
        assert FLOOR[other] < FLOOR[own], f"{own} (floor {FLOOR[own]}) imports {name}"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(TENET)))
def test_a_window_is_only_where_napari_is(path: Path) -> None:
    """napari is a front end as the command line is: neither uses the other, nor the paper."""
    names = list(imports(path))
    if house(path) == "napari":
        assert not [name for name in names if name.startswith(("tenet.cli", "tenet.paper"))]
    else:
        assert not {"napari", "qtpy", "magicgui"} & {name.split(".")[0] for name in names}


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {
        ".".join(path.relative_to(TENET.parent).with_suffix("").parts): path
        for path in (*PATHS, *WORKFLOW)
    }
    edges = {
        module: {
            owner
            for name in imports(path)
            for owner in (name, name.rpartition(".")[0])
            if owner in modules and owner != module
        }
        for module, path in modules.items()
    }
    order: set[str] = set()
    while len(order) < len(edges):
        ready = {module for module in edges.keys() - order if edges[module] <= order}
        assert ready, f"a circle among {sorted(edges.keys() - order)}"
        order |= ready


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(TENET)))
def test_files_are_short_enough_to_be_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(TENET)))
def test_shared_types_are_declared_once(path: Path) -> None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and path != TENET / "types.py":
            names = {ast.unparse(target) for target in node.targets}
            assert not names & {"Triple", "VoxelSize", "Progress"}, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(TENET)))
def test_nothing_runs_data_or_imports_snakemake(path: Path) -> None:
    assert not any(name.split(".")[0] == "snakemake" for name in imports(path))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        where = f"{path.name}:{node.lineno}"
        called = ast.unparse(node.func)
        assert called not in ("eval", "exec", "compile", "__import__"), where
        assert called not in ("pickle.load", "pickle.loads", "pickle.Unpickler"), where
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called == "torch.load":
            assert keywords.get("weights_only") == "True", where
        if called in ("np.load", "numpy.load"):
            assert keywords.get("allow_pickle", "False") == "False", where


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(TENET)))
def test_files_from_outside_go_through_one_gate(path: Path) -> None:
    gate = {
        TENET / "io/records.py",
        TENET / "paper/bench.py",
    }  # a bench reads what it has printed itself
    parsers = {"json.load", "json.loads", "pd.read_csv", "pandas.read_csv", "ElementTree.parse"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and path not in gate:
            assert ast.unparse(node.func) not in parsers, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(TENET)))
def test_files_are_written_whole_in_one_way(path: Path) -> None:
    """By `tenet.io.atomic`; the log of a training alone grows under its own name."""
    if path in (TENET / "io/atomic.py", TENET / "learn/log.py"):
        return
    writers = {"write_text", "write_bytes", "to_csv", "savefig", "imwrite"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        where = f"{path.name}:{node.lineno}"
        called = ast.unparse(node.func)
        assert called not in ("os.replace", "os.rename", "shutil.move", "shutil.copyfile"), where
        modes = [ast.unparse(word)[1:-1] for word in node.args if isinstance(word, ast.Constant)]
        opened = called.endswith("open") and any(set(mode) & set("wax") for mode in modes)
        if opened or called.startswith("np.save") or called.rpartition(".")[2] in writers:
            assert "tenet.io.atomic.replacing" in imports(path), where


TASKS = [path for path in PATHS if path.parent.name == "tasks"]


@pytest.mark.parametrize("path", TASKS, ids=lambda path: str(path.relative_to(TENET)))
def test_what_decides_a_result_is_imported_where_the_code_hash_looks(path: Path) -> None:
    """At the top of a task; what only draws may be imported where the drawing is done."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {
        node.module
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom)
    }
    assert inner <= {"tenet.enhance.page", "tenet.enhance.pictures"}


def test_importing_tenet_imports_nothing_else() -> None:
    """So that it costs nothing, and the code of one module can change without that of all."""
    code = "import sys, tenet; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=TENET.parent
    )
    modules = done.stdout.split()
    assert [name for name in modules if name.split(".")[0] == "tenet"] == ["tenet"]
    assert not {"torch", "numpy", "pydantic", "importlib.metadata"} & set(modules)


def test_what_tenet_needs_when_it_is_imported_is_pythons_own() -> None:
    """The rules' code hash follows it into every module: a name here must not rerun all."""
    for node in ast.parse((TENET / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert ast.unparse(node).split()[1] in sys.stdlib_module_names


def test_the_checks_see_what_they_look_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports of every form are found, in functions too."""
    package = tmp_path / "tenet"
    monkeypatch.setitem(globals(), "TENET", package)
    (package / "training").mkdir(parents=True)
    path = package / "training/loop.py"
    path.write_text(
        "import tenet.model\nfrom tenet import cli\nfrom . import store\nfrom ..figures import x\n"
        "def f():\n    from snakemake.utils import validate\n"
    )
    assert set(imports(path)) == {
        "tenet.model",
        "tenet.cli",
        "tenet.training.store",
        "tenet.figures.x",
        "snakemake.utils.validate",
    }
