"""`pairforge preview --grid` listens to the same options as a single preview."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from flows.__main__ import run
from storage.records import Image
from tests.scenes import scene


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("preview") / "photograph.png"
    cv2.imwrite(str(file), scene("coffee", 128).image[..., ::-1])
    return file


def grid_of(name: str, photograph: Path, *more: str) -> Image:
    picture = photograph.with_name("grid.png")
    assert run(["preview", "--grid", name, str(photograph), "-o", str(picture), *more]) == 0
    return np.asarray(cv2.imread(str(picture)), dtype=np.uint8)


def test_a_grid_takes_the_options_of_its_degradation(photograph: Path) -> None:
    plain, glass = (grid_of("rain", photograph, "--option", f"mode={mode}") for mode in ("streaks", "raindrop"))
    assert plain.shape == glass.shape
    assert not np.array_equal(plain, glass)


def test_a_grid_mirrors_the_second_photograph(photograph: Path) -> None:
    room = grid_of("reflection", photograph)
    other = grid_of("reflection", photograph, "--second", str(photograph))
    assert not np.array_equal(room, other)


def test_an_option_of_a_whole_grid_names_its_degradation(photograph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["preview", "--grid", str(photograph), "-o", str(photograph.with_name("x.png")), "--option"]
    assert run([*arguments, "mode=raindrop"]) == 2
    assert "rain.KEY=VALUE" in capsys.readouterr().err
    assert not photograph.with_name("x.png").exists()


@pytest.mark.parametrize("weights", ["[1, 0, 0]", "[0, 1, 0]"])
def test_an_option_may_be_a_list(weights: str, photograph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["preview", "noise", str(photograph), "-o", str(photograph.with_name("y.png")), "--json"]
    assert run([*arguments, "--option", f"weights={weights}"]) == 0
    params = json.loads(capsys.readouterr().out)["recipe"]["steps"][0]["params"]
    assert (params["shot"] > 0, params["grain"] > 0) == (weights == "[1, 0, 0]", weights == "[0, 1, 0]")


def test_a_grid_has_room_for_the_longest_name(photograph: Path) -> None:
    name = "low_light_noise_compression"
    width = grid_of(name, photograph).shape[1] - grid_of("haze", photograph).shape[1]
    assert width > 0
    assert (grid_of(name, photograph)[:, :6] == 255).all()


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_rendered(
    photograph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)
    assert run(["preview", "haze", str(photograph), "-o", str(photograph.with_name("z.png"))]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert f"the folder {photograph.parent} cannot be written" in sentence
