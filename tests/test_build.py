"""What a build promises, proved in one process; tests/test_build_stack.py proves it through Prefect and Ray."""

import json
import multiprocessing
import os
import shutil
import signal
from collections import Counter

import pytest

from flows.__main__ import run
from flows.dataset import Dataset
from flows.job import finished
from flows.summary import summarise
from storage.failpoints import NAMES
from storage.lease import Lease
from tests.builds import build_here, settings_for, tree, write_photographs

TWO_TYPES = {"mixture": {"variants": 2, "weights": {"haze": 1, "low_light": 1}}}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = write_photographs(tmp_path_factory.mktemp("photographs"))
    (folder / "notes.txt").write_text("not a photograph")
    (folder / "cut.png").write_bytes((folder / "coffee-40-0.png").read_bytes()[:5000])
    (folder / "copy.png").write_bytes((folder / "coffee-40-0.png").read_bytes())
    (folder / "<script>x=1.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def built(photographs, tmp_path_factory):
    root = tmp_path_factory.mktemp("built") / "dataset"
    settings = settings_for(photographs, root, mixture={"variants": 9, "validation": 0.2})
    outcome, _ = build_here(settings)
    return root, settings, outcome


@pytest.fixture
def copied(built, tmp_path):
    """The built dataset, to be changed."""
    root, settings, _ = built
    shutil.copytree(root, tmp_path / "dataset")
    return tmp_path / "dataset", settings.model_copy(update={"output": str(tmp_path / "dataset")})


@pytest.fixture
def small(photographs, tmp_path):
    return settings_for(photographs, tmp_path / "dataset", source={"folder": str(photographs), "limit": 6}, **TWO_TYPES)


def test_every_file_and_every_pair_is_in_the_ledger_and_the_funnel_adds_up(built, photographs):
    root, _, outcome = built
    images = {row["uri"]: row for row in Dataset(root).rows("images")}
    assert len(images) == sum(1 for _ in photographs.iterdir())
    assert all(bool(row["reason"]) == (row["status"] != "kept") for row in images.values())
    pairs = list(Dataset(root).rows("pairs"))
    kept_images = [row for row in images.values() if row["status"] == "kept"]
    assert len(pairs) == 9 * len(kept_images)
    assert sum(outcome.pairs.values()) == len(pairs)
    assert sum(outcome.images.values()) == len(images)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("notes.txt", "not_an_image"), ("cut.png", "truncated"), ("<script>x=1.jpg", "empty")],
)
def test_what_cannot_be_used_is_a_reject_with_its_reason(built, name, reason):
    (row,) = [row for row in Dataset(built[0]).rows("images") if row["uri"].startswith(name[:8])]
    assert row["reason"] == reason


def test_of_two_equal_files_one_is_kept(built):
    rows = [row for row in Dataset(built[0]).rows("images") if row["uri"] in ("copy.png", "coffee-40-0.png")]
    assert Counter(row["status"] for row in rows) == {"kept": 1, "dropped": 1}


def test_all_nine_types_and_both_splits_are_there(built):
    summary = summarise(built[0])
    assert len(summary.by_degradation) == 9
    assert set(summary.by_split) == {"train", "validation"}


def test_no_photograph_is_in_both_splits(built):
    splits = {}
    for row in Dataset(built[0]).rows("pairs"):
        splits.setdefault(row["source_key"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())


def test_published_pairs_replay_byte_for_byte_without_sources_or_work_files(built, tmp_path, capsys):
    root = tmp_path / "elsewhere"
    shutil.copytree(built[0], root, ignore=shutil.ignore_patterns(".work"))
    status = run(["verify", str(root), "--replay", "45", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert status == 0
    assert found["replayed"] == found["identical"] == 45
    assert set(found["replayed_by_degradation"].values()) == {5}
    assert found["hash_errors"] == 0
    assert found["same_code"]


def test_verify_says_when_other_code_made_what_it_cannot_make_again(copied, capsys):
    root, _ = copied
    manifest = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").unlink()
    (root / "manifest.json").write_text(json.dumps({**manifest, "code_version": "another"}))
    for annotations in (root / "annotations").glob("*.tar"):
        annotations.unlink()
    assert run(["verify", str(root), "--replay", "1"]) == 1
    assert "other code made this dataset" in capsys.readouterr().out


def test_verify_names_a_file_that_was_changed(copied, capsys):
    root, _ = copied
    shard = next((root / "shards").glob("train-*.tar"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.unlink()
    shard.write_bytes(data)
    assert run(["verify", str(root), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["hash_errors"] == 1


def test_a_pair_that_cannot_be_replayed_is_named_beside_the_files_that_are_not_whole(copied, capsys):
    root, _ = copied
    for annotations in (root / "annotations").glob("*.tar"):
        annotations.unlink()
    assert run(["verify", str(root), "--replay", "2", "--json"]) == 1
    *files, first, second = json.loads(capsys.readouterr().out)["problems"]
    assert all(problem.endswith("is missing") for problem in files)
    assert "cannot be replayed" in first
    assert "cannot be replayed" in second


def test_a_finished_build_is_recognised_and_changes_nothing(built):
    root, settings, _ = built
    assert finished(settings) is not None
    before = tree(root)
    outcome, ran = build_here(settings)
    assert not ran
    assert outcome.unchanged
    assert tree(root) == before


def test_another_haze_option_redoes_haze_only(copied):
    _, settings = copied
    haze = settings.degradations.haze.model_copy(update={"kind": "fog"})
    table = settings.degradations.model_copy(update={"haze": haze})
    _, ran = build_here(settings.model_copy(update={"degradations": table}))
    assert ran["degrade"] == ran["measure pairs"] == 1
    assert not ran["clean"] + ran["annotate"]


def test_a_lost_work_folder_is_built_again_to_the_same_bytes(copied):
    root, settings = copied
    before = tree(root)
    shutil.rmtree(root / ".work")
    build_here(settings)
    assert tree(root) == before


def test_a_new_photograph_redoes_its_bucket_only_and_makes_a_version_beside_the_old(photographs, tmp_path):
    folder = tmp_path / "folder"
    write_photographs(folder, count=7)
    settings = settings_for(folder, tmp_path / "dataset", dataset={"images_per_bucket": 2}, **TWO_TYPES)
    build_here(settings)
    first = tree(tmp_path / "dataset")
    write_photographs(folder, count=8)
    outcome, ran = build_here(settings)
    assert ran["clean"] == ran["annotate"] == 1
    assert ran["degrade"] <= 2
    assert outcome.manifest.dataset_version == 2
    assert tree(tmp_path / "dataset" / "versions" / "1") == first


def test_a_tighter_and_then_the_old_threshold_give_the_first_dataset_again(copied, tmp_path, photographs):
    root, _ = copied
    before = tree(root)
    old, tight = tmp_path / "old.toml", tmp_path / "tight.toml"
    text = _toml(photographs, root)
    old.write_text(text)
    tight.write_text(text + "psnr = [18.0, 45.0]\n")
    shutil.rmtree(root / ".work")  # the ledger and the shards are enough
    assert run(["judge", str(root), str(tight)]) == 0
    assert 0 < summarise(root).pairs < before_pairs(root)
    assert run(["judge", str(root), str(old)]) == 0
    after = {name: sha256 for name, sha256 in tree(root).items() if not name.startswith("versions/")}
    assert after == before


def before_pairs(root):
    return summarise(root / "versions" / "1").pairs


def test_what_if_writes_nothing(copied, tmp_path, photographs, capsys):
    root, _ = copied
    before = tree(root)
    tight = tmp_path / "tight.toml"
    tight.write_text(_toml(photographs, root) + "psnr = [18.0, 45.0]\n")
    assert run(["judge", str(root), str(tight), "--what-if", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["removed"] > 0
    assert found["pairs"]["after"] == found["pairs"]["before"] - found["removed"] + found["added"]
    assert tree(root) == before


def _toml(photographs, root):
    return f"""
seed = 0
output = "{root}"
[source]
folder = "{photographs}"
[clean]
min_side = 256
[mixture]
variants = 9
validation = 0.2
[filters.strength]
measured = false
"""


def test_explain_says_in_words_why(built, capsys):
    root, _, _ = built
    rows = list(Dataset(root).rows("pairs"))
    assert run(["explain", str(root), rows[0]["key"]]) == 0
    assert rows[0]["name"] in capsys.readouterr().out
    assert run(["explain", str(root), "cut.png"]) == 0
    assert "truncated" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("manifest")][:6] + list(NAMES[-2:]))
def test_a_build_killed_anywhere_ends_as_if_it_had_not_been(name, small, uninterrupted, tmp_path):
    _build_killed_at(f"{name}:kill@3" if not name.startswith("manifest") else f"{name}:kill", small)
    build_here(small)
    assert tree(tmp_path / "dataset") == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("turn", [1, 7, 20])
def test_a_build_killed_at_any_turn_ends_as_if_it_had_not_been(name, turn, small, uninterrupted, tmp_path):
    _build_killed_at(f"{name}:kill@{turn}", small, must_die=False)
    build_here(small)
    assert tree(tmp_path / "dataset") == uninterrupted


@pytest.fixture(scope="module")
def uninterrupted(photographs, tmp_path_factory):
    root = tmp_path_factory.mktemp("uninterrupted") / "dataset"
    build_here(settings_for(photographs, root, source={"folder": str(photographs), "limit": 6}, **TWO_TYPES))
    return tree(root)


def _build_killed_at(failpoint, settings, *, must_die=True):
    process = multiprocessing.get_context("fork").Process(target=_build_with, args=(failpoint, settings))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL or not must_die


def _build_with(failpoint, settings):
    os.environ["PAIRFORGE_FAILPOINT"] = failpoint
    build_here(settings)


def test_a_full_disk_ends_in_one_sentence_and_keeps_what_is_committed(small, monkeypatch, uninterrupted, tmp_path):
    monkeypatch.setenv("PAIRFORGE_FAILPOINT", "commit.before_write:enospc@4")
    with pytest.raises(OSError, match=r"[Nn]o space"):
        build_here(small)
    monkeypatch.delenv("PAIRFORGE_FAILPOINT")
    assert len(list((tmp_path / "dataset" / ".work").rglob("*.json"))) >= 3
    build_here(small)
    assert tree(tmp_path / "dataset") == uninterrupted


def test_a_second_builder_is_told_who_holds_the_dataset(built, capsys):
    root, settings, _ = built
    with Lease(root, owner="the first builder"):
        status = run(["build", settings.source.folder, "--out", str(root)])
    assert status == 1
    assert "the first builder" in capsys.readouterr().err


def test_quotas_are_met_exactly_and_the_rest_is_in_the_ledger(photographs, tmp_path):
    settings = settings_for(photographs, tmp_path / "d", mixture={"variants": 3, "quotas": {"haze": 5, "low_light": 9}})
    outcome, _ = build_here(settings)
    assert sum(outcome.pairs.values()) == 3 * outcome.images["kept"]
    assert summarise(tmp_path / "d").by_degradation.get("haze", 0) <= 5
    assert outcome.pairs["over_quota"] > 0


def test_coupled_pairs_replay_too(photographs, tmp_path, capsys):
    weights = {"rain_haze": 1, "low_light_blur_noise": 1, "reflection+flare": 1, "snow": 1}
    build_here(settings_for(photographs, tmp_path / "d", mixture={"variants": 4, "weights": weights}))
    run(["verify", str(tmp_path / "d"), "--replay", "12", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["replayed"] == found["identical"] > 8
