"""Clean quality: borders, rounded corners, drawings and darkness are dropped, photographs like them are not."""

import cv2
import numpy as np
import pytest
from skimage import data

from filters import load
from filters._borders import border, rounded_corner
from filters._contract import Sample
from filters._graphics import palette, softness

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")


def reason_of(image, **options):
    quality = load("clean_quality")(**options)
    return quality.judge(quality.open("cpu")([Sample(key="a", clean=image)])[0]).reason


def jpeg(image, quality=75):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def barred(image, width, colour=(0, 0, 0), sides=(0, 1, 0, 1)):
    top, bottom, left, right = (width * side for side in (sides[0], sides[1], sides[2], sides[3]))
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=colour)


def rounded(image, radius, colour=255):
    rows, columns = (np.minimum(index, index[::-1, ::-1]) for index in np.indices(image.shape[:2]))
    outside = np.hypot(np.maximum(radius - rows - 0.5, 0), np.maximum(radius - columns - 0.5, 0)) > radius
    return np.where(outside[..., None], np.uint8(colour), image)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("sides", [(1, 1, 0, 0), (0, 0, 1, 1), (1, 0, 0, 0), (1, 1, 1, 1)])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (90, 20, 140)])
def test_width_of_a_bar_is_measured_on_every_side(name, sides, colour):
    assert border(barred(getattr(data, name)(), 17, colour, sides)) == pytest.approx(17, abs=2)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_compressed_letterbox_is_bordered(name):
    assert reason_of(jpeg(barred(getattr(data, name)(), 40, sides=(1, 1, 0, 0)))) == "bordered"


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photograph_has_no_border_and_no_rounded_corner(name):
    image = getattr(data, name)()
    assert border(image) <= 1
    assert rounded_corner(image) == 0


def test_sky_and_studio_wall_are_no_border():
    image = data.astronaut()
    rows = np.indices(image.shape[:2])[0]
    image[:100] = (150 + 0.5 * rows[:100, :, None]).astype(np.uint8)  # a gradient down to a straight horizon
    assert border(image) == 0
    wall = np.full((400, 400, 3), 255, np.uint8)
    cv2.ellipse(wall, (200, 260), (90, 120), 0, 0, 360, (60, 80, 120), -1)
    assert border(wall) == 0


@pytest.mark.parametrize("radius", [8, 25, 50])
@pytest.mark.parametrize("colour", [0, 255])
def test_radius_of_rounded_corners_is_measured(radius, colour):
    assert rounded_corner(rounded(data.coffee(), radius, colour)) == pytest.approx(radius, abs=2)


def test_rounded_photograph_is_bordered():
    assert reason_of(rounded(data.coffee(), 24)) == "bordered"


def text():
    image = np.full((600, 800, 3), 255, np.uint8)
    for row in range(30, 590, 22):
        cv2.putText(
            image, "The quick brown fox jumps over the lazy dog", (20, row), 0, 0.6, (20, 20, 20), 1, cv2.LINE_AA
        )
    return image


def chart():
    rng = np.random.default_rng(0)
    image = np.full((500, 700, 3), 250, np.uint8)
    for index in range(12):
        colour = [int(level) for level in rng.integers(40, 230, 3)]
        cv2.rectangle(image, (50 + 50 * index, 480 - 30 * index), (85 + 50 * index, 480 - 9 * (index % 2)), colour, -1)
        cv2.line(image, (50, 60 + 20 * index), (650, 200 + 10 * index), colour, 2, cv2.LINE_AA)
    return image


def logo():
    image = np.full((512, 512, 3), (30, 60, 160), np.uint8)
    cv2.circle(image, (256, 256), 180, (240, 240, 240), -1, cv2.LINE_AA)
    cv2.circle(image, (256, 256), 120, (200, 40, 40), -1, cv2.LINE_AA)
    return image


@pytest.mark.parametrize("draw", [text, chart, logo])
def test_drawing_is_a_graphic(draw):
    assert reason_of(draw()) == "graphic"


@pytest.mark.parametrize("draw", [text, chart])
def test_compressed_drawing_is_dropped(draw):
    assert reason_of(jpeg(draw())) in {"graphic", "blocky"}


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photograph_has_many_colours_and_soft_steps(name):
    image = getattr(data, name)()
    assert palette(image) < 0.6
    assert softness(image) > 0.3


def test_grey_photograph_is_no_graphic():
    grey = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
    assert palette(cv2.merge([grey, grey, grey])) < 0.6


def test_palette_is_the_share_of_the_twelve_commonest_colours():
    image = np.zeros((20, 20, 3), np.uint8)
    image[..., 0] = 8 * np.arange(20)  # twenty columns, one colour each
    image[..., 2] = 200
    assert palette(image) == pytest.approx(12 / 20)


def test_nearly_black_photograph_is_dark():
    assert reason_of(data.astronaut() // 12, min_contrast=0) == "dark"
