"""Folders of the user's own patterns: what is in them, what is no image, and what pairs and previews make of them."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from degradations import load, names
from degradations.camera import darkening
from flows.__main__ import run
from flows.dataset import Dataset
from flows.settings import read_settings
from flows.source import check_source
from storage.errors import SettingsError, SourceError
from tasks.degrade import pattern, patterns_of
from tests.builds import build_here, settings_for, write_photographs
from tests.scenes import scene

PATTERNED = [name for name in names() if load(name).overlay == "pattern"]
STRIPES = np.repeat(np.arange(64, dtype=np.uint8)[None] // 8 % 2 * 200, 48, axis=0)


def write(file: Path, picture: np.ndarray) -> Path:
    assert cv2.imwrite(str(file), picture)
    return file


def test_four_degradations_take_patterns() -> None:
    assert PATTERNED == ["flare", "haze", "moire", "rain"]
    assert all("patterns" in load(name).options.model_fields for name in PATTERNED)


@pytest.mark.parametrize("files", [(), (".DS_Store", "licences.tsv")])
def test_a_folder_without_patterns_is_named(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        (tmp_path / name).write_text("path\tlicence\n")
    with pytest.raises(SettingsError, match=f"{tmp_path} holds no files"):
        patterns_of(str(tmp_path))


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "star.png").write_text("not a picture")
    with pytest.raises(SourceError, match=r"pattern star\.png") as caught:
        pattern("flare", str(tmp_path), 3)
    assert caught.value.reason == "not_an_image"


@pytest.mark.parametrize(
    "picture",
    [
        STRIPES,
        np.dstack([STRIPES] * 3),
        STRIPES.astype(np.uint16) * 257,
        np.dstack([STRIPES] * 3).astype(np.uint16) * 257,
    ],
    ids=["grey", "colour", "grey-16", "colour-16"],
)
def test_patterns_of_any_depth_are_read(tmp_path: Path, picture: np.ndarray) -> None:
    write(tmp_path / "a.png", picture)
    assert np.array_equal(pattern("rain", str(tmp_path), 0), np.dstack([STRIPES] * 3))


@pytest.mark.parametrize(("name", "ground"), [("flare", 0), ("haze", 0), ("rain", 0), ("moire", 178)])
def test_transparent_parts_lie_on_what_changes_least(tmp_path: Path, name: str, ground: int) -> None:
    white = np.full((*STRIPES.shape, 4), 255, np.uint8)
    white[..., 3] = np.where(STRIPES > 0, 255, 0)
    write(tmp_path / "a.png", white)
    assert np.array_equal(pattern(name, str(tmp_path), 0)[..., 1], np.where(STRIPES > 0, 255, ground))


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    return write(tmp_path / "photograph.png", np.asarray(scene("coffee", 128).image)[..., ::-1])


@pytest.mark.parametrize("name", PATTERNED)
def test_a_preview_mixes_in_a_pattern(tmp_path: Path, photograph: Path, name: str) -> None:
    folder = tmp_path / "patterns"
    folder.mkdir()
    write(folder / "stripes.png", STRIPES)
    seed, pictures = {"flare": 3, "moire": 1}.get(name, 0), []
    for given in ([], ["--option", f"patterns={folder}"]):
        output = tmp_path / f"{len(given)}.png"
        command = ["preview", name, str(photograph), "-o", str(output), "--severity", "0.8", "--seed", str(seed)]
        assert run([*command, *given]) == 0
        pictures.append(cv2.imread(str(output)))
    assert not np.array_equal(*pictures)


@pytest.mark.parametrize(("content", "told"), [(None, "holds no files"), ("words", "words.png: the first bytes")])
def test_a_preview_tells_what_is_wrong_with_the_folder(
    tmp_path: Path, photograph: Path, capsys: pytest.CaptureFixture[str], content: str | None, told: str
) -> None:
    folder = tmp_path / "patterns"
    folder.mkdir()
    if content:
        (folder / "words.png").write_text(content)
    given = ["--option", f"patterns={folder}", "-o", str(tmp_path / "a.png")]
    assert run(["preview", "haze", str(photograph), *given]) == 2
    assert told in capsys.readouterr().err


def test_one_broken_pattern_costs_the_pairs_that_would_have_used_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "patterns"
    folder.mkdir()
    for index in range(2):
        write(folder / f"{index}.png", np.roll(STRIPES, index))
    (folder / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    tables = {
        "mixture": {"variants": 4, "weights": {"rain": 1}},
        "degradations": {"rain": {"patterns": str(folder)}},
        "filters": {"resolution": {"min_side": 256}},
    }
    build_here(settings_for(write_photographs(tmp_path / "photographs", count=4), tmp_path / "d", **tables))
    rows = list(Dataset(tmp_path / "d").rows("pairs"))
    reasons = Counter(row["reason"] for row in rows)
    assert 0 < reasons["corrupt"] < 0.6 * len(rows)
    assert run(["verify", str(tmp_path / "d"), "--replay", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identical"] == 4


def test_a_preview_names_weights_that_are_none(
    tmp_path: Path, photograph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--option", f"model_weights={tmp_path / 'none.json'}", "-o", str(tmp_path / "a.png")]
    assert run(["preview", "low_light", str(photograph), *given]) == 2
    assert "none.json is no JSON file of weights" in capsys.readouterr().err


def test_a_build_finds_weights_beside_its_settings_and_makes_pairs_anew_when_they_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photographs(tmp_path / "photographs", count=2)
    weights = json.loads(darkening.WEIGHTS.read_text())
    lines = [
        "seed = 7",
        'output = "d"',
        "[source]",
        'folder = "photographs"',
        "[clean]",
        "min_side = 128",
        "[mixture]",
        "variants = 1",
        "weights = {low_light = 1}",
        "[degradations.low_light]",
        'mode = "model"',
        "noise = false",
        'model_weights = "own.json"',
        "[filters.resolution]",
        "min_side = 256",
    ]
    (tmp_path / "build.toml").write_text("\n".join(lines))
    settings = read_settings(tmp_path / "build.toml")
    with pytest.raises(SettingsError, match=r"degradations\.low_light\.model_weights: .*own\.json is no JSON file"):
        check_source(settings)
    curves = []
    for shift in (0, 1):
        weights["b3"] = [value - shift for value in weights["b3"]]
        (tmp_path / "own.json").write_text(json.dumps(weights))
        build_here(settings)
        recipes = [json.loads(row["recipe"]) for row in Dataset(tmp_path / "d").rows("pairs")]
        curves.append([recipe["steps"][0]["params"]["curve"] for recipe in recipes])
    assert len(curves[0]) == len(curves[1]) > 0
    assert curves[0] != curves[1]
