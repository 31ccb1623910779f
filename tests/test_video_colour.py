"""A codec predicts a block from its surroundings, so that pale colours outlive a coarse step."""

import numpy as np
import pytest

from degradations.coding.video import video
from storage.records import Image


def pale(tint: tuple[float, float, float]) -> Image:
    """Grey waves and fine texture under a tint that turns slowly, as over a lawn in mist."""
    rows, columns = np.mgrid[:256, :320]
    grey = 120 + 40 * np.sin(rows / 23) * np.cos(columns / 31) + 12 * np.sin(rows * 1.9 + columns)
    strength = 1 + 0.5 * np.sin(rows / 60 + columns / 90)
    return np.rint(grey[..., None] + strength[..., None] * np.array(tint)).astype(np.uint8)


def colour(image: Image) -> float:
    """Return the mean distance from grey, in codes."""
    codes = image.astype(np.float64)
    return float(np.abs(codes - codes.mean(axis=2, keepdims=True)).mean())


@pytest.mark.parametrize("qp", [40, 46])
@pytest.mark.parametrize("tint", [(3, -2, -3), (-3, 3, -3), (-2, -1, 4)])
def test_pale_colours_stay(tint: tuple[float, float, float], qp: int) -> None:
    image = pale(tint)
    assert 0.8 < colour(video(image, qp=qp)) / colour(image) < 1.15  # x264 and x265: 0.87 and more
