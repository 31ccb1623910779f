"""The server transport: what is sent is what was asked, and a server may misbehave in every way without harm."""

import logging
import threading
import time
from email.utils import formatdate

import numpy as np
import pytest

pytest.importorskip("httpx", reason="httpx is not installed: install PairForge's `models` extra")

from filters._rubric import UNREADABLE, grade
from filters._vlm import AREA, Vlm, open_vlm, shown
from filters._vlm_questions import Question
from filters._vlm_server import MAX_BYTES, Patience, Server, _retry_after
from storage.errors import SettingsError, TransientError
from tests.vlm_server import Answer, graded, picture_in, said, serve

HASTE = Patience(tries=3, first=0.001, longest=0.02)
KEY = "canary-5f1d0c"


def question(level=0, prompt="what?"):
    return Question(images=(np.full((4, 6, 3), level, np.uint8),), prompt=prompt)


def server(running, *, key="", patience=HASTE, **options):
    return Server(url=running.url, model="m", key=key, patience=patience, **options)


def ask(replies, questions=None, **options):
    """Return what a server that replies so is understood to say, and the server."""
    with serve(replies) as running:
        return server(running, **options)(questions or [question()]), running


def first_then(bad, good=None):
    return lambda number, body: bad if number == 0 else good or graded(4)


def test_a_request_is_greedy_short_and_seeded():
    _, running = ask(lambda number, body: graded(4))
    body = running.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"], body["stream"]) == ("m", 0, 32, False)
    assert isinstance(body["seed"], int)
    assert running.paths == ["/v1/chat/completions"]


def test_the_picture_arrives_to_the_last_bit_with_its_prompt():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    _, running = ask(lambda number, body: graded(4), [Question(images=(image,), prompt="mist?\n\u96fe")])
    np.testing.assert_array_equal(picture_in(running.bodies[0]), image)
    assert running.bodies[0]["messages"][1]["content"][-1] == {"type": "text", "text": "mist?\n\u96fe"}


def test_answers_come_in_the_order_of_the_questions():
    def replies(number, body):
        level = int(picture_in(body)[0, 0, 0])
        return Answer(body=said(str(level)).body, slow=0.01 * (9 - level))

    answers, _ = ask(replies, [question(level) for level in range(10)], concurrency=10)
    assert answers == [str(level) for level in range(10)]


def test_no_more_questions_are_under_way_than_allowed():
    slow = Answer(body=graded(3).body, slow=0.01)
    _, running = ask(lambda number, body: slow, [question(level) for level in range(12)], concurrency=3)
    assert running.busiest <= 3
    assert len(running.bodies) == 12


@pytest.mark.parametrize(
    "bad",
    [
        Answer(status=429, body=b"slow down", headers={"Retry-After": "0"}),
        Answer(status=429),
        Answer(status=500, body=b"out of memory"),
        Answer(status=503, headers={"Retry-After": "soon"}),
        Answer(status=408),
        Answer(body=graded(2).body[:-9]),
        Answer(body=graded(2).body, promised=900),
        Answer(body=b"", promised=0),
        Answer(body=b'{"choices": []}'),
        Answer(body=b"<html>502 Bad Gateway</html>"),
        Answer(body=b"[" * 100_000),
        Answer(body=b'{"error": "overloaded"}'),
        Answer(body=b" " * (MAX_BYTES + 1)),
        Answer(body=graded(2).body, slow=1.5),
    ],
    ids=lambda bad: f"{bad.status}-{bad.body[:12]!r}-{bad.promised}-{bad.slow}",
)
def test_a_try_that_fails_is_made_again(bad):
    answers, running = ask(first_then(bad), timeout=1 if bad.slow else 10)
    assert (answers, len(running.bodies)) == (["Degradation Score: 4"], 2)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Answer(status=503), "answered 503"),
        (Answer(status=429), "answered 429"),
        (Answer(body=b"{}"), "no whole chat completion"),
        (Answer(body=b"x" * (MAX_BYTES + 1)), "more than"),
        (Answer(slow=0.4), "did not answer within 0.1 s"),
    ],
)
def test_a_server_that_stays_down_is_a_transient_error(bad, why):
    with pytest.raises(TransientError, match=why), serve(lambda number, body: bad) as running:
        server(running, timeout=0.1 if bad.slow else 10)([question()])
    assert len(running.bodies) == HASTE.tries


def test_a_server_that_is_not_there_is_a_transient_error():
    with serve(lambda number, body: graded(1)) as running:
        gone = server(running)
    with pytest.raises(TransientError, match="cannot be reached"):
        gone([question()])


@pytest.mark.parametrize(
    ("tried", "wanted", "seconds"), [(1, None, 1), (3, None, 4), (1, 7.0, 7), (3, 2.0, 4), (1, 1e9, 60)]
)
def test_delays_double_heed_the_server_and_end(tried, wanted, seconds):
    assert Patience().delay(tried, wanted) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3.0), ("0", 0.0), ("", None), ("soon", None), ("-4", None), ("\u0663", None)]
)
def test_retry_after_is_read_as_seconds(value, seconds):
    assert _retry_after({"Retry-After": value}) == seconds


def test_retry_after_is_read_as_a_date():
    assert _retry_after({"Retry-After": formatdate(time.time() + 30, usegmt=True)}) == pytest.approx(30, abs=2)
    assert _retry_after({"Retry-After": formatdate(0, usegmt=True)}) == 0


def test_the_server_is_asked_again_no_sooner_than_it_says():
    began = time.monotonic()
    ask(first_then(Answer(status=429, headers={"Retry-After": "1"})), patience=Patience(tries=2, first=0, longest=0.2))
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_the_key_stays(status):
    with serve(lambda number, body: graded(1)) as other:
        away = Answer(status=status, headers={"Location": f"{other.url}/chat/completions"})
        with (
            pytest.raises(SettingsError, match=r"sends us on to 127\.0\.0\.1"),
            serve(lambda number, body: away) as running,
        ):
            server(running, key=KEY)([question()])
    assert other.bodies == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_told_with_the_servers_words_but_never_the_key(status):
    refusal = Answer(status=status, body=f"no such model for {KEY}\n".encode() * 50)
    with pytest.raises(SettingsError) as raised, serve(lambda number, body: refusal) as running:
        server(running, key=KEY)([question()])
    assert f"refused the question with {status}: no such model for ***" in str(raised.value)
    assert KEY not in str(raised.value)
    assert len(running.bodies) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_picture_that_a_server_refuses_has_an_empty_answer(status, tmp_path):
    def replies(number, body):
        return Answer(status=status, body=b"too wide") if picture_in(body)[0, 0, 0] == 1 else graded(3)

    with serve(replies) as running:
        asker = open_vlm(Vlm(url=running.url, answers=str(tmp_path)))
        answers = asker([question(level) for level in range(3)])
        assert asker([question(1)]) == [""]
    assert answers == ["Degradation Score: 3", "", "Degradation Score: 3"]
    assert len(running.bodies) == 3


@pytest.mark.parametrize(
    "answer", [said(None), said(""), graded(6), said("Degradation Score: 0"), said("I cannot see it.")]
)
def test_a_wrong_grade_or_none_is_an_answer_nobody_can_read(answer):
    answers, running = ask(lambda number, body: answer)
    assert grade(answers[0]) == UNREADABLE
    assert len(running.bodies) == 1


def test_the_key_is_taken_from_the_variable_and_stands_nowhere_else(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("SOME_KEY", f" {KEY}\n")
    caplog.set_level(logging.DEBUG)
    with serve(lambda number, body: graded(1)) as running:
        vlm = Vlm(url=running.url, api_key_env="SOME_KEY", answers=str(tmp_path))
        open_vlm(vlm)([question()])
    assert running.headers[0]["Authorization"] == f"Bearer {KEY}"
    everything = [
        vlm.model_dump_json(),
        repr(vlm),
        caplog.text,
        *(file.read_text() for file in tmp_path.rglob("*.json")),
    ]
    assert not any(KEY in text for text in everything)


def test_no_key_is_sent_where_none_is_named():
    _, running = ask(lambda number, body: graded(1))
    assert "Authorization" not in running.headers[0]


@pytest.mark.parametrize("key", ["", "two\nlines", "schl\u00fcssel"])
def test_a_variable_without_a_key_ends_in_one_sentence(key, monkeypatch):
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(SettingsError, match="SOME_KEY"):
        open_vlm(Vlm(url="http://127.0.0.1:1/v1", api_key_env="SOME_KEY"))


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "ftp://a/v1",
        "http://",
        "http://[::1",
        "http://me:pw@a/v1",
        "http://a/v1?key=x",
        "http://a:0/v1",
    ],
)
def test_a_url_that_is_no_plain_server_ends_in_one_sentence(url):
    with pytest.raises(SettingsError, match=r"^url must"):
        open_vlm(Vlm(url=url))


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert ask(lambda number, body: graded(5))[0] == ["Degradation Score: 5"]


def test_neither_server_nor_weights_is_wrong_use():
    with pytest.raises(SettingsError, match="set url"):
        open_vlm(Vlm())


def test_it_runs_beside_other_threads():
    answers = []
    with serve(lambda number, body: graded(2)) as running:
        threads = [threading.Thread(target=lambda: answers.extend(server(running)([question()]))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["Degradation Score: 2"] * 4


def test_a_question_is_asked_once_in_the_life_of_the_folder(tmp_path):
    with serve(lambda number, body: graded(1 + number)) as running:
        vlm = Vlm(url=running.url, answers=str(tmp_path))
        asked = [question(1), question(2), question(1)]
        answers = open_vlm(vlm)(asked)
        assert open_vlm(vlm)(asked) == answers
    assert answers[0] == answers[2] != answers[1]
    assert len(running.bodies) == 2


@pytest.mark.parametrize(
    ("vlm", "other"),
    [
        ({}, question(2)),
        ({}, question(1, "else?")),
        ({"model": "other"}, question(1)),
    ],
)
def test_another_picture_prompt_or_model_is_another_question(vlm, other, tmp_path):
    with serve(lambda number, body: graded(1)) as running:
        open_vlm(Vlm(url=running.url, answers=str(tmp_path)))([question(1)])
        open_vlm(Vlm(url=running.url, answers=str(tmp_path), **vlm))([other])
    assert len(running.bodies) == 2


def test_what_was_answered_before_the_server_died_is_not_asked_again(tmp_path):
    def replies(number, body):
        return graded(1) if number < 3 else Answer(status=401)

    questions = [question(level) for level in range(5)]
    with serve(replies) as running, pytest.raises(SettingsError):
        open_vlm(Vlm(url=running.url, answers=str(tmp_path), concurrency=1))(questions)
    with serve(lambda number, body: graded(2)) as again:
        answers = open_vlm(Vlm(url=again.url, answers=str(tmp_path), concurrency=1))(questions)
    assert [grade(answer) for answer in answers] == [1, 1, 1, 2, 2]
    assert len(again.bodies) == 2


def test_a_damaged_answer_is_asked_for_again(tmp_path):
    with serve(lambda number, body: graded(3)) as running:
        asker = open_vlm(Vlm(url=running.url, answers=str(tmp_path)))
        asker([question()])
        (file,) = tmp_path.rglob("*.json")
        file.write_bytes(file.read_bytes()[:5])
        assert asker([question()]) == ["Degradation Score: 3"]
    assert len(running.bodies) == 2


@pytest.mark.parametrize("shape", [(480, 640), (2000, 3000), (64, 64), (10, 1000)])
def test_pictures_are_shown_at_one_area_with_their_aspect(shape):
    height, width = shown(np.zeros((*shape, 3), np.uint8)).shape[:2]
    assert 0.97 * AREA < height * width <= AREA
    assert width / height == pytest.approx(shape[1] / shape[0], rel=0.05)
