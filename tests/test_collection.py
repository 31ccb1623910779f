"""A collection: of photographs that really show a degradation those that do so severely are kept, without pairs."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("httpx", reason="httpx is not installed: install PairForge's `models` extra")

from filters._vlm import shown
from flows.__main__ import run
from flows.dataset import Dataset
from flows.job import finished
from flows.settings import parse_settings
from storage.errors import SettingsError
from tasks.evaluate import decode
from tasks.gallery import folder_gallery
from tests.builds import build_here, settings_for, tree, write_photographs
from tests.vlm_server import Answer, graded, picture_in, prompt_in, said, serve


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"), count=6)


def pixels_of(file):
    return cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)


class Moody:
    """Grades the photographs by their order in the folder, and misbehaves before it does."""

    def __init__(self, folder, grades):
        files = sorted(folder.iterdir())
        self.names = {shown(pixels_of(file)).tobytes(): file.name for file in files}
        self.answers = {file.name: answer for file, answer in zip(files, grades, strict=True)}
        self.asked = []

    def __call__(self, number, body):
        name = self.names[picture_in(body).tobytes()]
        self.asked.append(name)
        whole = graded(self.answers[name]) if isinstance(self.answers[name], int) else self.answers[name]
        tried = self.asked.count(name)
        moods = [
            Answer(status=429, headers={"Retry-After": "0"}),
            Answer(status=500),
            Answer(body=whole.body[: len(whole.body) // 2]),
            Answer(body=whole.body, promised=len(whole.body) + 9),
            Answer(body=whole.body, slow=0.05),
        ]
        return whole if tried > 1 else moods[len(set(self.asked)) % len(moods)]


def settings(folder, out, url="http://127.0.0.1:9/v1", **tables):
    filters = {"severity_vlm": {"url": url, "concurrency": 2}, **tables.pop("filters", {})}
    return settings_for(folder, out, source={"folder": str(folder), "shows": "haze"}, filters=filters, **tables)


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr("filters._vlm_server.Patience.delay", lambda self, tried, wanted: 0.0)


@pytest.fixture
def graded_build(photographs, tmp_path, patient):
    """A collection whose photographs were graded 1, 3, 4, 5, unreadable and 2, by a server that misbehaves."""
    moody = Moody(photographs, [1, 3, 4, 5, said("It is a hazy day."), 2])
    with serve(moody) as running:
        outcome, ran = build_here(settings(photographs, tmp_path / "hazy", running.url))
    return tmp_path / "hazy", outcome, ran, running


def fates(root):
    return {row["uri"]: (row["status"], row["stage"], row["reason"]) for row in Dataset(root).rows("images")}


def test_only_what_is_severe_enough_is_kept_whatever_the_server_does(graded_build, photographs):
    root, outcome, ran, running = graded_build
    found = [fates(root)[file.name] for file in sorted(photographs.iterdir())]
    mild, unreadable = ("dropped", "severity_vlm", "mild_haze"), ("dropped", "severity_vlm", "unreadable")
    assert [fate if fate[0] == "dropped" else "kept" for fate in found] == [
        "kept", "kept", mild, mild, unreadable, "kept",
    ]  # fmt: skip
    assert dict(outcome.images) == {"kept": 3, "mild_haze": 2, "unreadable": 1}
    assert not {"annotate", "degrade", "pack", "measure pairs"} & set(ran)
    assert len(running.bodies) > 6
    assert all("haze" in prompt_in(body) for body in running.bodies)


def test_kept_photographs_are_published_as_they_are_for_the_benchmark(graded_build, photographs):
    root = graded_build[0]
    gallery = folder_gallery(root / "photographs")
    assert set(gallery.tasks.values()) == {"haze"}
    kept = [name for name, fate in fates(root).items() if fate[0] == "kept"]
    originals = {pixels_of(photographs / name).tobytes() for name in kept}
    assert {decode(gallery.read(name), min_side=32).image.tobytes() for name in gallery.tasks} == originals
    entries = {entry.name for entry in Dataset(root).manifest.files}
    assert {f"photographs/{name}.webp" for name in gallery.tasks} <= entries


def test_another_threshold_asks_nobody_and_moves_only_what_it_concerns(graded_build, photographs):
    root = graded_build[0]
    before = tree(root)
    stricter = {"severity_vlm": {"url": "http://127.0.0.1:9/v1", "severe": 2}}
    build_here(settings(photographs, root, filters=stricter))
    assert len(list((root / "photographs/haze").iterdir())) == 2
    assert len(list((root / "versions/1/photographs/haze").iterdir())) == 3
    build_here(settings(photographs, root))
    now = tree(root)
    assert {name: now[name] for name in before} == before


def test_a_finished_collection_is_left_alone_and_can_be_looked_at(graded_build, photographs, capsys):
    root = graded_build[0]
    assert finished(settings(photographs, root))
    assert run(["inspect", str(root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pairs"], told["images"], told["shows"]) == (0, {"dropped": 3, "kept": 3}, "haze")
    dropped = next(name for name, fate in fates(root).items() if fate[2] == "mild_haze")
    assert run(["explain", str(root), dropped]) == 0
    assert "mild_haze" in capsys.readouterr().out
    assert run(["verify", str(root)]) == 0
    card = (root / "README.md").read_text()
    assert "3 photographs that really show haze" in card
    assert "There are no pairs" in card
    assert "mild haze" in (root / "report.html").read_text()


def test_a_blurred_photograph_may_be_collected_unless_it_is_asked_to_be_good(photographs, tmp_path):
    assert not settings(photographs, tmp_path / "d").filters.clean_quality
    assert settings(photographs, tmp_path / "d", filters={"clean_quality": {}}).filters.clean_quality


def test_filters_look_for_what_the_photographs_show(photographs, tmp_path):
    chosen = settings(photographs, tmp_path / "d", filters={"clip": {"weights": "clip"}}).filters
    assert (chosen.severity_vlm.asked, chosen.clip.wanted) == ("haze", "haze")
    assert chosen.severity_vlm.looks_at == "image"


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"source": {"folder": "f", "shows": "fog"}}, r"source\.shows.*no degradation is called 'fog'"),
        (
            {"source": {"folder": "f"}, "filters": {"severity_vlm": {"url": "http://a/v1", "asked": "haze"}}},
            r'severity_vlm\.asked grades photographs that really show haze; set source\.shows = "haze"',
        ),
        (
            {"source": {"folder": "f", "shows": "rain"}, "filters": {"severity_vlm": {"asked": "haze"}}},
            r'set source\.shows = "haze"',
        ),
    ],
)
def test_contradictions_are_told_in_one_sentence(tmp_path, tables, said):
    with pytest.raises(SettingsError, match=said):
        parse_settings({"seed": 1, "output": "o", **tables}, origin="build.toml", base=tmp_path)


def test_without_a_model_everything_that_can_be_decoded_is_collected(photographs, tmp_path):
    plain = settings_for(photographs, tmp_path / "all", source={"folder": str(photographs), "shows": "noise"})
    outcome, _ = build_here(plain)
    assert dict(outcome.images) == {"kept": 6}
    assert len(list((tmp_path / "all/photographs/noise").iterdir())) == 6


def test_a_plan_of_a_collection_counts_photographs_and_no_pairs(photographs, tmp_path, capsys, patient):
    file = tmp_path / "build.toml"
    with serve(lambda number, body: graded(1 + number % 5)) as running:
        file.write_text(
            f'seed = 1\noutput = "d"\n[source]\nfolder = "{photographs}"\nshows = "haze"\n[clean]\nmin_side = 256\n'
            f'[filters.severity_vlm]\nurl = "{running.url}"\nanswers = "answers"\n'
        )
        assert run(["plan", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["files"], told["pairs"]["high"], told["by_degradation"]) == (6, 0, {})
    assert 0 < told["images"]["value"] < 6
    assert told["bytes"]["value"] > 1000
    assert np.isfinite(told["hours"]["value"])
