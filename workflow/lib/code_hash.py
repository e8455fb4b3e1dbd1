"""A hash of the Python code behind a rule: it changes when the code does, not when its words do.

Snakemake sees the command of a rule but not the package that it runs. Each rule therefore carries,
among its `params`, the hash of the modules that do its work and of all that these import.
"""

import ast
import hashlib
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

#: Keywords of a setting's `Field` that describe it.
FIELD_WORDS = ("description", "examples", "title")


def code_hash(root: Path, modules: Collection[str], without: Collection[str] = ()) -> str:
    """Hash modules and everything they import from their own package.

    Parameters
    ----------
    root : Path
        Folder that holds the package.
    modules : collection of str
        Dotted names, such as ``tenet.learn.pretrain``. What they import at their top level,
        and what that imports, is included; imports inside functions are not.
    without : collection of str
        Modules left out, together with what only they import.

    Returns
    -------
    str
        Sixteen hexadecimal digits. Comments, docstrings, layout, the text of errors and the
        descriptions of settings do not change them.

    Raises
    ------
    FileNotFoundError
        If a module has no file below `root`.
    SyntaxError
        If a file is not Python.
    """
    digest = hashlib.sha256()
    for name, path in sorted(closure(root, modules, without).items()):
        digest.update(f"{name}\n{_normalised(path, path.stat().st_mtime_ns)}\n".encode())
    return digest.hexdigest()[:16]


def closure(root: Path, modules: Collection[str], without: Collection[str] = ()) -> dict[str, Path]:
    """Dotted name and file of `modules` and of all they import; see `code_hash`."""
    found: dict[str, Path] = {}
    queue = list(modules)
    for name in modules:
        if _file(root, name) is None:
            raise FileNotFoundError(f"there is no module {name} in {root}")
    seen = set(without)
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _file(root, name)
        if path is not None:
            found[name] = path
            queue += _own_imports(path, path.stat().st_mtime_ns, name)
    return found


@cache
def _own_imports(path: Path, _changed: int, name: str) -> frozenset[str]:
    """Names that a module imports from its own package, and those of the packages they are in."""
    package = name.split(".")[0]
    tree = ast.parse(path.read_bytes(), filename=str(path))
    imported = _imports(tree, name, is_package=path.name == "__init__.py")
    own = [other for other in imported if other.split(".")[0] == package]
    return frozenset(part for other in own for part in _with_parents(other))


def _file(root: Path, name: str) -> Path | None:
    base = root.joinpath(*name.split("."))
    for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def _imports(tree: ast.Module, name: str, is_package: bool) -> Iterator[str]:
    """Names that a module imports when it is imported itself, and that may be modules."""
    for node in _top_level(tree.body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package that the module is in, each further dot its parent.
            up = node.level - is_package
            base = name.rsplit(".", up)[0] if up else name
            module = ".".join(filter(None, [base if node.level else "", node.module or ""]))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run on import, those in `if` and `try` included."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _top_level(node.orelse)
        elif isinstance(node, ast.If | ast.Try):
            for part in ("body", "orelse", "finalbody"):
                yield from _top_level(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from _top_level(handler.body)


@cache
def _normalised(path: Path, _changed: int) -> str:
    """Strip what is only said from the code of a file: comments, layout and words for people."""
    tree = ast.parse(path.read_bytes(), filename=str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc.args = [argument for argument in node.exc.args if not _is_text(argument)]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Field":
            node.keywords = [word for word in node.keywords if word.arg not in FIELD_WORDS]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _is_text(node: ast.expr) -> bool:
    """Whether an expression is a literal text, perhaps with values in it."""
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
