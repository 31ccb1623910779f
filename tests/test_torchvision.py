"""torchvision is importable whatever torch was built with, and its non-maximum suppression suppresses."""

from importlib.util import find_spec

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed", allow_module_level=True)

from storage.torchvision import _suppress, prepare_torchvision  # noqa: E402


def _slow(boxes, scores, threshold):
    keep = []
    for index in np.argsort(-scores, kind="stable"):
        if all(_overlap(boxes[index], boxes[other]) <= threshold for other in keep):
            keep.append(int(index))
    return keep


def _overlap(one, other):
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    return shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared)


@pytest.mark.parametrize("count", [0, 1, 40])
def test_suppression_keeps_what_no_better_box_overlaps(count):
    rng = np.random.default_rng(count)
    corners = rng.uniform(0, 50, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (count, 2))], axis=1)
    scores = rng.uniform(size=count)
    kept = _suppress(torch.from_numpy(boxes), torch.from_numpy(scores), 0.3)
    assert kept.tolist() == _slow(boxes, scores, 0.3)


def test_what_needs_torchvision_can_be_imported():
    prepare_torchvision()
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.1], [2.0, 2.0, 3.0, 3.0]])
    assert torchvision.ops.nms(boxes, torch.tensor([0.1, 0.9, 0.5]), 0.5).tolist() == [1, 2]
