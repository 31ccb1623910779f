import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from scipy.stats import spearmanr
from skimage.segmentation import felzenszwalb

from tasks.annotators import names, open_annotator
from tasks.annotators.depth_prior import inverse_depth
from tasks.annotators.superpixels import by_area, segments

PHOTOGRAPHS = Path(os.environ.get("PAIRFORGE_PHOTOGRAPHS", Path(__file__).parents[2] / "shared/data"))
EMBEDDED = ("depth_prior", "superpixels")


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


def scene_with_sky(shape=(300, 420)):
    image = np.empty((*shape, 3), np.uint8)
    image[:120] = (150, 190, 240)
    grain = np.random.default_rng(0).integers(60, 140, (shape[0] - 120, shape[1], 1), dtype=np.uint8)
    image[120:] = grain
    return image


def rank_correlation_with_disparity(estimate):
    disparity = skimage.data.stereo_motorcycle()[2]
    measured = np.isfinite(disparity)
    return spearmanr(estimate[measured], disparity[measured])[0]


def test_embedded_backends_are_there():
    assert set(EMBEDDED) <= set(names())


@pytest.mark.parametrize(("name", "kind", "dtype"), [("depth_prior", "depth", "f4"), ("superpixels", "segments", "u1")])
def test_annotator_tells_its_kind_and_backend_and_keeps_the_size(name, kind, dtype, astronaut):
    annotator = open_annotator(name)
    annotation = annotator.annotate(astronaut)
    assert (annotator.kind, annotation.dtype.str[1:], annotation.shape) == (kind, dtype, astronaut.shape[:2])
    assert annotator.backend.startswith(name)


def test_unknown_annotator_is_refused_with_the_names():
    with pytest.raises(ValueError, match="depth_prior"):
        open_annotator("crystal_ball")


@pytest.mark.parametrize("name", EMBEDDED)
def test_annotation_is_the_same_on_every_call_and_leaves_the_image_alone(name, astronaut):
    before = astronaut.copy()
    annotate = open_annotator(name).annotate
    assert np.array_equal(annotate(astronaut), annotate(astronaut))
    assert np.array_equal(astronaut, before)


def test_annotations_do_not_depend_on_the_number_of_threads(astronaut):
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        depth, labels = inverse_depth(astronaut), segments(astronaut)
        cv2.setNumThreads(4)
        assert np.array_equal(depth, inverse_depth(astronaut))
        assert np.array_equal(labels, segments(astronaut))
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (16, 500), (700, 16), (143, 145), (145, 289)])
@pytest.mark.parametrize("name", EMBEDDED)
def test_every_size_is_annotated_in_range(name, shape):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    annotation = open_annotator(name).annotate(image)
    assert annotation.shape == shape
    assert 0 <= annotation.min() <= annotation.max() <= (1 if name == "depth_prior" else 253)


def test_segments_are_numbered_by_falling_area(astronaut):
    areas = np.bincount(segments(astronaut).ravel())
    assert 20 < len(areas) <= 254
    assert np.all(np.diff(areas) <= 0)


def test_equal_areas_keep_their_order():
    assert by_area(np.array([[5, 5, 9, 9, 2, 2, 2]], np.uint8)).tolist() == [[1, 1, 2, 2, 0, 0, 0]]


def test_noise_has_at_most_254_segments():
    image = np.random.default_rng(2).integers(0, 256, (600, 900, 3), dtype=np.uint8)
    assert segments(image).max() <= 253


@pytest.mark.parametrize("size", [400, 777, 1301])
def test_segment_borders_lie_on_the_edges_at_full_size(size):
    rows, columns = np.mgrid[:size, :size]
    disk = (rows - 0.45 * size) ** 2 + (columns - 0.52 * size) ** 2 < (0.3 * size) ** 2
    image = np.where(disk[..., None], (200, 60, 40), (40, 90, 160)).astype(np.uint8)
    labels = segments(image)
    overlap = np.bincount(labels[disk]).argmax()
    assert np.mean((labels == overlap) != disk) < 2 / size  # below one pixel of border around the disk


def test_depth_prior_ranks_measured_disparity_better_than_a_vertical_ramp():
    image = skimage.data.stereo_motorcycle()[0]
    ramp = np.broadcast_to(np.arange(image.shape[0])[:, None], image.shape[:2])
    assert rank_correlation_with_disparity(inverse_depth(image)) > rank_correlation_with_disparity(ramp) + 0.05


def test_sky_is_infinitely_far_and_ground_is_near():
    depth = inverse_depth(scene_with_sky())
    assert depth[:90].max() == 0
    assert depth[150:].min() > 0.05
    assert depth[-20:].mean() > 0.6 > depth[130:150].mean()


def test_depth_step_at_the_horizon_is_as_sharp_as_the_image():
    depth = cv2.resize(inverse_depth(cv2.resize(scene_with_sky(), None, fx=4, fy=4)), (420, 300))
    assert depth[:108].max() < 0.02
    assert depth[132:].mean(axis=1).min() > 0.1


@pytest.mark.skipif(not (PHOTOGRAPHS / "clean").is_dir(), reason="the photographs are not beside the project")
@pytest.mark.parametrize("name", ["budgie-backgro__canyon-wren.jpg", "budgie-backgro__extreme-desert-hike.jpg"])
def test_photographed_sky_is_far_and_the_foreground_near(name):
    image = cv2.cvtColor(cv2.imread(str(PHOTOGRAPHS / "clean" / name), cv2.IMREAD_REDUCED_COLOR_4), cv2.COLOR_BGR2RGB)
    depth = inverse_depth(image)
    assert depth[: len(depth) // 5].mean() < 0.05
    assert depth[-len(depth) // 10 :].mean() > 0.6


@pytest.mark.bench
@pytest.mark.parametrize("annotate", [inverse_depth, segments])
def test_annotators_cost_a_tenth_of_the_segmentation_at_full_size(annotate, astronaut):
    image = cv2.resize(astronaut, (1024, 1024), interpolation=cv2.INTER_CUBIC)

    def seconds(work):
        begun = time.process_time()
        work(image)
        return time.process_time() - begun

    ours = min(seconds(annotate) for _ in range(3))
    assert ours * 10 < seconds(lambda image: felzenszwalb(image, scale=120, sigma=0.6, min_size=4000))
