"""SAM-2 segments by a fake that knows the truth: from masks to labels, by tiles and by batches."""

import numpy as np
import pytest

from tasks.annotators import sam2

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")


def segments(model, images, options):
    """Return the labels of images by a segmenter that is given the pixels as they are."""
    prepared = [sam2.prepared_by(lambda piece: piece, image, options) for image in images]
    return list(map(sam2.finish, sam2.find(model, prepared, options), images))


class Oracle:
    """A segmenter that finds whatever has the colour of the point; of its three masks only the first is good."""

    def __init__(self):
        self.embedded = []

    def embed(self, images):
        self.embedded.append(len(images))
        return list(images)

    def masks(self, embedding, points):
        height, width = embedding.shape[:2]
        logits, scores = torch.full((len(points), 3, height, width), -9.0), torch.zeros(len(points), 3)
        for index, (column, row) in enumerate(points.tolist()):
            colour = embedding[int(row * height), int(column * width)]
            logits[index, 0][torch.from_numpy((embedding == colour).all(axis=2))] = 9.0
            scores[index, 0] = 0.95
        return logits, scores


def coloured(shape=(130, 200)):
    """Return an image of five things on a ground, and its true labels."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    truth = np.zeros(shape, np.uint8)
    for label, (row, column, radius) in enumerate(
        [(0.3, 0.2, 0.16), (0.5, 0.6, 0.3), (0.8, 0.15, 0.1), (0.2, 0.85, 0.12), (0.9, 0.9, 0.09)], start=1
    ):
        truth[np.hypot(rows - row * shape[0], columns - column * shape[1]) < radius * min(shape)] = label
    colours = np.random.default_rng(0).integers(0, 256, (6, 3), dtype=np.uint8)
    return colours[truth], truth


def same_partition(labels, truth):
    pairs = np.unique(np.stack([labels.ravel(), truth.ravel()]), axis=1)
    return len(pairs[0]) == len(np.unique(labels)) == len(np.unique(truth))


def test_what_the_model_knows_becomes_labels_by_falling_area():
    image, truth = coloured()
    [labels] = segments(Oracle(), [image], sam2.Options(points_per_side=14))
    assert labels.dtype == np.uint8
    assert same_partition(labels, truth)
    assert np.all(np.diff(np.bincount(labels.ravel())) <= 0)


@pytest.mark.parametrize("tile", [64, 100])
def test_tiles_find_what_the_whole_image_shows(tile):
    image, truth = coloured()
    [labels] = segments(Oracle(), [image], sam2.Options(points_per_side=12, tile=tile))
    for thing in np.unique(truth):  # but for slivers that no point of a tile's grid hits
        label = np.bincount(labels[truth == thing]).argmax()
        assert np.mean((labels == label) == (truth == thing)) > 0.995


def test_images_of_any_size_share_batches_and_keep_their_order():
    sizes, oracle = [(130, 150), (90, 70), (64, 64), (70, 130)], Oracle()
    images, truths = zip(*(coloured(shape) for shape in sizes), strict=True)
    found = segments(oracle, images, sam2.Options(points_per_side=12, batch=2, tile=100))
    assert all(same_partition(labels, truth) for labels, truth in zip(found, truths, strict=True))
    assert max(oracle.embedded) == 2


def test_bad_and_unstable_masks_are_dropped():
    image, _ = coloured()
    assert segments(Oracle(), [image], sam2.Options(points_per_side=8, iou=0.96))[0].max() == 0

    class Unstable(Oracle):
        def masks(self, embedding, points):
            logits, scores = super().masks(embedding, points)
            return logits / 18, scores  # no logit is beyond the offset

    assert segments(Unstable(), [image], sam2.Options(points_per_side=8))[0].max() == 0


def test_the_grid_is_that_of_the_published_generator():
    from sam2.utils.amg import build_point_grid

    assert np.allclose(sam2.grid(7), build_point_grid(7), atol=1e-7)
