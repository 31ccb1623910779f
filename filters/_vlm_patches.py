"""Pictures as the vision tower of a Qwen3-VL is given them, made without the weights: on any CPU, beside the model."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.records import Image
from storage.torchvision import prepare_torchvision
from storage.weights import load_processor

PROCESSOR = "Qwen3-VL's processor"


class Patches(NamedTuple):
    """A picture in patches. values: float32 (N, D), normalised. grid: frames, rows and columns of them; N in all."""

    values: NDArray[np.float32]
    grid: tuple[int, int, int]


Cut = Callable[[Image], Patches]


def open_patches(reference: str) -> Cut:
    """Return what cuts a uint8 image (H, W, 3) into patches by the checkpoint's own processor.

    reference: a folder or hub-id@revision. Raises SettingsError, one sentence, where there is no processor to be read.
    """
    prepare_torchvision()
    from transformers import AutoImageProcessor

    processor = load_processor(AutoImageProcessor, reference, of=PROCESSOR)

    def cut(image: Image) -> Patches:
        made = processor(images=[np.array(image)], return_tensors="pt")  # a copy: torch wants to be able to write
        frames, rows, columns = made["image_grid_thw"][0].tolist()
        return Patches(values=np.asarray(made["pixel_values"]), grid=(frames, rows, columns))

    return cut
