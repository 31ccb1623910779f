"""OWLv2 (Minderer et al., arXiv 2306.09683) through transformers: where in an image is what a text says.

The checkpoint is a folder as `save_pretrained` writes it, with the processor's files; pixels are prepared and boxes are
read by the library's own processor.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.records import Image
from storage.torchvision import prepare_torchvision
from storage.weights import load_pretrained, load_processor

PROCESSOR = "OWLv2's processor"


class Prepared(NamedTuple):
    """An image as the network is given it. pixels: float32 (3, S, S). shape: (H, W) of the image."""

    pixels: NDArray[np.float32]
    shape: tuple[int, int]


class Detection(NamedTuple):
    """The likeliest box of an image: its probability and the share of the image that it covers, both in [0, 1]."""

    score: float
    area: float


Detect = Callable[[Sequence[Prepared]], list[Detection]]


def open_prepare(weights: str) -> Callable[[Image], Prepared]:
    """Return what makes of a uint8 image (H, W, 3) the network's input; reads the processor's files, not the weights.

    Raises SettingsError, one sentence, where these are not there.
    """
    prepare_torchvision()
    from transformers import Owlv2ImageProcessor

    processor = load_processor(Owlv2ImageProcessor, weights, of=PROCESSOR)
    return lambda image: Prepared(
        pixels=np.asarray(processor(images=image, return_tensors="pt")["pixel_values"][0]), shape=image.shape[:2]
    )


def open_owl(weights: str, queries: Sequence[str], *, device: str, dtype: str, batch: int) -> Detect:
    """Return a function from prepared images to the likeliest box of any of the `queries`.

    Raises SettingsError or ShardError, one sentence, when the folder holds no whole OWLv2 with its processor.
    """
    prepare_torchvision()
    import torch
    from transformers import Owlv2ForObjectDetection, Owlv2Processor

    model = load_pretrained(Owlv2ForObjectDetection, weights, device=device, dtype=getattr(torch, dtype))
    processor = load_processor(Owlv2Processor, weights, of=PROCESSOR)
    text = processor(text=[list(queries)], return_tensors="pt").to(device)

    def detect(images: Sequence[Prepared]) -> list[Detection]:
        found: list[Detection] = []
        for start in range(0, len(images), batch):
            some = images[start : start + batch]
            pixels = torch.from_numpy(np.stack([one.pixels for one in some])).to(device, model.dtype)
            tokens = {name: values.repeat(len(some), 1) for name, values in text.items()}
            with torch.inference_mode():
                outputs = model(pixel_values=pixels, **tokens)
            sizes = torch.tensor([one.shape for one in some])
            boxes = processor.post_process_grounded_object_detection(outputs, threshold=-1.0, target_sizes=sizes)
            found += [_likeliest(boxes_of_one, one.shape) for boxes_of_one, one in zip(boxes, some, strict=True)]
        return found

    return detect


def _likeliest(boxes: Any, shape: tuple[int, int]) -> Detection:  # a dict of tensors; torch is imported late
    height, width = shape
    best = int(boxes["scores"].argmax())
    left, top, right, bottom = (float(side) for side in boxes["boxes"][best])
    across = max(0.0, min(right, width) - max(left, 0.0))
    down = max(0.0, min(bottom, height) - max(top, 0.0))
    return Detection(score=float(boxes["scores"][best]), area=across * down / (width * height))
