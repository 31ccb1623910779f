"""ViTPose (Xu et al., arXiv 2204.12484) through transformers: where the joints of people are.

People are found by a detector of COCO's classes (RT-DETR, DETR, whatever AutoModelForObjectDetection loads); without
one, the whole image is taken as one person. Checkpoints are folders as `save_pretrained` writes them, with the
processors' files; pixels are prepared and joints are read by the library's own processors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import SettingsError
from storage.records import Image
from storage.torchvision import prepare_torchvision
from storage.weights import load_pretrained, load_processor, locate

Box = tuple[float, float, float, float]  # left, top, width, height in pixels, as COCO has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """A person's joints. points: (K, 2) row and column in pixels. scores: (K,), the peaks of the heat maps."""

    points: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """An image as a detector is given it. inputs: what the processor makes of it, by name. shape: (H, W) of it."""

    inputs: Mapping[str, NDArray[Any]]
    shape: tuple[int, int]


Crops = NDArray[np.float32]  # (N, 3, h, w), one for each box
Crop = Callable[[Image, Sequence[Box]], Crops]
People = Callable[[Look], list[Box]]
Poses = Callable[[Crops, Sequence[Box]], list[Pose]]


def whole(image: Image) -> list[Box]:
    """Return one box around an image."""
    return [(0.0, 0.0, float(image.shape[1]), float(image.shape[0]))]


def open_look(weights: str) -> Callable[[Image], Look]:
    """Return what makes of a uint8 image (H, W, 3) the detector's input; reads the processor's file, not the weights.

    Raises SettingsError, one sentence, where it is not there.
    """
    prepare_torchvision()
    from transformers import AutoImageProcessor

    processor = load_processor(AutoImageProcessor, weights)

    def look(image: Image) -> Look:
        inputs = processor(images=image, return_tensors="pt")
        return Look(inputs={name: values.numpy() for name, values in inputs.items()}, shape=image.shape[:2])

    return look


def open_crop(weights: str) -> Crop:
    """Return what cuts boxes out of an image as ViTPose sees them; raises as `open_look` does."""
    prepare_torchvision()
    from transformers import VitPoseImageProcessor

    processor = load_processor(VitPoseImageProcessor, weights)

    def crop(image: Image, boxes: Sequence[Box]) -> Crops:
        several = [[list(box) for box in boxes]]
        return np.asarray(processor(images=[image], boxes=several, return_tensors="pt")["pixel_values"])

    return crop


def open_people(weights: str, *, threshold: float, most: int, device: str, dtype: str) -> People:
    """Return a function from what `open_look` makes of an image to the boxes of at most `most` people, likeliest first.

    Raises SettingsError when the detector knows no people, and as `load_pretrained` does.
    """
    prepare_torchvision()
    import torch
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    model = load_pretrained(AutoModelForObjectDetection, weights, device=device, dtype=getattr(torch, dtype))
    processor = load_processor(AutoImageProcessor, weights)
    people = {index for index, name in model.config.id2label.items() if str(name).lower() == "person"}
    if not people:
        raise SettingsError(f"{locate(weights)} has no label 'person'; name a detector of COCO's classes")

    def find(look: Look) -> list[Box]:  # one by one: sizes differ, and a batch would be padded to the largest
        inputs = {name: torch.from_numpy(values.copy()).to(device) for name, values in look.inputs.items()}
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        with torch.inference_mode():
            outputs = model(**inputs)
        sizes = torch.tensor([look.shape])
        found = processor.post_process_object_detection(outputs, threshold=threshold, target_sizes=sizes)[0]
        return _people(found, people, look.shape)[:most]

    return find


def open_poses(weights: str, *, device: str, dtype: str) -> Poses:
    """Return a function from crops and their boxes to the pose in each box; raises as `load_pretrained` does."""
    prepare_torchvision()
    import torch
    from transformers import VitPoseForPoseEstimation, VitPoseImageProcessor

    model = load_pretrained(VitPoseForPoseEstimation, weights, device=device, dtype=getattr(torch, dtype))
    processor = load_processor(VitPoseImageProcessor, weights)
    has_experts = model.config.backbone_config.num_experts > 1

    def poses(crops: Crops, boxes: Sequence[Box]) -> list[Pose]:
        pixels = torch.from_numpy(crops.copy()).to(device, model.dtype)
        experts = {"dataset_index": torch.zeros(len(boxes), dtype=torch.long, device=device)} if has_experts else {}
        with torch.inference_mode():
            outputs = model(pixel_values=pixels, **experts)
        outputs.heatmaps = outputs.heatmaps.float()
        several = [[list(box) for box in boxes]]
        return [_pose(one) for one in processor.post_process_pose_estimation(outputs, boxes=several)[0]]

    return poses


def _people(found: Any, people: set[int], shape: tuple[int, int]) -> list[Box]:
    """Return the boxes of `found`, a dict of tensors, that are people's, likeliest first."""
    height, width = shape
    boxes: list[Box] = []
    order = found["scores"].argsort(descending=True, stable=True).tolist()
    for index in (index for index in order if int(found["labels"][index]) in people):
        left, top, right, bottom = (float(side) for side in found["boxes"][index])
        left, top = max(0.0, left), max(0.0, top)
        if min(right, width) > left and min(bottom, height) > top:
            boxes.append((left, top, min(right, width) - left, min(bottom, height) - top))
    return boxes


def _pose(found: Any) -> Pose:
    points = np.asarray(found["keypoints"].numpy(), np.float32)[:, ::-1]
    return Pose(points=points, scores=np.asarray(found["scores"].numpy(), np.float32))
