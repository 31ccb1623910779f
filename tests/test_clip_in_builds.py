"""CLIP in a build: embeddings are stored once, join groups of near copies, and portraits stand behind glass."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("open_clip")
pytest.importorskip("usearch")

from flows.dataset import Dataset
from flows.rejudge import planned_alike
from flows.settings import parse_settings
from storage.errors import SettingsError
from storage.ledger import read_table
from tasks.mixture import Options, plan_bucket, suits
from tests import tiny_clip
from tests.builds import build_here, settings_for, write_photographs


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"), count=3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(tiny_clip.save(tmp_path_factory.mktemp("clip") / "tiny"))


def images(photographs, root, **filters):
    tables = {"strength": {"measured": False}, "clean_quality": False, **filters}
    build_here(settings_for(photographs, root, filters=tables, mixture={"variants": 1, "weights": {"noise": 1}}))
    return {row["key"]: row for row in Dataset(root).rows("images")}


def test_embeddings_are_stored_beside_the_scores_and_join_groups(photographs, weights, tmp_path):
    clip = {"weights": weights, "min_photograph": 0}
    rows = images(photographs, tmp_path / "alone", clip=clip)
    (table,) = (tmp_path / "alone/.work/measure").glob("*-images-models-*.parquet")
    stored = {row["key"]: np.frombuffer(row["embedding"], "<f2").astype(float) for row in read_table(table)}
    assert stored.keys() == rows.keys()
    assert [np.linalg.norm(one) for one in stored.values()] == pytest.approx([1, 1, 1], abs=1e-2)
    assert {row["reason"] for row in rows.values()} == {""}
    unit = np.stack([one / np.linalg.norm(one) for one in stored.values()])
    *_, second, closest = np.sort((unit @ unit.T)[np.tril_indices(3, -1)])
    between = {"similarity": (second + closest) / 2}
    joined = images(photographs, tmp_path / "joined", clip=clip, duplicate=between)
    assert sorted(row["reason"] for row in joined.values()) == ["", "", "near_duplicate"]


def test_a_similarity_without_clip_is_refused(tmp_path):
    tables = {"seed": 1, "output": "d", "source": {"folder": "f"}, "filters": {"duplicate": {"similarity": 0.97}}}
    with pytest.raises(SettingsError, match=r"add \[filters.clip\]"):
        parse_settings(tables, origin="build.toml", base=tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "differs"),
    [
        ({}, {}, ""),
        ({}, {"overlay": {}}, "filters.overlay"),
        ({"overlay": {}}, {"overlay": {"max_repetition": 9}}, ""),
        ({"overlay": {}}, {}, ""),
        ({"clip": {"weights": "a"}}, {"clip": {"weights": "b"}}, "filters.clip.weights"),
        ({"clip": {"weights": "a"}}, {"clip": {"weights": "a", "wanted": "haze"}}, ""),
        ({"clean_quality": False}, {}, "filters.clean_quality"),
        ({"clip": {}}, {"clip": {}, "duplicate": {"similarity": 0.9}}, "filters.duplicate.similarity"),
    ],
)
def test_a_dataset_is_judged_again_only_by_what_was_measured(tmp_path, before, after, differs):
    def settings(filters):
        tables = {"seed": 1, "output": "d", "source": {"folder": "f"}, "filters": filters}
        return parse_settings(tables, origin="build.toml", base=tmp_path)

    assert planned_alike(json.loads(json.dumps(settings(before).published())), settings(after)) == differs


def test_portraits_come_behind_the_glass_of_reflections_first():
    def scene(number, portrait):
        return {"key": f"{number:024x}", "keep": True, "split": "train", "group": str(number)} | {
            "scores": {"clip.portrait": portrait}
        }

    scenes = [scene(number, float(number % 2)) for number in range(40)]
    planned = plan_bucket(scenes, Options(variants=1, weights={"reflection": 1, "noise": 1}), seed=3)
    chosen = [int(row["source_key"], 16) % 2 for row in planned if row["name"] == "reflection"]
    assert len(chosen) == 20
    assert np.mean(chosen) > 0.8


def test_what_clip_has_not_seen_suits_a_reflection_as_before():
    assert suits("reflection", {}) == pytest.approx(0.5)
