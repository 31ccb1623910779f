"""Pictures as the vision tower of a Qwen3-VL is given them, made without the weights: on any CPU, beside the model."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.errors import ShardError
from storage.records import Image
from storage.torchvision import prepare_torchvision
from storage.weights import locate


class Patches(NamedTuple):
    """A picture in patches. values: float32 (N, D), normalised. grid: frames, rows and columns of them; N in all."""

    values: NDArray[np.float32]
    grid: tuple[int, int, int]


Cut = Callable[[Image], Patches]


def open_patches(reference: str) -> Cut:
    """Return what cuts a uint8 image (H, W, 3) into patches by the checkpoint's own processor.

    reference: a folder or hub-id@revision. Raises ShardError, one sentence, where there is no processor to be read.
    """
    prepare_torchvision()
    from transformers import AutoImageProcessor

    processor = load_processor(AutoImageProcessor, reference)

    def cut(image: Image) -> Patches:
        made = processor(images=[np.array(image)], return_tensors="pt")  # a copy: torch wants to be able to write
        frames, rows, columns = made["image_grid_thw"][0].tolist()
        return Patches(values=np.asarray(made["pixel_values"]), grid=(frames, rows, columns))

    return cut


def load_processor(kind: Any, reference: str) -> Any:
    """Return a processor of the checkpoint, of a transformers class `kind`; raises as `open_patches` does."""
    folder = locate(reference)
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        told = " ".join(str(error).split())[:200]
        raise ShardError(f"{folder} holds no processor of Qwen3-VL that can be read: {told}") from error
