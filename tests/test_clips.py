"""Moving pictures as sources: which clips are found in them, and what a dataset makes of their frames."""

import hashlib
import json
import shutil
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from pydantic import ValidationError

from degradations._recipes import draw, fingerprint
from degradations._render import render, replay
from flows.__main__ import run
from flows.dataset import Dataset
from storage import samples
from storage.errors import SourceError
from storage.ledger import read_table, write_table
from storage.records import Scene, WorkShard
from storage.shards import read_member, read_shard
from tasks import clean
from tasks.clips import Clip, Options, clip_key, clips_of, frames_sha256, speed_of
from tasks.crawl import SOURCES
from tasks.footage import Limits, is_footage, open_footage, sequence_of, video_format, with_sequences
from tasks.split import with_siblings
from tests.builds import build_here, settings_for, tree

SIDE = 256
LIMITS = Limits(min_side=64, max_pixels=10**6)
NINE = Options()


def pan(photograph, count, step=3, row=0):
    """Return the frames of a camera that moves straight over a photograph."""
    return [photograph[row : row + SIDE, step * at : step * at + SIDE] for at in range(count)]


ASTRONAUT, COFFEE = skimage.data.astronaut(), skimage.data.coffee()
WALK, STILL = pan(ASTRONAUT, 30), pan(ASTRONAUT, 12, step=0)
CUT = [*pan(ASTRONAUT, 6), *pan(COFFEE, 5, row=100)]


def write_video(path, frames, codec="MJPG"):
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), 25, (width, height))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {codec}")
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def write_sequence(folder, frames, first=1, step=1):
    folder.mkdir(parents=True)
    for at, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"view_{first + step * at}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return folder


def crawled(root, uri):
    data = (root / uri).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    return {"uri": uri, "sha256": sha256, "bytes": len(data), "status": "found", "licence": "CC0", "author": "Ada"}


def sources(root):
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return with_sequences([crawled(root, uri) for uri in files])


def clips_in(root, options=NINE, limits=LIMITS):
    (source,) = sources(root)
    with open_footage(source, root, limits) as footage:
        return list(clips_of(footage, options))


def reason_of(act, *arguments):
    with pytest.raises(SourceError) as caught:
        act(*arguments)
    assert str(caught.value)
    return caught.value.reason


def cleaned(root, tmp_path, options=None, quarantine=()):
    """Run the clean stage on all of `root`."""
    table, stem = tmp_path / "sources.parquet", tmp_path / "clean" / "b0"
    write_table(table, sources(root), SOURCES)
    stem.parent.mkdir(exist_ok=True)
    Path(f"{stem}.quarantine.json").write_text(json.dumps(list(quarantine)))
    shard = WorkShard(stage="clean", bucket="b0", inputs=(str(root), str(table)), output=str(stem), seed=0)
    report = clean.run(shard, options or clean.Options(min_side=64))
    return report, read_table(Path(f"{stem}.parquet"))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "sources").mkdir()
    return tmp_path / "sources"


@pytest.mark.parametrize(
    ("name", "codec", "form"),
    [
        ("a.avi", "MJPG", "avi"),
        ("a.mp4", "mp4v", "mp4"),
        ("a.mov", "mp4v", "mov"),
        ("a.mkv", "FFV1", "matroska"),
        ("a.webm", "VP80", "matroska"),
    ],
)
def test_a_video_is_told_by_its_bytes_and_read(name, codec, form, root):
    write_video(root / name, WALK, codec).rename(root / "no-suffix")
    (source,) = sources(root)
    assert is_footage(source, root)
    assert video_format((root / "no-suffix").read_bytes()[:16]) == form
    found = clips_in(root)
    assert [clip.frames.shape for clip in found] == [(9, SIDE, SIDE, 3)] * 3
    assert all(np.abs(clip.clean.astype(int) - WALK[clip.index]).mean() < 8 for clip in found)


@pytest.mark.parametrize(
    "head",
    [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8L", bytes(4) + b"ftypavif", b"", b"#EXTM3U"],
)
def test_photographs_and_playlists_are_no_videos(head):
    assert video_format(head.ljust(16, b"\0")) == ""


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("walk.frames/0001.png", "walk.frames"),
        ("a/Walk.Frames/view 12.JPG", "a/Walk.Frames"),
        ("a.frames/b/1.png", ""),
        ("walk/0001.png", ""),
        ("walk.frames/licences.tsv", ""),
        ("walk.frames/cover.png", ""),
        (".frames/1.png", ""),
    ],
)
def test_only_numbered_images_in_a_frames_folder_are_a_sequence(uri, folder):
    assert sequence_of(uri) == folder


def test_the_frames_of_a_sequence_follow_their_numbers(root):
    write_sequence(root / "walk.frames", WALK[:12], first=4)
    (clip,) = clips_in(root)
    assert np.array_equal(clip.frames, np.stack(WALK[clip.index - 4 : clip.index + 5]))
    assert not clip.broken


def test_a_sequence_is_one_source_with_the_rights_of_all_its_frames(root):
    write_sequence(root / "walk.frames", WALK[:8])
    (root / "walk.frames" / "notes.txt").write_text("by the sea")
    rows = [crawled(root, path.relative_to(root).as_posix()) for path in root.rglob("*.*") if path.is_file()]
    rows[0]["author"] = "Grace"
    notes, sequence = sorted(with_sequences(rows), key=lambda row: "frames" in row)
    assert notes["uri"] == "walk.frames/notes.txt"
    assert sequence["uri"] == "walk.frames"
    assert set(sequence["author"].split("; ")) <= {"Ada", "Grace"}
    assert sequence["sha256"] == with_sequences(rows[::-1])[-1]["sha256"]


def test_clips_do_not_overlap_and_are_spread_over_the_source(root):
    write_video(root / "a.avi", WALK)
    indexes = [clip.index for clip in clips_in(root, Options(per_source=3, frames=7))]
    assert [index // 10 for index in indexes] == [0, 1, 2]
    assert all(after - before >= 7 for before, after in pairwise(indexes))


def test_the_middle_of_a_clip_is_its_sharpest_choice(root):
    frames = [cv2.GaussianBlur(frame, (0, 0), 0.1 if at == 13 else 1.5) for at, frame in enumerate(WALK)]
    write_video(root / "a.mkv", frames, "FFV1")
    (clip,) = clips_in(root, Options(per_source=1))
    assert clip.index == 13


def test_a_camera_that_rests_first_is_used_where_it_moves(root):
    write_video(root / "a.mkv", [*STILL, *STILL, *WALK[:14]], "FFV1")
    (clip,) = clips_in(root, Options(per_source=1))
    assert speed_of(clip, NINE) > 3
    assert clip.index >= 24


@pytest.mark.parametrize(
    ("frames", "reason"),
    [(STILL[:9], "still_clip"), (CUT[1:10], "scene_cut"), (pan(ASTRONAUT, 9, step=28), "too_fast")],
    ids=["still", "cut", "fast"],
)
def test_clips_that_blur_could_not_use_are_rejected(frames, reason):
    assert reason_of(speed_of, Clip(index=4, frames=np.stack(frames), broken=False), NINE) == reason


def test_the_speed_of_a_pan_is_its_step(root):
    found = speed_of(Clip(index=4, frames=np.stack(WALK[:9]), broken=False), NINE)
    assert found == pytest.approx(3 * 1024 / SIDE, rel=0.05)


def test_a_sequence_with_a_frame_left_out_is_cut_there(root):
    write_sequence(root / "walk.frames", WALK[:10])
    (root / "walk.frames" / "view_5.png").unlink()
    (clip,) = clips_in(root)
    assert reason_of(speed_of, clip, NINE) == "scene_cut"


def test_every_second_frame_may_be_left_out(root):
    write_sequence(root / "walk.frames", WALK[:9], step=2)
    (clip,) = clips_in(root)
    assert not clip.broken


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(min_side=300, max_pixels=10**6), "too_small"),
        (Limits(min_side=64, max_pixels=10**4), "too_many_pixels"),
    ],
)
@pytest.mark.parametrize("kind", ["video", "sequence"])
def test_sizes_are_capped_as_those_of_photographs(kind, limits, reason, root):
    write_video(root / "a.avi", WALK[:9]) if kind == "video" else write_sequence(root / "a.frames", WALK[:9])
    assert reason_of(clips_in, root, NINE, limits) == reason


def test_no_more_frames_are_looked_at_than_allowed(root):
    write_video(root / "a.avi", WALK)
    assert max(clip.index for clip in clips_in(root, Options(max_frames=15))) < 11


def test_too_few_frames_are_no_clip(root):
    write_video(root / "a.avi", WALK[:8])
    assert reason_of(clips_in, root) == "too_few_frames"


def test_a_frame_of_another_size_condemns_the_sequence(root):
    write_sequence(root / "a.frames", [*WALK[:8], WALK[8][:200]])
    assert reason_of(clips_in, root) == "mixed_sizes"


def test_a_damaged_frame_condemns_the_sequence_and_is_named(root):
    folder = write_sequence(root / "a.frames", WALK[:9])
    (folder / "view_3.png").write_bytes((folder / "view_3.png").read_bytes()[:999])
    with pytest.raises(SourceError, match=r"view_3\.png"):
        clips_in(root)


def test_a_truncated_video_gives_the_clips_before_its_end(root):
    file = write_video(root / "a.avi", WALK)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert all(np.abs(clip.frames[-1].astype(int) - WALK[clip.index + 4]).mean() < 8 for clip in clips_in(root))


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


def test_clips_of_one_video_share_a_split():
    groups = {"a1": "a1", "a2": "a2", "b1": "a2", "c1": "c1"}
    found = with_siblings(groups, {"a1": "A", "a2": "A", "b1": "B", "c1": "C"})
    assert found == {"a1": "a1", "a2": "a1", "b1": "a1", "c1": "c1"}


@pytest.mark.parametrize(
    "options", [{"frames": 8}, {"frames": 5}, {"frames": 17}, {"per_source": 0}, {"seconds": 1}, {"max_speed": 0}]
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        Options(**options)


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
