"""The hazards of DESIGN section 1, each with its guard: layers, names, places and what our code never does."""

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import degradations
import filters
from degradations.pairs.contract import Degradation
from filters._contract import Filter

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "tasks", "degradations", "filters", "storage", "training")
FILES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
BELOW = {"storage": (), "degradations": ("storage",), "filters": ("storage",), "training": ("storage",)}
BELOW |= {"tasks": ("storage", "degradations", "filters", "training")}
BELOW |= {"flows": ("storage", "degradations", "filters", "training", "tasks")}
HEAVY = {
    "torch",
    "open_clip",
    "sam2",
    "transformers",
    "diffusers",
    "peft",
    "timm",
    "torchvision",
    "webdataset",
    "numba",
}
COMPILER = "degradations/kernels/_compiled.py"  # which only kernels import
LONGEST = 450  # lines; most files are under 150
PROGRAMS = ("tasks/watchdog.py", "tasks/unpickle.py")  # processes of their own, which speak by standard output


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes):
    """Yield (line, module) of every import among `nodes`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or "."


def at_module_level(body):
    """Yield the statements that run when a module is imported: not those for the type checker, nor in functions."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                found = getattr(node, inner, [])
                yield from at_module_level(found if isinstance(found, list) else [])


def calls(path):
    """Yield (line, dotted name) of every call in a file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def named(path):
    return path.relative_to(ROOT).as_posix()


def offenders(wrong):
    """Return "file:line what" of every (line, what) that `wrong` finds in any of our files."""
    return [f"{named(path)}:{line} {what}" for path in FILES for line, what in wrong(path)]


def settings():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_imports_point_down():
    def upward(path):
        package = path.relative_to(ROOT).parts[0]
        allowed = {package, *BELOW[package]}
        return [found for found in imported(ast.walk(tree(path))) if found[1].split(".")[0] in set(PACKAGES) - allowed]

    assert offenders(upward) == []


def test_the_layers_of_import_linter_are_kept(capfd, monkeypatch):
    linter = pytest.importorskip("importlinter.cli")
    monkeypatch.chdir(ROOT)
    assert linter.lint_imports(no_cache=True) == 0, capfd.readouterr().out


def test_import_linter_knows_every_package():
    assert set(settings()["tool"]["importlinter"]["root_packages"]) == set(PACKAGES)


@pytest.mark.parametrize(("library", "owners"), [("prefect", ("flows/",)), ("ray", ("tasks/remote.py", "tasks/ray_"))])
def test_one_place_imports_an_engine(library, owners):
    def elsewhere(path):
        found = imported(ast.walk(tree(path)))
        return [] if named(path).startswith(owners) else [item for item in found if item[1].split(".")[0] == library]

    assert offenders(elsewhere) == []
    assert any(module.split(".")[0] == library for path in FILES for _, module in imported(ast.walk(tree(path))))


def test_heavy_libraries_are_imported_where_they_are_used():
    def early(path):
        core = named(path).startswith(("training/", "degradations/batched/"))  # torch is what they are made of; nothing
        # that starts fast imports them
        heavy = HEAVY - {"torch"} if core else HEAVY - ({"numba"} if named(path) == COMPILER else set())
        return [found for found in imported(at_module_level(tree(path).body)) if found[1].split(".")[0] in heavy]

    assert offenders(early) == []


def test_kernels_are_imported_where_they_are_used():
    def early(path):
        within = named(path).startswith("degradations/kernels/")
        modules = imported(at_module_level(tree(path).body))
        return [] if within else [item for item in modules if "kernels" in item[1] or "_compiled" in item[1]]

    assert offenders(early) == []


def test_what_a_kernel_is_made_of_lies_beside_it():  # its machine code is kept under the digest of that folder
    def elsewhere(path):
        known = (
            "math",
            "numpy",
            "typing",
            "degradations.kernels._compiled",
            "degradations.pairs.contract",
            "degradations.kernels",
        )
        within = named(path).startswith("degradations/kernels/") and named(path) != COMPILER
        return [item for item in imported(tree(path).body) if within and not item[1].startswith(known)]

    assert offenders(elsewhere) == []


def test_kernels_call_no_function_of_the_c_library_and_keep_the_order_of_sums():
    exact = {"np.sqrt", "np.empty", "np.zeros", "np.arange", "np.float32", "np.int32", "np.int64", "np.uint16"}
    exact |= {"math.ceil", "math.floor", "np.uint8", "np.uint32", "np.uint64", "np.floor"}

    def inexact(path):
        if not named(path).startswith("degradations/kernels/"):
            return []
        sums = [node for node in ast.walk(tree(path)) if isinstance(node, ast.BinOp)]
        powers = [(node.lineno, "**") for node in sums if isinstance(node.op, ast.Pow)]
        called = [item for item in calls(path) if re.fullmatch(r"(np|math)\.\w+", item[1])]
        return powers + [item for item in called if item[1] not in exact]

    assert offenders(inexact) == []
    assert "fastmath=" not in (ROOT / COMPILER).read_text(encoding="utf-8")


def test_the_command_line_imports_commands_when_they_run():
    found = {module for _, module in imported(at_module_level(tree(ROOT / "flows/__main__.py").body))}
    ours = {module for module in found if module.split(".")[0] in PACKAGES}
    assert ours == {"flows.quiet"}
    assert not any(module.startswith(("numpy", "cv2", "pydantic", "pyarrow")) for module in found)


def test_no_file_of_flows_hides_a_package_or_the_standard_library():
    taken = set(PACKAGES) | set(sys.stdlib_module_names)
    stems = {path.stem for path in (ROOT / "flows").glob("*.py")} - {"__init__", "__main__"}
    assert stems & taken == set()


def test_work_is_not_defined_where_a_flow_is():
    for path in (ROOT / "flows").glob("*.py"):
        remote = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef) and _is_remote(node)]
        assert remote == [], f"{path.name}: a function of a flow file cannot reach a worker"


def _is_remote(function):
    return any("remote" in ast.unparse(decorator) for decorator in function.decorator_list)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_lies_under_the_root(package):
    assert Path(importlib.import_module(package).__file__).parents[1] == ROOT


@pytest.mark.parametrize("package", sorted(set(PACKAGES) - {"flows"}))
def test_our_packages_win_over_others_of_their_name(package, tmp_path):
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    code = f"import flows, {package}; print({package}.__file__)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": paths}, cwd=tmp_path, capture_output=True)
    assert Path(done.stdout.decode().strip()).parents[1] == ROOT


def test_the_listed_packages_are_the_folders_with_an_init():
    folders = {path.parent for name in PACKAGES for path in (ROOT / name).rglob("__init__.py")}
    assert set(settings()["tool"]["setuptools"]["packages"]) == {
        folder.relative_to(ROOT).as_posix().replace("/", ".") for folder in folders
    }


def test_every_folder_with_code_has_an_init():
    assert [named(path) for path in FILES if not (path.parent / "__init__.py").exists()] == []


def test_files_that_are_no_code_are_packaged():
    listed = settings()["tool"]["setuptools"]["package-data"]
    for package in PACKAGES:
        data = [path for path in (ROOT / package).iterdir() if path.is_file() and path.suffix not in (".py", ".pyc")]
        lost = [path.name for path in data if not any(path.match(pattern) for pattern in listed.get(package, []))]
        assert lost == [], f"{package}: {lost} would not be installed"


def test_data_stays_out_of_what_ray_uploads():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {".venv/", "demo-dataset/"} <= set(ignored)
    assert sum(path.stat().st_size for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()) < 20e6


def test_nothing_runs_code_from_a_file():
    def dangerous(path):
        never = ("eval", "exec", "torch.load", "torch.hub.load", "os.system", "np.load", "joblib.load")
        modules = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "torch.hub"}
        found = [item for item in calls(path) if item[1] in never]
        found += [
            item for item in imported(ast.walk(tree(path))) if item[1].split(".")[0] in modules or item[1] in modules
        ]
        return [*(item for item in found if not _is_confined(path, item)), *_trusting(path)]

    def _is_confined(path, item):  # the one process that reads pickles, as tensors only
        safe = "torch.load(source, map_location='cpu', weights_only=True)"
        return (named(path), item[1]) == ("tasks/unpickle.py", "torch.load") and safe in ast.unparse(tree(path))

    def _trusting(path):
        words = [node for node in ast.walk(tree(path)) if isinstance(node, ast.keyword)]
        return [
            (word.value.lineno, word.arg)
            for word in words
            if word.arg in ("trust_remote_code", "shell", "allow_pickle") and ast.unparse(word.value) != "False"
        ]

    assert offenders(dangerous) == []


def test_nothing_depends_on_where_memory_lies():
    def wandering(path):  # see `filters._statistics.length`
        return [item for item in calls(path) if item[1] == "cv2.magnitude"]

    assert offenders(wandering) == []


def test_archives_are_never_extracted():
    def extracting(path):
        return [item for item in calls(path) if item[1].endswith((".extractall", ".extract"))]

    assert offenders(extracting) == []


def test_imports_are_absolute():
    def relative(path):
        found = [node for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom)]
        return [(node.lineno, "relative import") for node in found if node.level]

    assert offenders(relative) == []


def test_nothing_prints():
    def printing(path):
        return (
            []
            if named(path) in PROGRAMS
            else [item for item in calls(path) if item[1] in ("print", "sys.stdout.write")]
        )

    assert offenders(printing) == []


def test_randomness_has_a_generator():
    def drawn_globally(path):
        return [item for item in calls(path) if re.match(r"(np\.random|numpy\.random|random)\.[a-z]", item[1])]

    def modules(path):
        return [found for found in imported(ast.walk(tree(path))) if found[1] == "random"]

    assert offenders(drawn_globally) == []
    assert offenders(modules) == []


def test_only_flows_reads_arguments_and_the_environment():
    def reading(path):
        allowed = (*PROGRAMS, "storage/failpoints.py", "tasks/remote.py", "filters/_vlm.py")
        if named(path).startswith("flows/") or named(path) in allowed:
            return []  # failpoints lie where no settings reach, Ray is told what it hands on, a key stays put
        nodes = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)]
        found = [(node.lineno, ast.unparse(node)) for node in nodes]
        return [item for item in found if item[1] in ("os.environ", "os.getenv", "sys.argv")]

    assert offenders(reading) == []


@pytest.mark.parametrize("name", degradations.names())
def test_a_degradation_file_exports_its_one_name(name):
    module = importlib.import_module(f"degradations.{name}")
    assert isinstance(module.DEGRADATION, Degradation)
    assert [key for key, value in vars(module).items() if isinstance(value, Degradation)] == ["DEGRADATION"]


@pytest.mark.parametrize("name", filters.names())
def test_a_filter_file_exports_its_one_name(name):
    module = importlib.import_module(f"filters.{name}")
    assert issubclass(module.FILTER, Filter)
    own = [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, Filter)]
    assert {item for item in own if item.__module__ == module.__name__} == {module.FILTER}


def test_no_file_is_longer_than_one_reads():
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


def test_every_module_says_what_it_is():
    assert [named(path) for path in FILES if not ast.get_docstring(tree(path))] == []
