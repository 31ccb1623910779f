"""Clips in a dataset: their rows, their frames beside them, and pairs that are made of these."""

import json
import shutil

import cv2
import numpy as np
import pytest
import skimage.data

from degradations.pairs.recipes import draw, fingerprint
from degradations.pairs.render import render, replay
from flows.__main__ import run
from flows.dataset import Dataset
from storage import samples
from storage.records import Scene
from storage.shards import read_member, read_shard
from tasks import clean
from tasks.clips import clip_key, frames_sha256
from tasks.footage import sequence_of
from tests.builds import build_here, settings_for, tree
from tests.moving import ASTRONAUT, COFFEE, CUT, STILL, WALK, cleaned, pan, sources, write_sequence, write_video


@pytest.fixture
def root(tmp_path):
    (tmp_path / "sources").mkdir()
    return tmp_path / "sources"


HOSTILE = {
    "cut": lambda data, rng: data[: rng.integers(17, len(data))],
    "noise": lambda data, rng: _scribbled(data, rng),
    "header only": lambda data, rng: data[:16] + bytes(64),
    "random": lambda data, rng: data[:16] + rng.bytes(2000),
}


def _scribbled(data, rng):
    changed = np.frombuffer(data, np.uint8).copy()
    changed[rng.integers(16, len(data), 30)] = rng.integers(0, 256, 30)
    return changed.tobytes()


@pytest.mark.parametrize("damage", HOSTILE)
@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.mkv", "FFV1")])
def test_a_hostile_video_is_a_reject_or_clips_and_nothing_else(damage, name, codec, root, tmp_path):
    whole = write_video(root / name, [frame[:96, :96] for frame in WALK[:12]], codec).read_bytes()
    (root / name).unlink()
    for seed in range(4):
        (root / f"{seed}-{name}").write_bytes(HOSTILE[damage](whole, np.random.default_rng(seed)))
    report, rows = cleaned(root, tmp_path)
    assert report.kept + sum(report.rejected.values()) == len(rows) >= 4
    assert all(bool(row["reason"]) == (row["status"] != "kept") for row in rows)


def test_a_video_that_kills_its_worker_is_left_out(root, tmp_path):
    write_video(root / "a.avi", WALK)
    killer = clean.key_of(sources(root)[0]["sha256"])
    report, (row,) = cleaned(root, tmp_path, quarantine=[killer])
    assert (report.rejected, row["uri"]) == ({"crash": 1}, "a.avi")


def test_each_clip_has_a_row_a_key_and_its_frames_beside_it(root, tmp_path):
    write_sequence(root / "walk.frames", WALK[:20])
    report, rows = cleaned(root, tmp_path)
    assert report.kept == len(rows) == 2
    for row in rows:
        index = int(row["uri"].removeprefix("walk.frames#frame="))
        assert row["key"] == clip_key(row["sha256"], index)
        tar = tmp_path / "clean" / "b0.tar"
        data = read_member(tar, row["frames_offset"], row["frames_size"])
        frames = samples.decode_frames(data, samples.count_frames(data, row["height"]))
        assert np.array_equal(frames, np.stack(WALK[index - 4 : index + 5]))
        assert row["frames_sha256"] == frames_sha256(frames) == fingerprint(frames)
        image = samples.decode_image(read_member(tar, row["offset"], row["size"]))
        assert np.array_equal(image, frames[row["frames_count"] // 2])


def test_reasons_stand_in_the_rows(root, tmp_path):
    write_video(root / "still.avi", STILL)
    write_video(root / "cut.avi", CUT[1:10])
    grey = [np.repeat(frame[..., :1], 3, axis=2) for frame in WALK[:9]]
    write_sequence(root / "grey.frames", grey)
    _, rows = cleaned(root, tmp_path)
    assert {row["uri"]: (row["status"], row["reason"]) for row in rows} == {
        "cut.avi#frame=4": ("dropped", "scene_cut"),
        "grey.frames#frame=4": ("dropped", "greyscale"),
        "still.avi#frame=4": ("dropped", "still_clip"),
    }


def test_a_copy_of_a_video_is_a_duplicate_of_its_first_clip(root, tmp_path):
    write_video(root / "a.avi", WALK)
    shutil.copy(root / "a.avi", root / "b.avi")
    _, rows = cleaned(root, tmp_path)
    assert rows[-1]["reason"] == "duplicate"
    assert rows[-1]["duplicate_of"] == rows[0]["key"]


def test_large_frames_are_reduced_together(root, tmp_path):
    write_sequence(root / "walk.frames", WALK[:9])
    _, (row,) = cleaned(root, tmp_path, clean.Options(min_side=64, max_side=128))
    data = read_member(tmp_path / "clean" / "b0.tar", row["frames_offset"], row["frames_size"])
    assert samples.decode_frames(data, 9).shape == (9, 128, 128, 3)


def test_the_same_video_gives_the_same_bytes_on_any_number_of_threads(root, tmp_path):
    write_video(root / "a.mp4", WALK, "mp4v")
    before, found = cv2.getNumThreads(), set()
    for threads in (1, 4):
        cv2.setNumThreads(threads)
        found.add(cleaned(root, tmp_path)[0].sha256)
    cv2.setNumThreads(before)
    assert len(found) == 1


def test_photographs_are_stored_as_if_there_were_no_clips(root, tmp_path):
    cv2.imwrite(str(root / "1.png"), cv2.cvtColor(WALK[0], cv2.COLOR_RGB2BGR))
    _, (row,) = cleaned(root, tmp_path)
    ((key, members),) = read_shard(tmp_path / "clean" / "b0.tar")
    assert (key, row["uri"]) == (row["sha256"][:24], "1.png")
    assert members == {"clean.webp": samples.encode_image(np.ascontiguousarray(WALK[0]))}
    assert (row["frames_count"], row["frames_size"], row["frames_sha256"]) == (0, 0, "")


def test_frames_in_a_scene_decide_only_what_reads_them():
    plain = Scene(key="a", image=np.ascontiguousarray(WALK[4]))
    moving = Scene(key="a", image=plain.image, frames=np.stack(WALK[:9]))
    assert draw("noise", 0.5, plain, seed=3) == draw("noise", 0.5, moving, seed=3)


def test_a_blur_over_a_clip_replays_from_its_frames():
    frames = np.stack(WALK[:9])
    scene = Scene(key="a", image=np.ascontiguousarray(frames[4]), frames=frames)
    recipes = [draw("blur", 0.5, scene, seed=seed) for seed in range(6)]
    recipe = next(item for item in recipes if item.steps[0].params["motion"]["cause"] == "clip")
    assert recipe.steps[0].inputs["frames"] == frames_sha256(frames)
    made = render(scene, recipe).degraded
    again = replay(scene.image, recipe, {"frames": frames}).degraded
    assert np.array_equal(made, again)
    assert not np.array_equal(made, scene.image)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A dataset of one sequence, one video and two photographs, and its settings."""
    folder, out = tmp_path_factory.mktemp("moving") / "sources", tmp_path_factory.mktemp("built") / "dataset"
    write_sequence(folder / "walk.frames", pan(COFFEE, 12, row=100))
    write_video(folder / "pan.mkv", WALK, "FFV1")
    for number, frame in enumerate((ASTRONAUT[256:, :256], skimage.data.chelsea()[20:276, 100:356])):
        cv2.imwrite(str(folder / f"{number}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    settings = settings_for(folder, out, mixture={"variants": 3, "weights": {"blur": 1}, "validation": 0.3})
    build_here(settings)
    return out, settings


def pairs_with_frames(root):
    dataset = Dataset(root)
    stored = [dataset.stored(key, shard) for shard in dataset.names() for key in dataset.keys(shard)]
    return [one for one in stored if "frames.png" in one.annotations]


def test_a_dataset_of_clips_replays_byte_for_byte_without_its_sources(built, tmp_path, capsys):
    shutil.copytree(built[0], tmp_path / "d", ignore=shutil.ignore_patterns(".work"))
    assert run(["verify", str(tmp_path / "d"), "--replay", "50", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["replayed"] == found["identical"] > 0
    causes = [one.pair.recipe.steps[0].params["motion"]["cause"] for one in pairs_with_frames(tmp_path / "d")]
    assert "clip" in causes


def test_published_frames_are_those_that_the_recipe_names(built):
    for one in pairs_with_frames(built[0]):
        clean_image, inputs = one.replayable()
        assert one.pair.recipe.steps[0].inputs["frames"] == fingerprint(inputs["frames"])
        assert np.array_equal(inputs["frames"][len(inputs["frames"]) // 2], clean_image)


def test_pairs_of_photographs_name_no_frames(built):
    rows = {row["key"]: row for row in Dataset(built[0]).rows("images") if row["key"]}
    for row in Dataset(built[0]).rows("pairs"):
        is_clip = "#frame=" in rows[row["source_key"]]["uri"]
        assert is_clip == ("frames" in json.loads(row["recipe"])["steps"][0]["inputs"])


def test_clips_of_one_video_are_in_one_split_of_the_dataset(built):
    splits = {}
    for row in Dataset(built[0]).rows("images"):
        if row["split"]:
            splits.setdefault(row["sha256"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())


def test_a_build_with_clips_is_the_same_a_second_time(built, tmp_path):
    build_here(built[1].model_copy(update={"output": str(tmp_path / "d")}))
    assert tree(tmp_path / "d") == tree(built[0])


def test_a_limit_takes_a_sequence_whole(built):
    from flows.pipeline import Pipeline

    folder = built[1].source.folder
    settings = settings_for(folder, "/nowhere", source={"folder": folder, "limit": 3})
    listed = [item.uri for item in Pipeline(settings, lambda stage, units: None, None).photographs.listing]
    assert len({sequence_of(uri) or uri for uri in listed}) == 3
    assert sum("walk.frames/" in uri for uri in listed) in (0, 12)


def test_a_coupled_blur_before_which_light_changes_is_not_made_of_frames():
    from tasks.degrade import _starts_with_frames

    expected = {"blur": True, "blur_noise": True, "low_light_blur": False, "haze+blur": False, "noise": True}
    assert {name: _starts_with_frames(name) for name in expected} == expected
