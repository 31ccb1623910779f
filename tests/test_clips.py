"""Moving pictures as sources: which clips are found in them."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from storage.errors import SourceError
from tasks.clips import Clip, Options, clips_of, speed_of
from tasks.footage import Limits, is_footage, open_footage, sequence_of, video_format, with_sequences
from tasks.split import with_siblings
from tests.moving import ASTRONAUT, CUT, SIDE, STILL, WALK, crawled, pan, sources, write_sequence, write_video

LIMITS = Limits(min_side=64, max_pixels=10**6)
NINE = Options()


def clips_in(root, options=NINE, limits=LIMITS):
    (source,) = sources(root)
    with open_footage(source, root, limits) as footage:
        return list(clips_of(footage, options))


def reason_of(act, *arguments):
    with pytest.raises(SourceError) as caught:
        act(*arguments)
    assert str(caught.value)
    return caught.value.reason


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
