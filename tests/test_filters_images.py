"""Filters that look at one photograph: resolution, duplicate and clean_quality."""

import cv2
import numpy as np
import pytest
from skimage import data
from sklearn.datasets import load_sample_images

from filters import load
from filters._contract import Sample
from filters._phash import groups, phash


def scores_of(name, image, **options):
    return load(name)(**options).open("cpu")([Sample(key="a", clean=image)])[0]


def reason_of(name, image, **options):
    return load(name)(**options).judge(scores_of(name, image, **options)).reason


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((512, 512), ""),
        ((511, 900), "too_small"),
        ((512, 2048), ""),
        ((2049, 512), "too_elongated"),
        ((1, 1), "too_small"),
    ],
)
def test_resolution_judges_the_shorter_side_and_the_aspect(shape, reason):
    assert reason_of("resolution", np.zeros((*shape, 3), np.uint8), min_side=512) == reason


def test_resolution_takes_its_limits_from_the_options():
    image = np.zeros((300, 451, 3), np.uint8)
    assert reason_of("resolution", image, min_side=256) == ""
    assert reason_of("resolution", image, min_side=256, max_aspect=1.5) == "too_elongated"


def half(image):
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def jpeg(image, quality=20):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def brighter(image):
    return np.clip(image * 1.15 + 8, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [half, jpeg, brighter, lambda image: jpeg(half(image))])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_hash_survives_copying(name, change):
    image = getattr(data, name)()
    assert (phash(image)[0] ^ phash(change(image))[0]).bit_count() <= load("duplicate")().distance


def test_different_photographs_have_distant_hashes():
    hashes = [phash(getattr(data, name)())[0] for name in ("astronaut", "coffee", "chelsea", "rocket")]
    distances = [(a ^ b).bit_count() for index, a in enumerate(hashes) for b in hashes[:index]]
    assert min(distances) > 2 * load("duplicate")().distance


def test_hash_goes_through_the_scores_unharmed():
    image = data.coffee()
    assert load("duplicate")().hash_of(scores_of("duplicate", image)) == phash(image)[0]


def test_flat_image_has_no_hash():
    flat = np.full((300, 300, 3), 90, np.uint8)
    flat += np.random.default_rng(0).integers(0, 3, flat.shape, dtype=np.uint8)
    assert load("duplicate")().hash_of(scores_of("duplicate", flat)) is None


@pytest.mark.parametrize(("rank", "reason"), [({}, ""), ({"rank": 0.0}, ""), ({"rank": 1.0}, "near_duplicate")])
def test_only_the_first_of_a_group_is_kept(rank, reason):
    scores = {"phash_high": 1.0, "phash_low": 2.0, "contrast": 40.0, **rank}
    assert load("duplicate")().judge(scores).reason == reason


def groups_by_comparing_all(hashes, distance):
    labels = list(range(len(hashes)))
    for index, value in enumerate(hashes):
        for other in range(index):
            if (value ^ hashes[other]).bit_count() <= distance:
                low, high = sorted((labels[index], labels[other]))
                labels = [low if label == high else label for label in labels]
    return labels


@pytest.mark.parametrize("distance", [0, 1, 3, 6, 9, 16])
def test_groups_are_those_of_comparing_all_pairs(distance):
    rng = np.random.default_rng(distance)
    seeds = [int(value) for value in rng.integers(0, 2**64, 30, dtype=np.uint64)]
    flips = [sum({1 << int(bit) for bit in rng.integers(0, 64, rng.integers(0, 12))}) for _ in range(240)]
    hashes = [seeds[index % 30] ^ flip for index, flip in enumerate(flips)]
    assert groups(hashes, distance) == groups_by_comparing_all(hashes, distance)


def test_unusable_hashes_stay_alone():
    assert groups([None, 5, 5, None, 4], 1) == [0, 1, 1, 3, 1]


@pytest.mark.parametrize("hashes", [[], [7], [None]])
def test_groups_of_at_most_one_hash(hashes):
    assert groups(hashes, 6) == list(range(len(hashes)))


def test_groups_refuse_a_distance_that_means_nothing():
    with pytest.raises(ValueError, match=r"\[0, 16\]"):
        groups([1, 2], 17)


def test_a_hundred_thousand_hashes_are_grouped_exactly():
    hashes = np.random.default_rng(1).integers(0, 2**64, 100_000, dtype=np.uint64)
    hashes[1::100] = hashes[::100] ^ np.uint64(0b1000_0000_0001_0010_1000_0001)
    labels = np.array(groups(hashes.tolist(), 6))
    assert (labels[1::100] == labels[::100]).all()
    assert len(set(labels.tolist())) == pytest.approx(99_000, abs=2)


def noisy(image, sigma=8):
    return np.clip(np.rint(image + np.random.default_rng(0).normal(0, sigma, image.shape)), 0, 255).astype(np.uint8)


def blurred(image, sigma=1.8):
    return cv2.GaussianBlur(image, (0, 0), sigma)


def enlarged(image):
    return cv2.resize(half(image), image.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def dimmed(image):
    return (image // 10 + 100).astype(np.uint8)


def burnt(image):
    return np.clip(image.astype(int) + 215, 0, 255).astype(np.uint8)


DEMO = {
    "astronaut": data.astronaut,
    "coffee": data.coffee,
    "chelsea": data.chelsea,
    "rocket": data.rocket,
    "motorcycle": lambda: data.stereo_motorcycle()[0],
    "china": lambda: load_sample_images().images[0],
    "flower": lambda: load_sample_images().images[1],
}


@pytest.mark.parametrize("name", DEMO)
def test_clean_quality_keeps_the_photographs_of_the_demo(name):
    assert reason_of("clean_quality", DEMO[name]()) == ""


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (noisy, "noisy"),
        (blurred, "blurred"),
        (enlarged, "blurred"),
        (jpeg, "blocky"),
        (dimmed, "flat"),
        (burnt, "clipped"),
    ],
)
def test_clean_quality_drops_a_good_photograph_made_bad(name, fault, reason):
    assert reason_of("clean_quality", fault(DEMO[name]())) == reason


@pytest.mark.parametrize("offset", [(0, 0), (3, 5), (7, 1)])
def test_block_edges_are_found_at_any_offset(offset):
    image = jpeg(data.coffee())[offset[0] :, offset[1] :]
    assert reason_of("clean_quality", image) == "blocky"


@pytest.mark.parametrize("width", [1.0, 1.5, 2.5])
def test_edge_width_of_a_step_is_that_of_its_blur_and_of_the_gradient(width):
    step = np.where(np.arange(200) < 100, 40, 200).astype(np.uint8)
    image = cv2.GaussianBlur(np.tile(step[None, :, None], (200, 1, 3)), (0, 0), width)
    assert scores_of("clean_quality", image)["edge_width"] == pytest.approx(np.hypot(width, 0.7), abs=0.1)


def test_photograph_with_a_blurred_background_stays():
    image = data.astronaut()
    image[:, 256:] = blurred(image, 4)[:, 256:]
    assert reason_of("clean_quality", image) == ""


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 8, 3), (17, 300, 3), (64, 64, 3)])
def test_clean_quality_measures_the_smallest_images(shape):
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    assert all(np.isfinite(list(scores_of("clean_quality", image).values())))
