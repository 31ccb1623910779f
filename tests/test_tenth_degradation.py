"""A tenth degradation is one new file: nothing else names it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

import degradations
from flows.__main__ import run
from tasks.mixture import Options
from tests.scenes import degraded, psnr, scene

ROOT = Path(__file__).parents[1]
OURS = ("flows", "tasks", "degradations", "filters", "storage", "training")

FADE = '''"""Fade: prints lose their dyes in the sun. I = L (1 - f) + f p, f grows with severity, p is the paper."""

from dataclasses import dataclass, replace

from degradations.pairs.contract import Degradation, Frame, Part, Stage
from degradations.numerics.random import uniform
from degradations.pairs.severity import path


@dataclass(frozen=True, slots=True, kw_only=True)
class Fade:
    """share: of the dyes that are gone, [0, 1). paper: linear light."""

    share: float
    paper: float


def sample(rng, severity, scene, options):
    """Draw the paper."""
    return Fade(share=path(severity, (0.02, 0.1, 0.2, 0.35, 0.5, 0.7)), paper=uniform(rng, 0.6, 0.9))


def bleach(frame, params, scene):
    """Return the print after years in the sun."""
    return replace(frame, degraded=frame.degraded * (1 - params.share) + params.share * params.paper)


DEGRADATION = Degradation(params=Fade, sample=sample, parts=(Part(Stage.SCREEN, bleach),))
'''

USE = """
import numpy as np
from degradations import names
from degradations.pairs.recipes import draw
from degradations.pairs.render import render, replay
from storage.canonical import decode, encode
from storage.records import Recipe, Scene
image = np.full((32, 48, 3), 90, np.uint8)
scene = Scene(key="s", image=image, depth=np.zeros((32, 48), np.float32))
recipe = draw("fade", 0.8, scene, seed=1)
both = draw("fade+noise", 0.8, scene, seed=1)
pair = render(scene, recipe)
assert "fade" in names()
assert int(pair.degraded.mean()) > 100
assert np.array_equal(replay(image, decode(Recipe, encode(recipe)), {}).degraded, pair.degraded)
assert np.array_equal(render(scene, draw("fade", 0.0, scene, seed=1)).degraded, image)
print(len(names()), [step.degradation for step in both.steps])
"""


def test_a_file_put_into_the_folder_is_a_degradation(tmp_path: Path) -> None:
    for package in ("degradations", "storage"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "degradations" / "fade.py").write_text(FADE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", USE], check=False, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert told.stderr == ""
    assert told.stdout == f"{len(degradations.names()) + 1} ['fade', 'noise']\n"


def test_snow_stands_in_one_file() -> None:
    """No other source file knows it, no registry lists it."""
    sources = [file for package in OURS for file in (ROOT / package).rglob("*") if file.suffix in {".py", ".toml"}]
    knowing = [file.relative_to(ROOT).as_posix() for file in sources if "snow" in file.read_text(encoding="utf-8")]
    assert knowing == ["degradations/snow.py"]


def test_snow_is_drawn_rendered_and_taken_into_a_mixture() -> None:
    target = scene("coffee", 128)
    weak, strong = (psnr(target.image, degraded("snow", severity, target)) for severity in (0.2, 1.0))
    assert strong < weak < 50
    assert Options(weights={"snow": 1.0}).shares() == {"snow": 1.0}


def test_snow_is_previewed_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photograph, picture = tmp_path / "photograph.png", tmp_path / "snowy.png"
    cv2.imwrite(str(photograph), scene("coffee", 128).image[..., ::-1])
    assert run(["preview", "snow", str(photograph), "-o", str(picture), "--severity", "0.7", "--seed", "3"]) == 0
    assert "snow.density" in capsys.readouterr().out
    assert cv2.imread(str(picture)).shape == scene("coffee", 128).image.shape
