"""SAM-2 in two checkpoint formats behind one door: Meta's `sam2` package, and transformers' Sam2Model.

Both are told the same: an image is embedded once, then points are asked for masks. What differs is how an image is
resized: the package resizes numbers in [0, 1], transformers bytes, so each is prepared as its own library does, by
`open_pixels`, which needs no weights.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from storage.errors import SettingsError, ShardError
from storage.records import Image
from storage.weights import check_safetensors, load_pretrained, raise_unless_whole, read_config

SIDE = 1024  # of what the network sees, whatever the image
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BLOCKS = {12: "t", 16: "s", 24: "b+", 48: "l"}  # of the image encoder, tiny to large
TRUNK = "image_encoder.trunk.blocks."
MODEL_TYPES = ("sam2", "sam2_video")  # published folders are of the video model, which holds the image model
IN_2_1 = "no_obj_embed_spatial"  # only SAM-2.1 has it

Tensor = Any  # torch is imported when weights are loaded
Pixels = NDArray[np.float32]  # (3, S, S), as the network was trained


class Segmenter(Protocol):
    """A loaded SAM-2."""

    def embed(self, pixels: Sequence[Pixels]) -> list[Any]:
        """Return what the image encoder says of each image that `open_pixels` prepared; all go through it together."""

    def masks(self, embedding: Any, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return for P points, (P, 2) of (column, row) in [0, 1], three masks each and how good they are.

        Logits, float32 (P, 3, h, w) with 0 the border, and predicted intersection over union, float32 (P, 3).
        """


class PackageModel:
    """A state dict of the `sam2` package, whose configuration its names and shapes tell."""

    def __init__(self, weights: Path, device: str, *, is_compiled: bool) -> None:
        from safetensors.torch import load_file
        from sam2.build_sam import build_sam2

        [file, *others] = check_safetensors(weights)
        if others:
            raise ShardError(f"{weights} holds {len(others) + 1} .safetensors files, expected one; name the one meant")
        state = load_file(file)
        model = build_sam2(_configuration(file, state), None, device="cpu", apply_postprocessing=False)
        _load(file, model, state)
        self._model, self._device = model.to(device).eval().requires_grad_(False), device
        if is_compiled:
            import torch

            self._model.image_encoder = torch.compile(self._model.image_encoder)

    def embed(self, pixels: Sequence[Pixels]) -> list[Any]:
        """See `Segmenter`."""
        seen = self._model.forward_image(_stacked(pixels).to(self._device))
        _, features, _, sizes = self._model._prepare_backbone_features(seen)
        features[-1] = features[-1] + self._model.no_mem_embed
        maps = [
            feature.permute(1, 2, 0).reshape(len(pixels), -1, *size)
            for feature, size in zip(features, sizes, strict=True)
        ]
        return [[item[index : index + 1] for item in maps] for index in range(len(pixels))]

    def masks(self, embedding: Any, points: Tensor) -> tuple[Tensor, Tensor]:
        """See `Segmenter`."""
        import torch

        encoder, decoder = self._model.sam_prompt_encoder, self._model.sam_mask_decoder
        labels = torch.ones(len(points), 1, dtype=torch.int, device=points.device)
        sparse, dense = encoder(points=(points[:, None] * SIDE, labels), boxes=None, masks=None)
        logits, scores, _, _ = decoder(
            image_embeddings=embedding[-1],
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            repeat_image=True,
            high_res_features=embedding[:-1],
        )
        return logits.float(), scores.float()


class TransformersModel:
    """A folder that `save_pretrained` of a Sam2Model, or of the video model, wrote."""

    def __init__(self, weights: Path, device: str, *, is_compiled: bool) -> None:
        from transformers import Sam2Model

        self._model, self._device = load_pretrained(Sam2Model, str(weights), device=device), device
        self._side = int(self._model.config.prompt_encoder_config.image_size)
        if is_compiled:
            import torch

            self._model.vision_encoder = torch.compile(self._model.vision_encoder)

    def embed(self, pixels: Sequence[Pixels]) -> list[Any]:
        """See `Segmenter`."""
        maps = self._model.get_image_embeddings(_stacked(pixels).to(self._device))
        return [[item[index : index + 1] for item in maps] for index in range(len(pixels))]

    def masks(self, embedding: Any, points: Tensor) -> tuple[Tensor, Tensor]:
        """See `Segmenter`."""
        import torch

        output = self._model(
            image_embeddings=list(embedding),
            input_points=(points * self._side)[None, :, None],
            input_labels=torch.ones(1, len(points), 1, dtype=torch.long, device=points.device),
        )
        return output.pred_masks[0].float(), output.iou_scores[0].float()


def open_model(weights: Path, device: str, *, is_compiled: bool = False) -> Segmenter:
    """Return the SAM-2 at `weights`: a folder with config.json, or the safetensors that convert made of a `.pt` file.

    Raises SettingsError and ShardError, naming file and keys, if there is none.
    """
    if _is_folder(weights):
        return TransformersModel(weights, device, is_compiled=is_compiled)
    return PackageModel(weights, device, is_compiled=is_compiled)


def open_pixels(weights: Path) -> Callable[[Image], Pixels]:
    """Return what makes of a uint8 image (H, W, 3) the network's input; reads the processor's file, not the weights.

    Raises as `open_model` does, and ShardError where a folder has no processor.
    """
    if not _is_folder(weights):
        return _as_the_package
    from transformers import Sam2ImageProcessor

    try:
        processor = Sam2ImageProcessor.from_pretrained(weights, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ShardError(f"{weights} holds no readable preprocessor_config.json; copy that of the model") from error
    return lambda image: np.asarray(processor(images=[image], return_tensors="pt")["pixel_values"][0])


def _as_the_package(image: Image) -> Pixels:
    import torch

    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    pixels = torch.nn.functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)[0]
    mean, std = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
    return np.asarray((pixels - mean) / std)


def _stacked(pixels: Sequence[Pixels]) -> Tensor:
    import torch

    return torch.from_numpy(np.stack(pixels))


def _is_folder(weights: Path) -> bool:
    """Return whether `weights` is a folder of transformers; raises SettingsError where it is of another model."""
    config = weights / "config.json"
    if not config.is_file():
        return False
    kind = read_config(config).get("model_type")
    if kind not in MODEL_TYPES:
        raise SettingsError(f"{config} is of a {kind!r} model; sam2 reads {' and '.join(MODEL_TYPES)}")
    return True


def _configuration(file: Path, state: dict[str, Tensor]) -> str:
    blocks = {name.removeprefix(TRUNK).partition(".")[0] for name in state if name.startswith(TRUNK)}
    if len(blocks) not in BLOCKS:
        found = f"{len(blocks)} of {TRUNK}*, among keys such as {min(state)}" if state else "no key"
        expected = ", ".join(map(str, BLOCKS))
        raise ShardError(f"{file} is no SAM-2 state dict: expected {expected} blocks, found {found}")
    size = BLOCKS[len(blocks)]
    version = "sam2.1" if IN_2_1 in state else "sam2"
    return f"configs/{version}/{version}_hiera_{size}.yaml"


def _load(file: Path, model: Any, state: dict[str, Tensor]) -> None:
    expected = model.state_dict()
    shapes = {name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape}
    raise_unless_whole(file, "SAM-2", expected.keys() - state.keys(), state.keys() - expected.keys(), shapes)
    model.load_state_dict(state, strict=True)
