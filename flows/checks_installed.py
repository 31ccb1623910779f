"""Is what a build needs installed, in the right version, once, and ours? What tests need is only told."""

import contextlib
import importlib
import io
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from flows.findings import Finding, finding

PACKAGES = ("flows", "tasks", "degradations", "filters", "storage", "training")
ROOT = Path(__file__).parents[1]
MODULES = {"opencv-python-headless": "cv2", "pillow": "PIL", "scikit-image": "skimage", "scikit-learn": "sklearn"}
OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")

TRY_IMPORTS = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        problem = ""
    except Exception as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
    sys.stdout.write(f"{name}\\t{problem}\\n")
    sys.stdout.flush()
"""


def installed() -> Iterator[Finding]:
    """Yield every finding about what is installed."""
    for look in (python, dependencies, packages, foreign, opencv_wheels, opencv_threads, codecs, chromium, gpu):
        yield from look()


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Iterator[Finding]:
    """The interpreter is one that is supported."""
    yield finding("python", version >= (3, 11), ".".join(map(str, version)), "install python 3.11 or newer")


def dependencies(project: str = "pairforge") -> Iterator[Finding]:
    """Every dependency can be imported, in a version that the project allows."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in metadata.requires(project) or []]
    except metadata.PackageNotFoundError:
        yield finding(project, good=False, found="not installed", fix="pip install -e .")
        return
    needed = [item for item in requirements if item.marker is None or item.marker.evaluate({"extra": ""})]
    yield from imported({item.name: str(item.specifier) for item in needed})


def imported(allowed: Mapping[str, str]) -> Iterator[Finding]:
    """Tell of every distribution whether it is there in a version that its specifier allows, and imports."""
    from packaging.specifiers import SpecifierSet

    versions = {name: _version(name) for name in allowed}
    problems = _import_problems([_module(name) for name, version in versions.items() if version])
    for name, version in versions.items():
        fix, problem = f"pip install '{name}{allowed[name]}'", problems.get(_module(name), "")
        if not version:
            yield finding(name, good=False, found="not installed", fix=fix)
        elif not SpecifierSet(allowed[name]).contains(version, prereleases=True):
            yield finding(name, good=False, found=f"version {version} is not {allowed[name]}", fix=fix)
        else:
            found = f"cannot be imported: {problem}" if problem else version
            yield finding(name, not problem, found, f"{fix} --force-reinstall")


def packages() -> Iterator[Finding]:
    """Our packages are ours: all lie under one root."""
    strangers = {name: _file(name) for name in PACKAGES if Path(_file(name)).parents[1] != ROOT}
    found = ", ".join(f"{name} from {file}" for name, file in strangers.items()) or f"all under {ROOT}"
    yield finding("packages", not strangers, found, f"remove that package, or run from {ROOT}")


def foreign(site: Path | None = None) -> Iterator[Finding]:
    """What in site-packages is called like one of ours: `flows` puts ours first, another program may not."""
    site = site or Path(sysconfig.get_paths()["purelib"])
    twins = [name for name in PACKAGES if site != ROOT and ((site / name).is_dir() or (site / f"{name}.py").is_file())]
    places = ", ".join(str(site / name) for name in twins)
    found = f"{places} stand behind ours" if twins else "none"
    fix = "pip uninstall what installed them, if a program of your own imports ours"
    yield finding("foreign packages", not twins, found, fix, otherwise="info")


def opencv_wheels(version: Callable[[str], object] = metadata.version) -> Iterator[Finding]:
    """There is one OpenCV: two wheels overwrite each other's files."""
    found = []
    for name in OPENCV:
        with contextlib.suppress(metadata.PackageNotFoundError):
            version(name)
            found.append(name)
    fix = f"pip uninstall {' '.join(found)}; pip install {OPENCV[0]}"
    yield finding("opencv wheels", len(found) == 1, ", ".join(found) or "none", fix, otherwise="warn")


def opencv_threads() -> Iterator[Finding]:
    """OpenCV can be kept to one thread, as workers do."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    after = cv2.getNumThreads()
    cv2.setNumThreads(before)
    found = f"{before} here, {after} in a worker"
    yield finding("opencv threads", after == 1, found, "export OMP_NUM_THREADS=1", otherwise="warn")


def codecs() -> Iterator[Finding]:
    """Pillow writes lossless WebP, JPEG and AVIF, and converts colour profiles."""
    from PIL import features

    there = {
        "WebP, lossless": _webp_is_lossless(),
        "JPEG": features.check("jpg"),
        "AVIF": features.check("avif"),
        "colour profiles": features.check("littlecms2"),
    }
    for name, good in there.items():
        found = "Pillow has it" if good else "Pillow lacks it"
        yield finding(name, bool(good), found, "pip install --force-reinstall 'pillow>=11'")


def chromium(which: Callable[[str], str | None] = shutil.which) -> Iterator[Finding]:
    """A browser is there for the test of the report; nothing else needs one."""
    found = next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), None)
    fix = "apt-get install chromium (for the tests only)"
    yield finding("chromium", found is not None, found or "not installed", fix, otherwise="info")


def gpu() -> Iterator[Finding]:
    """Whether there is a GPU, for models only."""
    cards = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    yield finding("gpu", bool(cards), ", ".join(cards) or "none: models run on the CPU", otherwise="info")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _module(name: str) -> str:
    return MODULES.get(name, name.replace("-", "_"))


def _import_problems(modules: Sequence[str]) -> dict[str, str]:
    """Return module -> why it cannot be imported, tried in a process of its own, which a broken binary may end."""
    done = subprocess.run([sys.executable, "-c", TRY_IMPORTS, *modules], capture_output=True, text=True)
    told = dict(line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line)
    silent = [module for module in modules if module not in told][:1]
    crash = dict.fromkeys(silent, f"the process ended with status {done.returncode}")
    return {module: problem for module, problem in (told | crash).items() if problem}


def _webp_is_lossless() -> bool:
    from PIL import Image

    picture = Image.effect_noise((16, 16), 50).convert("RGB")
    with io.BytesIO() as stream:
        try:
            picture.save(stream, "WEBP", lossless=True)
        except (OSError, KeyError):
            return False
        return Image.open(stream).convert("RGB").tobytes() == picture.tobytes()


def _file(name: str) -> str:
    return str(getattr(importlib.import_module(name), "__file__", None) or "nowhere/at all")
