"""ViTPose (Xu et al., arXiv 2204.12484) through transformers: where the joints of people are.

People are found by a detector of COCO's classes (RT-DETR, DETR, whatever AutoModelForObjectDetection loads); without
one, the whole image is taken as one person. Checkpoints are folders as `save_pretrained` writes them, with the
processors' files; pixels are prepared and joints are read by the library's own processors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import SettingsError
from storage.records import Image
from storage.torchvision import prepare_torchvision
from storage.weights import load_pretrained, locate

Box = tuple[float, float, float, float]  # left, top, width, height in pixels, as COCO has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """A person's joints. points: (K, 2) row and column in pixels. scores: (K,), the peaks of the heat maps."""

    points: NDArray[np.float32]
    scores: NDArray[np.float32]


People = Callable[[Sequence[Image]], list[list[Box]]]
Poses = Callable[[Image, Sequence[Box]], list[Pose]]


def whole(images: Sequence[Image]) -> list[list[Box]]:
    """Return one box around each image."""
    return [[(0.0, 0.0, float(image.shape[1]), float(image.shape[0]))] for image in images]


def open_people(weights: str, *, threshold: float, most: int, device: str, dtype: str) -> People:
    """Return a function from uint8 images (H, W, 3) to the boxes of at most `most` people, likeliest first.

    Raises SettingsError when the detector knows no people, and as `load_pretrained` does.
    """
    prepare_torchvision()
    import torch
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    model = load_pretrained(AutoModelForObjectDetection, weights, device=device, dtype=getattr(torch, dtype))
    processor = _processor(AutoImageProcessor, weights)
    people = {index for index, name in model.config.id2label.items() if str(name).lower() == "person"}
    if not people:
        raise SettingsError(f"{locate(weights)} has no label 'person'; name a detector of COCO's classes")

    def find(images: Sequence[Image]) -> list[list[Box]]:
        boxes: list[list[Box]] = []
        for image in images:  # sizes differ, and a batch would be padded to the largest
            pixels = processor(images=image, return_tensors="pt").to(device, model.dtype)
            with torch.inference_mode():
                outputs = model(**pixels)
            sizes = torch.tensor([image.shape[:2]])
            found = processor.post_process_object_detection(outputs, threshold=threshold, target_sizes=sizes)[0]
            boxes.append(_people(found, people, image)[:most])
        return boxes

    return find


def open_poses(weights: str, *, device: str, dtype: str) -> Poses:
    """Return a function from an image and boxes to the pose in each box; raises as `load_pretrained` does."""
    prepare_torchvision()
    import torch
    from transformers import VitPoseForPoseEstimation, VitPoseImageProcessor

    model = load_pretrained(VitPoseForPoseEstimation, weights, device=device, dtype=getattr(torch, dtype))
    processor = _processor(VitPoseImageProcessor, weights)
    has_experts = model.config.backbone_config.num_experts > 1

    def poses(image: Image, boxes: Sequence[Box]) -> list[Pose]:
        if not boxes:
            return []
        several = [[list(box) for box in boxes]]
        pixels = processor(images=[image], boxes=several, return_tensors="pt")["pixel_values"].to(device, model.dtype)
        experts = {"dataset_index": torch.zeros(len(boxes), dtype=torch.long, device=device)} if has_experts else {}
        with torch.inference_mode():
            outputs = model(pixel_values=pixels, **experts)
        outputs.heatmaps = outputs.heatmaps.float()
        return [_pose(one) for one in processor.post_process_pose_estimation(outputs, boxes=several)[0]]

    return poses


def _processor(kind: Any, weights: str) -> Any:
    folder = locate(weights)
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        told = " ".join(str(error).split())[:200]
        raise SettingsError(f"{folder} lacks the files of its processor; fetch all of it: {told}") from error


def _people(found: Any, people: set[int], image: Image) -> list[Box]:  # a dict of tensors; torch is imported late
    height, width = image.shape[:2]
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
