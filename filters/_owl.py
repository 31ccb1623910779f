"""OWLv2 (Minderer et al., arXiv 2306.09683) through transformers: where in an image is what a text says.

The checkpoint is a folder as `save_pretrained` writes it, with the processor's files; pixels are prepared and boxes are
read by the library's own processor.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from storage.errors import SettingsError
from storage.records import Image
from storage.torchvision import prepare_torchvision
from storage.weights import load_pretrained, locate


class Detection(NamedTuple):
    """The likeliest box of an image: its probability and the share of the image that it covers, both in [0, 1]."""

    score: float
    area: float


Detect = Callable[[Sequence[Image]], list[Detection]]


def open_owl(weights: str, queries: Sequence[str], *, device: str, dtype: str, batch: int) -> Detect:
    """Return a function from uint8 images (H, W, 3) to the likeliest box of any of the `queries`.

    Raises SettingsError or ShardError, one sentence, when the folder holds no whole OWLv2 with its processor.
    """
    prepare_torchvision()
    import torch
    from transformers import Owlv2ForObjectDetection, Owlv2Processor

    model = load_pretrained(Owlv2ForObjectDetection, weights, device=device, dtype=getattr(torch, dtype))
    folder = locate(weights)
    try:
        processor = Owlv2Processor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        told = " ".join(str(error).split())[:200]
        raise SettingsError(f"{folder} lacks the files of OWLv2's processor; fetch all of it: {told}") from error
    text = processor(text=[list(queries)], return_tensors="pt").to(device)

    def detect(images: Sequence[Image]) -> list[Detection]:
        found: list[Detection] = []
        for start in range(0, len(images), batch):
            some = images[start : start + batch]
            pixels = processor(images=list(some), return_tensors="pt")["pixel_values"].to(device, model.dtype)
            tokens = {name: values.repeat(len(some), 1) for name, values in text.items()}
            with torch.inference_mode():
                outputs = model(pixel_values=pixels, **tokens)
            sizes = torch.tensor([image.shape[:2] for image in some])
            boxes = processor.post_process_grounded_object_detection(outputs, threshold=-1.0, target_sizes=sizes)
            found += [_likeliest(one, image) for one, image in zip(boxes, some, strict=True)]
        return found

    return detect


def _likeliest(boxes: Any, image: Image) -> Detection:  # a dict of tensors; torch is imported late
    height, width = image.shape[:2]
    best = int(boxes["scores"].argmax())
    left, top, right, bottom = (float(side) for side in boxes["boxes"][best])
    across = max(0.0, min(right, width) - max(left, 0.0))
    down = max(0.0, min(bottom, height) - max(top, 0.0))
    return Detection(score=float(boxes["scores"][best]), area=across * down / (width * height))
