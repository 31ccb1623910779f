"""Frames of a clip averaged over an exposure: which clips, how long, in light, along the motion."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from degradations import load
from degradations.blur import Blur, BlurOptions, Clip, sample
from degradations.numerics.light import decode, encode
from degradations.numerics.random import generator
from degradations.optics.clips import exposed, speed
from degradations.optics.straight import motion
from degradations.pairs.render import render_params
from storage.records import Scene
from tests.scenes import leaves, photograph, psnr, scene

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
ONLY_CLIP = BlurOptions(shake=0, linear=0, object_motion=0, rotation=0, defocus=0, web=0)


def degraded(blur: Blur, scene: Scene) -> np.ndarray:
    return render_params(scene, [(load("blur"), blur)]).degraded


def clip_of(shift: int, count: int = 7, side: int = 160) -> np.ndarray:
    wide = cv2.GaussianBlur(leaves(side, side + shift * count), (0, 0), 1.2)
    return np.stack([wide[:, shift * index : shift * index + side] for index in range(count)])


def test_speed_of_a_clip_is_that_of_its_things_and_a_cut_is_seen() -> None:
    moving = clip_of(3)
    cut = np.concatenate([moving[:4], leaves(160, 160, seed=9)[None], moving[5:]])
    assert speed(moving) == pytest.approx(3 * 1024 / 160, rel=0.15)
    assert speed(cut) == -1
    assert speed(np.stack([moving[0]] * 5)) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("kind", ["still", "cut"])
def test_still_clips_and_clips_with_a_cut_are_not_averaged(kind: str) -> None:
    moving = clip_of(3)
    frames = np.stack([moving[3]] * 5) if kind == "still" else np.concatenate([moving[:4], leaves(160, 160, 9)[None]])
    scene = Scene(key="s", image=frames[2], frames=frames)
    assert all(sample(generator(seed), 0.5, scene, BlurOptions()).motion.cause != "clip" for seed in range(8))


def test_a_moving_clip_smears_like_a_straight_motion() -> None:
    frames = clip_of(3)
    scene = Scene(key="s", image=frames[3], frames=frames)
    smeared = degraded(Blur(highlights=0.0, motion=Clip(span=4.0)), scene)
    straight = encode(motion(decode(frames[3]), 12.0, np.pi / 2))
    inner = np.s_[20:-20, 20:-20]
    assert psnr(smeared[inner], straight[inner]) > psnr(frames[3][inner], straight[inner]) + 6


def test_a_clip_is_drawn_where_there_is_one_and_longer_with_severity() -> None:
    frames = clip_of(3)
    scene = Scene(key="s", image=frames[3], frames=frames)
    spans = [sample(generator(1), severity, scene, ONLY_CLIP).motion.span for severity in LEVELS]
    harm = [psnr(frames[3], degraded(Blur(highlights=0.0, motion=Clip(span=span)), scene)) for span in spans]
    assert all(weak < strong for weak, strong in pairwise(spans))
    assert all(mild > strong for mild, strong in pairwise(harm))


def test_an_exposure_of_no_duration_is_the_middle_frame() -> None:
    frames = scene("chelsea", 128, frames=True).frames
    assert frames is not None
    for span in (0.0, 1e-6):
        assert np.abs(exposed(frames, span, 0.0) - decode(frames[2])).max() < 1e-5


def passing(step: int, count: int = 7, side: int = 160) -> np.ndarray:
    """Return frames, uint8 (count, side, side, 3), of texture that moves right by `step` pixels and a bar upon it."""
    wide = np.asarray(photograph("coffee", side))[:, : side + step * count] // 4
    frames = np.stack([wide[:, step * (count - index) :][:, :side] for index in range(count)])
    for index in range(count):
        left = side // 2 - 4 + step * (index - count // 2)
        frames[index, :, left : left + 8] = 230
    return frames


def test_what_is_fast_in_a_clip_smears_and_does_not_stand_side_by_side() -> None:
    frames = passing(9)
    profile = exposed(frames, 4.0, 0.0)[40:120].mean(axis=(0, 2))
    middle = profile[80 - 14 : 80 + 14]
    assert middle.std() < 0.1 * middle.mean()
    assert middle.mean() > 2 * profile[:40].mean()


def test_frames_are_averaged_in_light_and_not_in_codes() -> None:
    """A scene that is switched off halfway, without motion, is half as bright."""
    bright, dark = np.full((64, 64, 3), 240, np.uint8), np.zeros((64, 64, 3), np.uint8)
    light = exposed(np.stack([bright, bright, dark]), 2.0, 0.0)
    assert light.mean() == pytest.approx(decode(bright).mean() * 0.75, rel=0.02)
