"""A baseline JPEG (ITU-T T.81) without its bytes: what is lost is lost in colours, halved chroma and quantisation.

To the last bit what libjpeg-turbo writes and reads by default: the arithmetic that all builds of libjpeg share is whole
numbers throughout, and entropy coding, half of a codec's time, loses nothing. `batched.jpeg` says the same in torch.
"""

import numpy as np
from numpy.typing import NDArray

from storage.records import Image


def coded(image: Image, steps: NDArray[np.int32], *, halving: tuple[int, int], before: tuple[int, int]) -> Image:
    """Return `image` after a JPEG of quantisation `steps`, (2, 64) of luma and chroma, 1 to 255.

    halving: of chroma by rows and by columns: (1, 1), (1, 2) or (2, 2). before: rows and columns, 0 to 7, that the JPEG
    holds above and to the left of the picture, and that repeat its border: where its blocks begin.
    """
    from degradations.kernels.blocks import code
    from degradations.kernels.planes import join, split

    image = np.ascontiguousarray(image)
    rows, columns = (
        -(-(side + more) // (8 * factor)) * 8
        for side, more, factor in zip(image.shape[:2], before, halving, strict=True)
    )
    luma, chroma = np.empty((rows * halving[0], columns * halving[1]), np.uint8), np.empty((2, rows, columns), np.uint8)
    split(image, halving, before, luma, chroma)
    code(steps[0], luma)
    code(steps[1], chroma.reshape(2 * rows, columns))
    out = np.empty_like(image)
    join(luma, chroma, halving, before, out)
    return out
