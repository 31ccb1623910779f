"""A build with the severity filter asks a server about survivors only, once; other thresholds cost no question."""

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("httpx", reason="httpx is not installed: install PairForge's `models` extra")

from filters._vlm import shown
from flows.dataset import Dataset
from storage.files import sha256_of
from tests.builds import SIDE, build_here, settings_for, write_photographs
from tests.vlm_server import graded, picture_in, prompt_in, said, serve

WEIGHTS = {"haze": 1, "noise": 1}
KEY = "canary-0d31"


def settings(folder, out, url, *, tables=None, **thresholds):
    table = {"url": url, "api_key_env": "SOME_KEY", "concurrency": 2, **thresholds}
    return settings_for(
        folder,
        out,
        mixture={"weights": WEIGHTS, "variants": 2},
        filters={"severity_vlm": table, "strength": {"measured": False}, **(tables or {})},
    )


def grader(folder):
    """Return replies that grade photographs of the folder 5, everything else 2, and fail to read the first haze."""
    import cv2

    clean = [shown(cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)) for file in sorted(folder.iterdir())]
    sulked = []

    def replies(number, body):
        picture = picture_in(body)
        if any(np.array_equal(picture, one) for one in clean):
            return graded(5)
        if "haze" in prompt_in(body) and not sulked:
            sulked.append(number)
            return said("It is hazy.")
        return graded(2)

    return replies


def fates(out):
    return Counter((row["status"], row["stage"], row["reason"]) for row in Dataset(out).rows("pairs"))


def rows_of(out, name):
    """Return the rows of pairs that the severity filter saw."""
    return [
        row
        for row in Dataset(out).rows("pairs")
        if row["name"] == name and f"severity_vlm.clean_{name}" in row["scores"]
    ]


def content(out):
    return {entry.name: sha256_of(out / entry.name) for entry in Dataset(out).manifest.shards}


def test_a_build_asks_about_survivors_and_judges_again_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    folder = write_photographs(tmp_path / "photographs", count=3)
    with serve(grader(folder)) as running:
        build_here(settings(folder, tmp_path / "a", running.url))
    found = fates(tmp_path / "a")
    asked = sum(count for (_, stage, _), count in found.items() if stage in ("", "severity_vlm"))
    assert found["dropped", "severity_vlm", "unreadable"] == 1
    assert found["kept", "", ""] >= 2
    assert len(running.bodies) == 2 * asked
    assert {picture_in(body).shape for body in running.bodies} == {(512, 512, 3)}
    assert SIDE < 512

    build_here(settings(folder, tmp_path / "a", running.url, visible=1))  # the server is gone
    again = fates(tmp_path / "a")
    assert (
        again["dropped", "severity_vlm", "invisible_haze"] + again["dropped", "severity_vlm", "invisible_noise"]
        == asked - 1
    )

    present = sorted(row["scores"]["presence.noise"] for row in rows_of(tmp_path / "a", "noise"))
    with serve(lambda number, body: graded(1)) as running:  # others survive the filter before: nobody is asked again
        fewer = {"presence": {"noise": (present[0] + present[1]) / 2, "noise_likeness": 1.0}}
        build_here(settings(folder, tmp_path / "a", running.url, tables=fewer))
    assert fates(tmp_path / "a")["dropped", "presence", "absent_noise"] == 1
    assert running.bodies == []

    written = b"".join(file.read_bytes() for file in (tmp_path / "a").rglob("*") if file.is_file())
    assert KEY.encode() not in written


def test_the_address_of_the_server_changes_no_byte(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    folder = write_photographs(tmp_path / "photographs", count=2)
    for out in ("a", "b"):
        with serve(lambda number, body: graded(5 - int("noise" in prompt_in(body)))) as running:
            build_here(settings(folder, tmp_path / out, running.url, difference=0))
    assert content(tmp_path / "a") == content(tmp_path / "b") != {}
    assert Dataset(tmp_path / "a").manifest == Dataset(tmp_path / "b").manifest
