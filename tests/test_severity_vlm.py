"""The severity filter: the rubric is asked as published, answers are read strictly, grades judged by the recipe."""

import json
import re

import numpy as np
import pytest

from filters import load
from filters._contract import Sample
from filters._rubric import UNREADABLE, grade, prompt
from filters._vlm import Vlm
from flows.settings import parse_settings
from storage.errors import TransientError
from storage.records import Recipe, Step
from tests.vlm_server import Answer, graded, picture_in, prompt_in, said, serve

NINE = ("blur", "compression", "flare", "haze", "low_light", "moire", "noise", "rain", "reflection")
BRIGHT, DARK = (np.full((32, 32, 3), value, np.uint8) for value in (200, 40))


def recipe(*names, level=3):
    steps = tuple(Step(degradation=name, params={}, inputs={}) for name in names)
    return Recipe(name="+".join(names), severity=0.2 * level - 0.1, steps=steps, digest="")


def reason(scores, asked_of=None, **options):
    return load("severity_vlm")(**options).judge(scores, asked_of).reason


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("Degradation Score: 4", 4),
        ("  degradation score:1\n", 1),
        ("Degradation Score: 5.", 5),
        ("\u9000\u5316\u5206\u6570\uff1a3", 3),
        ("\u9000\u5316\u5206\u6570: 2\u3002", 2),
    ],
)
def test_the_answer_line_is_read_in_english_and_chinese(answer, number):
    assert grade(answer) == number


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "4",
        "Score: 4",
        "Degradation Score: 0",
        "Degradation Score: 6",
        "Degradation Score: 3.5",
        "Degradation Score: 45",
        "Degradation Score: n",
        "Degradation Score: \u0664",
        "Degradation Score: four",
        "Degradation Score: 4/5",
        "I think the Degradation Score: 4",
        "Degradation Score: 4\nDegradation Score: 2",
        "Degradation Score: 2, because the rain is heavy",
        "**Degradation Score: 2**",
        "\u9000\u5316\u5206\u6570 4",
    ],
)
def test_any_other_answer_is_unreadable(answer):
    assert grade(answer) == UNREADABLE


@pytest.mark.parametrize("name", NINE)
def test_the_rubric_is_asked_whole_and_for_one_degradation_only(name):
    text = prompt(name)
    assert name.split("_")[0] in text
    assert all(part in text for part in ("3 x 3", "only", "20 %", "20 to 50 %", "50 to 80 %", "80 %", "worst"))
    others = {other.split("_")[0] for other in NINE} - {name.split("_")[0]}
    assert others & set(re.findall(r"\w+", text.split("\n")[0])) == set()


def test_both_sides_are_graded_for_every_degradation_of_the_recipe():
    def replies(number, body):
        side = 1 if picture_in(body).mean() < 100 else 4
        return graded(side + ("haze" in prompt_in(body)))

    samples = [
        Sample(key="a", clean=BRIGHT, degraded=DARK, recipe=recipe("rain", "haze")),
        Sample(key="b", clean=BRIGHT, degraded=DARK, recipe=recipe("noise")),
    ]
    with serve(replies) as running:
        scores = load("severity_vlm")(url=running.url).open("cpu")(samples)
    assert scores == [
        {"degraded_rain": 1, "clean_rain": 4, "degraded_haze": 2, "clean_haze": 5},
        {"degraded_noise": 1, "clean_noise": 4},
    ]


@pytest.mark.parametrize("answer", [said("It is hazy."), said(None), graded(7), said("Degradation Score:")])
def test_an_unreadable_answer_is_a_verdict(answer):
    sample = Sample(key="a", clean=BRIGHT, degraded=DARK, recipe=recipe("haze"))
    with serve(lambda number, body: answer) as running:
        wanted = load("severity_vlm")(url=running.url)
        (scores,) = wanted.open("cpu")([sample])
    found = wanted.judge(scores, sample.recipe)
    assert (found.keep, found.reason, found.scores["degraded_haze"]) == (False, "unreadable", 0)


def test_one_unreadable_side_is_enough():
    assert reason({"degraded_haze": 3.0, "clean_haze": 0.0}, recipe("haze")) == "unreadable"


def test_a_transport_that_stays_down_is_an_error_not_a_verdict(monkeypatch):
    monkeypatch.setattr("filters._vlm_server.Patience.delay", lambda self, tried, wanted: 0)
    sample = Sample(key="a", clean=BRIGHT, degraded=DARK, recipe=recipe("haze"))
    with serve(lambda number, body: Answer(status=502)) as running, pytest.raises(TransientError):
        load("severity_vlm")(url=running.url).open("cpu")([sample])


@pytest.mark.parametrize(("degraded", "dropped"), [(1, ""), (4, ""), (5, "invisible_haze")])
def test_the_asked_degradation_must_be_seen(degraded, dropped):
    assert reason({"degraded_haze": degraded, "clean_haze": 5}, recipe("haze")) == dropped


def test_every_degradation_of_a_coupled_recipe_must_be_seen():
    scores = {"degraded_rain": 2, "clean_rain": 5, "degraded_haze": 5, "clean_haze": 5}
    assert reason(scores, recipe("rain", "haze")) == "invisible_haze"


@pytest.mark.parametrize("name", ["flare", "moire", "rain", "reflection"])
@pytest.mark.parametrize(("level", "expected"), [(1, 4), (2, 4), (3, 3), (4, 2), (5, 1)])
@pytest.mark.parametrize("tolerance", [0, 1])
def test_the_grade_of_a_local_degradation_agrees_with_its_level(name, level, expected, tolerance):
    for found in range(1, 5):
        scores = {f"degraded_{name}": found, f"clean_{name}": 5}
        off = abs(found - expected) > tolerance
        assert reason(scores, recipe(name, level=level), tolerance=tolerance) == ("off_level" if off else "")


@pytest.mark.parametrize("name", ["haze", "noise", "low_light", "compression", "blur"])
def test_a_global_degradation_is_not_held_to_its_level(name):
    assert reason({f"degraded_{name}": 1, f"clean_{name}": 5}, recipe(name, level=1), tolerance=0) == ""


@pytest.mark.parametrize(("clean", "dropped"), [(5, ""), (4, ""), (3, "clean_shows_haze"), (1, "clean_shows_haze")])
def test_the_clean_side_must_be_graded_clean(clean, dropped):
    assert reason({"degraded_haze": 1, "clean_haze": clean}, recipe("haze")) == dropped


def test_the_sides_must_differ_in_grade():
    assert reason({"degraded_haze": 4, "clean_haze": 4}, recipe("haze")) == "close_grades"
    assert reason({"degraded_haze": 4, "clean_haze": 4}, recipe("haze"), difference=0) == ""


@pytest.mark.parametrize(
    ("degraded", "dropped"), [(1, ""), (3, ""), (4, "mild_rain"), (5, "mild_rain"), (0, "unreadable")]
)
def test_a_real_image_must_be_degraded_enough(degraded, dropped):
    assert reason({"degraded_rain": degraded}, asked="rain") == dropped


def test_a_real_image_without_a_clean_side_is_itself_graded():
    with serve(lambda number, body: graded(2)) as running:
        measure = load("severity_vlm")(url=running.url, asked="rain").open("cpu")
        assert measure([Sample(key="a", clean=DARK)]) == [{"degraded_rain": 2}]
    assert len(running.bodies) == 1


def test_nothing_is_asked_of_real_images_unless_a_degradation_is_named():
    with serve(lambda number, body: graded(2)) as running:
        assert load("severity_vlm")(url=running.url).open("cpu")([Sample(key="a", clean=DARK, degraded=DARK)]) == [{}]
    assert reason({}) == ""
    assert running.bodies == []


def test_how_the_model_is_reached_decides_no_score():
    dumped = load("severity_vlm")(url="http://a/v1", api_key_env="KEY", answers="x", concurrency=3).measuring()
    assert dumped.url == "http://a/v1"
    assert dumped.model_dump() == load("severity_vlm")().measuring().model_dump()
    assert load("severity_vlm")(model="other").measuring().model_dump() != dumped.model_dump()


def test_a_threshold_does_not_change_what_is_measured():
    strict = load("severity_vlm")(visible=2, tolerance=0, clean=5, severe=1)
    assert strict.measuring() == load("severity_vlm")().measuring()


def test_every_option_of_the_model_is_an_option_of_the_filter():
    assert set(Vlm.model_fields) <= load("severity_vlm").measures_with


def test_the_filter_is_off_unless_the_settings_have_its_table():
    assert load("severity_vlm").needs_weights
    assert load("severity_vlm").on_survivors


def test_settings_keep_the_servers_address_for_the_run_and_out_of_what_is_published(tmp_path):
    table = {"url": "http://10.1.2.3/v1", "api_key_env": "SECRET_NAME", "answers": "answers"}
    least = {"seed": 1, "output": "dataset", "source": {"folder": "p"}, "filters": {"severity_vlm": table}}
    settings = parse_settings(least, origin="test", base=tmp_path)
    assert "10.1.2.3" not in json.dumps(settings.published())
    again = parse_settings(json.loads(json.dumps(settings.resolved())), origin="test", base=tmp_path / "elsewhere")
    assert again.filters_of("pair")["severity_vlm"] == settings.filters_of("pair")["severity_vlm"]
    assert again.filters_of("pair")["severity_vlm"].answers == str(tmp_path / "answers")
    assert again.digest() == settings.digest()


def test_a_build_keeps_answers_in_its_work_folder_unless_told_otherwise(tmp_path):
    tables = {"severity_vlm": {"url": "http://a/v1"}, "watermark": {"weights": "w", "second": {"url": "http://b/v1"}}}
    least = {"seed": 1, "output": "dataset", "source": {"folder": "p"}, "filters": tables}
    settings = parse_settings(least, origin="test", base=tmp_path)
    folder = str(tmp_path / "dataset/.work/answers")
    assert settings.filters.severity_vlm.answers == settings.filters.watermark.second.answers == folder
    again = parse_settings(json.loads(json.dumps(settings.resolved())), origin="test", base=tmp_path)
    assert again.filters == settings.filters
    assert again.filters.watermark.second.url == "http://b/v1"
