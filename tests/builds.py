"""Small builds for tests: bundled photographs cut small, settings, and the job run in this process."""

import threading
from collections import Counter
from pathlib import Path

import cv2
import skimage.data

from flows.commands.build import folder_settings
from flows.job import run_job
from flows.observers import Board
from storage.files import sha256_of
from tasks.units import InProcess

SIDE = 256
SMALL = {
    "clean": {"min_side": SIDE},
    "filters": {"strength": {"measured": False}},  # its bands are of larger images
    "run": {"workers": 2},
}


def write_photographs(folder, count=8):
    """Write up to 8 different crops of the photographs that ship with scikit-image."""
    folder.mkdir(parents=True, exist_ok=True)
    places = [
        ("astronaut", 0, 0),
        ("astronaut", 0, 256),
        ("astronaut", 256, 0),
        ("coffee", 40, 0),
        ("coffee", 140, 300),
    ]
    places += [("chelsea", 20, 100), ("rocket", 10, 300), ("rocket", 150, 100)]
    for name, row, column in places[:count]:
        crop = getattr(skimage.data, name)()[row : row + SIDE, column : column + SIDE]
        cv2.imwrite(str(folder / f"{name}-{row}-{column}.png"), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
    return folder


def settings_for(folder, out, **tables):
    """Return settings of a small build; `tables` are merged over those that make it small."""
    merged = {name: {**SMALL.get(name, {}), **tables.get(name, {})} for name in {*SMALL, *tables}}
    return folder_settings(Path(folder), Path(out), **merged)


def build_here(settings):
    """Build in this process; return the outcome and how many units of each stage were run."""
    ran, board = Counter(), Board()

    def run_units(stage, units):
        ran[stage] += len(units)
        with InProcess() as workers:
            workers.run(units, on_done=lambda report: board.unit_done(stage, report), stop=threading.Event())

    outcome = run_job(settings, run_units, board)
    return outcome, ran


def tree(root):
    """Return name -> sha256 of everything that is published and hashed: all but the report and the work files."""
    files = (path for path in sorted(Path(root).rglob("*")) if path.is_file())
    names = {path.relative_to(root).as_posix(): path for path in files}
    return {name: sha256_of(path) for name, path in names.items() if name != "report.html" and not name.startswith(".")}
