"""The quantisation steps of JPEG: ITU-T T.81, annex K, and how libjpeg scales them. Needs NumPy only."""

import numpy as np

_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))
STANDARD = np.stack([np.array(_LUMA), np.pad(_CHROMA, (0, 4), constant_values=99)])  # of quality 50: (2, 8, 8)


def percent(quality: int) -> int:
    """Return by how many hundredths the standard steps are multiplied at `quality`, 1 to 100."""
    return 5000 // quality if quality < 50 else 200 - 2 * quality
