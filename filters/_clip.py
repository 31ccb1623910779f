"""CLIP through open_clip: unit embeddings of images and texts, from a checkpoint in open_clip's published layout.

That is a folder with `open_clip_config.json`, one file of safetensors and, where the config names a tokenizer of
transformers, its files. open_clip itself would fall back to pickles and fetch what a config names; here the model is
built empty, from a config that can name nothing elsewhere, and filled strictly.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from storage.errors import SettingsError
from storage.records import Image
from storage.torchvision import prepare_torchvision
from storage.weights import check_safetensors, locate, raise_unless_whole

Embeddings = NDArray[np.float32]
Pixels = NDArray[np.float32]  # (3, S, S), as the network was trained

_CONFIG = "open_clip_config.json"
_SIZE = 224  # of the image, where a config does not say
_PUBLISHED = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
_WORDS = frozenset(
    {"clean", "strip_sep_token", "language", "context_length"}
)  # to a tokenizer; never where its code is
_OLD = "text.transformer.embeddings.position_ids"  # written by transformers before 4.31, read by none


class Model(BaseModel, frozen=True, extra="forbid"):
    """Which model, and how it runs. weights: a folder or hub-id@revision. batch: images at a time."""

    weights: str = ""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch: Annotated[int, Field(ge=1, le=4096)] = 32


class Clip:
    """A loaded model. scale: what cosines are multiplied by before a softmax, as the model was trained."""

    def __init__(self, model: Any, tokenizer: Any, options: Model, device: str) -> None:
        import torch

        self.scale = float(model.logit_scale.detach().exp())  # before half precision rounds it
        model.to(device=device, dtype=getattr(torch, options.dtype)).eval().requires_grad_(False)
        self._model, self._tokenizer = model, tokenizer
        self._device, self._batch = device, options.batch
        self._dtype = getattr(torch, options.dtype)

    def images(self, pixels: Sequence[Pixels]) -> Embeddings:
        """Return the unit embeddings, float32 (N, D), of images as `open_pixels` prepares them."""
        import torch

        found = []
        for start in range(0, len(pixels), self._batch):
            batch = torch.from_numpy(np.stack(pixels[start : start + self._batch]))
            found.append(self._unit(self._model.encode_image, batch.to(self._device, self._dtype)))
        return np.concatenate(found)

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Return the unit embeddings, float32 (N, D), of texts."""
        return self._unit(self._model.encode_text, self._tokenizer(list(texts)).to(self._device))

    def _unit(self, encode: Any, batch: Any) -> Embeddings:
        import torch

        with torch.inference_mode():
            embedded = encode(batch).float()
            unit = embedded / embedded.norm(dim=-1, keepdim=True)
        return np.asarray(unit.cpu().numpy())


def open_pixels(options: Model) -> Callable[[Image], Pixels]:
    """Return what makes of a uint8 image (H, W, 3) the network's input; reads the config, not the weights.

    Raises SettingsError when the folder is not in open_clip's layout.
    """
    prepare_torchvision()
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
    from PIL import Image as Pictures

    config = _config(locate(options.weights))
    chosen = merge_preprocess_dict(PreprocessCfg(), config.get("preprocess_cfg", {}))
    size = config["model_cfg"]["vision_cfg"].get("image_size", _SIZE)
    chosen["size"] = tuple(size) if isinstance(size, list) else (size, size)
    transform = image_transform_v2(PreprocessCfg(**chosen), is_train=False)
    return lambda image: np.asarray(transform(Pictures.fromarray(image)).numpy())


def open_clip_model(options: Model, device: str) -> Clip:
    """Load a model on `device`.

    Raises SettingsError when the folder is not in open_clip's layout, ShardError when its weights are not those of its
    config: one sentence that names the file and the keys.
    """
    prepare_torchvision()
    folder = locate(options.weights)
    config = _config(folder)
    try:
        model, tokenizer = _built(folder, config)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, AssertionError) as error:
        told = " ".join(str(error).split())[:300]
        raise SettingsError(f"{folder / _CONFIG} describes no model that open_clip can build: {told}") from error
    _fill(model, folder)
    return Clip(model, tokenizer, options, device)


def _config(folder: Path) -> dict[str, Any]:
    """Return the config after refusing what would reach elsewhere: another repository, or code beside the weights."""
    file = folder / _CONFIG
    try:
        config = json.loads(file.read_bytes())
        text, vision = config["model_cfg"]["text_cfg"], config["model_cfg"]["vision_cfg"]
        words = {**text.get("tokenizer_kwargs", {})}
        elsewhere = (
            "hf_model_name" in text or ":" in str(vision.get("timm_model_name", "")) or not words.keys() <= _WORDS
        )
    except OSError as error:
        raise SettingsError(f"{file} cannot be read; name a folder in open_clip's layout") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{file} is not the config of an open_clip model; fetch it again") from error
    if elsewhere:
        raise SettingsError(f"{file} names a model or tokenizer elsewhere, which is not followed; take another CLIP")
    return dict(config)


def _built(folder: Path, config: dict[str, Any]) -> tuple[Any, Any]:
    """Return the empty model and its tokenizer, as open_clip's factory makes them of a local folder."""
    import open_clip
    from open_clip.tokenizer import HFTokenizer

    content = {**config["model_cfg"]}
    content["vision_cfg"] = {**content["vision_cfg"], "timm_model_pretrained": False}
    text = content["text_cfg"]
    kind = open_clip.CustomTextCLIP if content.pop("custom_text", False) else open_clip.CLIP
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts of torch that open_clip still calls by older names
        model = kind(**content)
        words = {"context_length": text.get("context_length", 77), **text.get("tokenizer_kwargs", {})}
        named = text.get("hf_tokenizer_name")
        tokenizer = HFTokenizer(str(folder), **words) if named else open_clip.SimpleTokenizer(**words)
    return model, tokenizer


def _fill(model: Any, folder: Path) -> None:
    from open_clip.model import convert_to_custom_text_state_dict
    from safetensors.torch import load_file

    files = {file.name: file for file in check_safetensors(folder)}
    file = next((files[name] for name in _PUBLISHED if name in files), None)
    if file is None:
        raise SettingsError(f"{folder} holds none of {', '.join(_PUBLISHED)}; name a folder in open_clip's layout")
    expected, found = model.state_dict(), load_file(file)
    found.pop(_OLD, None)
    if "text.positional_embedding" in expected:
        found = convert_to_custom_text_state_dict(found)
    common = expected.keys() & found.keys()
    for name in common & {"logit_scale", "logit_bias"}:
        found[name] = found[name].reshape(expected[name].shape)  # a number, or a vector of one
    other = [name for name in common if expected[name].shape != found[name].shape]
    raise_unless_whole(file, "its config", expected.keys() - common, found.keys() - common, other)
    model.load_state_dict(found)
