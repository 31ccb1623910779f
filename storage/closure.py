"""Which of our source files a module may import, and what they do, comments and docstrings aside.

Imports are read off the syntax tree, those inside functions too: heavy libraries are imported where they are used. A
module that asks a package for more than its modules (`from degradations import load`) may reach every file of that
folder. JSON files beside a reached module count as source: they hold fitted numbers.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

from storage.files import sha256_of

PACKAGES = ("storage", "degradations", "filters", "tasks", "training")  # flows decides what to do, never how


def closure(module: str, root: Path) -> dict[str, str]:
    """Return the sha256, in hex, of each file of ours that `module` may import, itself included, by path below `root`.

    Raises ValueError if `module` is not one of ours or does not exist.
    """
    if _file_of(module, root) is None:
        raise ValueError(f"{module} is no module of {', '.join(PACKAGES)}")
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(name, root)
        if path is None or name in reached:
            continue
        reached.add(name)
        waiting += _parents(name)
        waiting += _imports(name, path, root)
    files = {path for name in reached if (path := _file_of(name, root)) is not None}
    digests = {path: hashlib.sha256(ast.dump(_tree(path)).encode()).hexdigest() for path in files}
    tables = {table for path in files for table in path.parent.glob("*.json")}
    digests |= {path: sha256_of(path) for path in tables}
    return {path.relative_to(root).as_posix(): digests[path] for path in sorted(digests)}


def _file_of(module: str, root: Path) -> Path | None:
    if module.partition(".")[0] not in PACKAGES:
        return None
    stem = root.joinpath(*module.split("."))
    return next((path for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.is_file()), None)


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _imports(module: str, path: Path, root: Path) -> Iterator[str]:
    is_package = path.name == "__init__.py"
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _reached_by_name(alias.name, root)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield from _reached_from(base, [alias.name for alias in node.names], root)
        elif isinstance(node, ast.Call) and not is_package:
            yield from _reached_by_call(node, root)


def _reached_by_name(module: str, root: Path) -> list[str]:
    """Return what `import module` reaches: a package hands out all its files."""
    return [module, *_members(module, root)]


def _reached_from(base: str, names: list[str], root: Path) -> list[str]:
    """Return what `from base import names` reaches; what is not a module of the package may be a loader of them."""
    modules = [f"{base}.{name}" for name in names]
    reached = [name for module in modules for name in _reached_by_name(module, root)]
    if all(_file_of(module, root) for module in modules):
        return reached
    return [*reached, *_reached_by_name(base, root)]


def _reached_by_call(call: ast.Call, root: Path) -> list[str]:
    """Return what `import_module` reaches, called with a constant or a text that starts with a package's name."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name != "import_module" or not call.args:
        return []
    argument = call.args[0].values[0] if isinstance(call.args[0], ast.JoinedStr) else call.args[0]
    text = argument.value if isinstance(argument, ast.Constant) else ""
    return _reached_by_name(str(text).rstrip("."), root)


def _members(package: str, root: Path) -> list[str]:
    path = _file_of(package, root)
    if path is None or path.name != "__init__.py":
        return []
    return [f"{package}.{file.stem}" for file in sorted(path.parent.glob("*.py")) if file != path]


@cache
def _tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file without its docstrings."""
    tree = ast.parse(path.read_bytes(), filename=str(path))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return tree
