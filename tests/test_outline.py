"""What may move by itself: things with an outline of their own, no pieces of the ground and no halves of things."""

import cv2
import numpy as np

from degradations.blur import BlurOptions, sample
from degradations.numerics.random import generator
from degradations.optics.outline import things
from storage.records import Image, Scene

SHAPE = (300, 400)
MOSTLY = BlurOptions(shake=0, linear=1e-9, rotation=0, defocus=0, web=0)  # object motion


def ground() -> Image:
    """Pavement: grey with fine texture, a little lighter to the right."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    texture = 8 * np.sin(rows * 1.7) * np.cos(columns * 1.3)
    return np.repeat((120 + texture + columns / 30)[..., None], 3, axis=2).round().astype(np.uint8)


def disc() -> np.ndarray:
    return cv2.circle(np.zeros(SHAPE, np.uint8), (200, 170), 80, 1, -1) > 0


def with_ball() -> Image:
    image = ground()
    image[disc()] = (200, 60, 50)
    return image


def test_a_ball_before_the_ground_is_a_thing() -> None:
    assert things(with_ball(), disc().astype(np.uint8), [1]) == [1]


def test_a_piece_of_the_ground_is_no_thing() -> None:
    segments = np.zeros(SHAPE, np.uint8)
    segments[120:260, 100:280] = 1
    assert things(ground(), segments, [0, 1]) == []


def test_half_a_ball_is_no_thing() -> None:
    segments = disc().astype(np.uint8)
    segments[:, 200:] *= 2
    assert things(with_ball(), segments, [1, 2]) == []


def test_a_ragged_segment_is_no_thing() -> None:
    image, segments = ground(), np.zeros(SHAPE, np.uint8)
    for row in (60, 120, 180, 240):
        segments[row : row + 20, 80:320] = 1
    segments[60:260, 80:100] = 1
    image[segments == 1] = (200, 60, 50)
    assert things(image, segments, [1]) == []


def test_only_things_move() -> None:
    segments = np.zeros(SHAPE, np.uint8)
    segments[120:260, 20:110] = 1  # pavement
    segments[disc()] = 2
    scene = Scene(key="a", image=with_ball(), segments=segments)
    moved = [sample(generator(seed), 0.5, scene, MOSTLY).motion for seed in range(10)]
    assert {getattr(cause, "segment", None) for cause in moved} == {2}


def test_where_nothing_is_a_thing_something_else_blurs() -> None:
    segments = np.zeros(SHAPE, np.uint8)
    segments[120:260, 100:280] = 1
    scene = Scene(key="a", image=ground(), segments=segments)
    assert {sample(generator(seed), 0.5, scene, MOSTLY).motion.cause for seed in range(10)} == {"linear"}
    alone = MOSTLY.model_copy(update={"linear": 0})  # whoever wants nothing else gets it
    assert sample(generator(0), 0.5, scene, alone).motion.cause == "object_motion"


def test_a_tiny_picture_holds_no_things() -> None:
    image = np.zeros((1, 1, 3), np.uint8)
    assert things(image, np.zeros((1, 1), np.uint8), [0]) == []
