"""Depth by a network: DPT-Large, DPT-Hybrid and BEiT of MiDaS, and Depth-Anything-V2, all through transformers.

Ranftl et al. 2021 (DPT, arXiv:2103.13413) and 2022 (MiDaS, arXiv:1907.01341), Birkl et al. 2023 (MiDaS 3.1,
arXiv:2307.14460), Yang et al. 2024 (Depth Anything V2, arXiv:2406.09414). They are trained with a loss that ignores
scale and shift: a prediction p is a/z + b with unknown a > 0 and b. Scale goes when p is divided by its 99th
percentile, which becomes 1, the nearest. Shift cannot be known; the networks end in a ReLU and learn skies as 0, so the
zero they predict is kept as infinitely far instead of stretching every image from 0 to 1: a photograph of a wall stays
nearly flat, and a room's far wall does not become sky. What reads the map:

* haze and rain take distance 1 / (p + offset) with an offset that each pair draws, and scale by the scene's reach;
* defocus takes p itself, because the circle of confusion is linear in 1/z, and the shift only moves the focus.

Metric models predict z, not 1/z, and are refused. MiDaS's own `.pt` files come in by `pairforge convert --to dpt`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from storage.errors import SettingsError, ShardError
from storage.records import Image, Plane
from storage.torchvision import prepare_torchvision
from storage.weights import identity, load_pretrained, locate, read_config
from tasks.annotators import Annotator, Prepare
from tasks.annotators._depth_edges import align

VERSION = "midas-1"
LIBRARIES = ("torch", "transformers")
KINDS = {"dpt": "DPTForDepthEstimation", "depth_anything": "DepthAnythingForDepthEstimation"}
# The first fusion layer never uses its first unit, and Intel's checkpoints leave it out; BEiT's index is computed.
UNUSED = r"fusion_stage\.layers\.0\.residual_layer1\.|relative_position_index|^dpt\.pooler\."
NEAREST = 0.99  # quantile that becomes 1: a few pixels of a twig before the lens are not the scale of the scene

Dtype = Literal["fp32", "bf16", "fp16"]


class Options(BaseModel, frozen=True, extra="forbid"):
    """How the network runs. batch: images at a time. compile: by torch.compile, which takes a minute when it opens."""

    batch: Annotated[int, Field(ge=1, le=256)] = 8
    dtype: Dtype = "fp32"
    compile: bool = False


class Prepared(NamedTuple):
    """An image as the network is given it. pixels: float32 (3, h, w), normalised. shape: (H, W) of the image."""

    pixels: NDArray[np.float32]
    shape: tuple[int, int]


class Estimator:
    """A loaded network; made once per worker."""

    def __init__(self, device: str, weights: str, options: Options) -> None:
        prepare_torchvision()
        import torch
        import transformers

        self._device, self._dtype = device, getattr(torch, _TORCH[options.dtype])
        name = KINDS[_kind(weights)]
        model = load_pretrained(getattr(transformers, name), weights, device=device, dtype=self._dtype, unused=UNUSED)
        self._model = torch.compile(model) if options.compile else model
        self._processor = _processor(weights)

    def disparity(self, prepared: Sequence[Prepared]) -> list[Plane]:
        """Return what the network predicts of each image, float32 (H, W), resized as the library does.

        Images that are equally large when prepared run through the network together.
        """
        import torch

        found: dict[int, Plane] = {}
        for shape in dict.fromkeys(one.pixels.shape for one in prepared):
            members = [index for index, one in enumerate(prepared) if one.pixels.shape == shape]
            pixels = torch.from_numpy(np.stack([prepared[index].pixels for index in members]))
            with torch.inference_mode():
                output = self._model(pixel_values=pixels.to(self._device, self._dtype))
                output["predicted_depth"] = output["predicted_depth"].float()
                sizes = [prepared[index].shape for index in members]
                resized = self._processor.post_process_depth_estimation(output, target_sizes=sizes)
            planes = (item["predicted_depth"].cpu().numpy() for item in resized)
            found.update(
                (index, plane.reshape(size)) for index, plane, size in zip(members, planes, sizes, strict=True)
            )
        return [found[index] for index in range(len(prepared))]


_TORCH = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def load(device: str, weights: str, options: Options) -> Annotator:
    """Return the annotator of the network at `weights`; raises SettingsError or ShardError if it is none."""
    estimator = Estimator(device, weights, options)
    return Annotator(
        kind="depth",
        backend=f"{VERSION}:{identity(weights)[:12]}",
        prepare=open_prepare(weights, options),
        predict=estimator.disparity,
        finish=finish,
        batch=options.batch,
    )


def open_prepare(weights: str, options: Options) -> Prepare:
    """Return what resizes and normalises an image by the checkpoint's own processor: `Prepared`.

    Raises SettingsError where the checkpoint has none.
    """
    del options
    prepare_torchvision()
    processor = _processor(weights)

    def prepare(image: Image) -> Prepared:
        pixels = processor(images=image, return_tensors="pt")["pixel_values"][0]
        return Prepared(pixels=pixels.numpy(), shape=image.shape[:2])

    return prepare


def finish(disparity: Plane, image: Image) -> Plane:
    """Return inverse depth of an image, float32 (H, W) in [0, 1], 1 nearest, with borders where the image has them."""
    return align(inverse_depth(disparity), image)


def inverse_depth(disparity: Plane) -> Plane:
    """Return a prediction, float32 (H, W), scaled to [0, 1] so that its 99th percentile is 1; 0 stays 0.

    Raises ShardError when it is not finite: the weights are not those of a depth network, or its number type is too
    narrow.
    """
    if not np.isfinite(disparity).all():
        raise ShardError("the depth network predicts values that are not finite; choose dtype bf16 or fp32")
    top = float(np.quantile(disparity[::4, ::4], NEAREST))
    if top <= 0:
        return np.zeros_like(disparity, dtype=np.float32)
    return np.asarray(np.clip(disparity * np.float32(1 / top), 0, 1), dtype=np.float32)


def _kind(weights: str) -> str:
    folder = locate(weights)
    file = folder / "config.json"
    if not file.is_file():
        raise SettingsError(f"{folder} holds no config.json; name the folder that `save_pretrained` or convert wrote")
    config = read_config(file)
    kind = config.get("model_type")
    if kind not in KINDS:
        raise SettingsError(f"{file} is of a {kind!r} model; midas reads {' and '.join(KINDS)}")
    if config.get("depth_estimation_type") == "metric":
        raise SettingsError(f"{file} is of a metric model, which predicts distance; name a relative one")
    return str(kind)


def _processor(weights: str) -> Any:
    from transformers import DPTImageProcessor

    folder = locate(weights)
    try:
        return DPTImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"{folder} holds no readable preprocessor_config.json; copy that of the model") from error
