"""Prompt and degraded image to the hidden states of Qwen2.5-VL, frozen.

Every sample has its own: the language model sees the degraded image beside the prompt. The conversation is a prefix
that asks for an enhanced prompt, the image, the task's prompt; the rows of system message and prefix are dropped and
the rest is padded or cut to 640 rows. The prefix is part of how the weights were trained, and is handed in.

Tokenizer and image processor are used apart from transformers' processor, which needs torchvision for videos.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from storage.errors import SettingsError, ShardError
from storage.torchvision import prepare_torchvision

ROWS = 640
DROPPED = 217  # rows of system message and prefix under the released tokenizer, with the right prefix
WORDS = 151_643  # of the released tokenizer, before its special ones
PIXELS = (256 * 28 * 28, 324 * 28 * 28)  # fewest and most pixels the language model is shown
CELL = 28  # pixels a side of one image token
IMAGE = "<|image_pad|>"


class QwenPrompts:
    """The frozen language model with its tokenizer and image processor."""

    whole = False

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any, prefix: str, *, rows: int = ROWS) -> None:
        self.model = model.eval().requires_grad_(requires_grad=False)
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.prefix, self.rows = prefix, rows
        self.image_id = int(tokenizer.convert_tokens_to_ids(IMAGE))
        self.dropped = len(self._ids(self._text("").partition(prefix)[0] + prefix))

    @torch.no_grad()
    def encode(self, images: Sequence[NDArray[Any]], prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the hidden states (B, S, E) of each image with its prompt, and their mask (B, S).

        Images are uint8 (H, W, 3) sRGB. Guidance is measured from the prompt "" with the same image.
        """
        encoded = [self._encode(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
        hidden_BSE = encoded[0].new_zeros(len(encoded), self.rows, encoded[0].shape[-1])
        mask_BS = torch.zeros(len(encoded), self.rows, dtype=torch.bool, device=hidden_BSE.device)
        for sample, valid_SE in enumerate(encoded):
            hidden_BSE[sample, : len(valid_SE)] = valid_SE
            mask_BS[sample, : len(valid_SE)] = True
        return hidden_BSE, mask_BS

    def _encode(self, image: NDArray[Any], prompt: str) -> Tensor:
        pixels = self.image_processor(images=[_on_cells(image)], return_tensors="pt").to(self.model.device)
        cells = int(pixels["image_grid_thw"].prod()) // self.image_processor.merge_size**2
        ids = torch.tensor([self._ids(self._text(prompt).replace(IMAGE, IMAGE * cells))], device=self.model.device)
        out = self.model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == self.image_id).long(),  # without them image positions are silently wrong
            pixel_values=pixels["pixel_values"].to(self.model.dtype),
            image_grid_thw=pixels["image_grid_thw"],
        )
        valid: Tensor = out.last_hidden_state[0, self.dropped : self.dropped + self.rows]
        return valid

    def _text(self, prompt: str) -> str:
        content = [{"type": "text", "text": self.prefix}, {"type": "image"}, {"type": "text", "text": prompt}]
        text: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True, add_vision_id=True
        )
        return text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text)["input_ids"]
        return ids


def load_qwen(root: Path, prefix: str, *, device: str = "cpu", dtype: torch.dtype = torch.bfloat16) -> QwenPrompts:
    """Return the encoder in a bundle: the folders `text_encoder` and `processor`, read as safetensors only.

    Raises SettingsError when a folder is missing, the tokenizer has no image token or the prefix is not that of the
    released weights, ShardError when the weights are not whole.
    """
    prepare_torchvision()
    from safetensors import SafetensorError
    from transformers import AutoTokenizer, Qwen2_5_VLModel
    from transformers.models.qwen2_vl import Qwen2VLImageProcessorPil

    for folder in (root / "text_encoder", root / "processor"):
        if not folder.is_dir():
            raise SettingsError(f"{folder} is missing; name the root of a bundle that holds text_encoder and processor")
    tokenizer = AutoTokenizer.from_pretrained(root / "processor", local_files_only=True)
    if IMAGE not in tokenizer.get_vocab():
        raise SettingsError(f"the tokenizer in {root / 'processor'} has no {IMAGE}: it is not that of Qwen2.5-VL")
    options = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    try:
        with _silence():
            model, found = Qwen2_5_VLModel.from_pretrained(root / "text_encoder", dtype=dtype, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ShardError(f"{root / 'text_encoder'} is not a whole Qwen2.5-VL ({reason})") from error
    if missing := sorted(found["missing_keys"]):  # transformers would fill them with noise
        raise ShardError(f"{root / 'text_encoder'} lacks {len(missing)} tensors, such as {missing[0]}")
    images = Qwen2VLImageProcessorPil(min_pixels=PIXELS[0], max_pixels=PIXELS[1])
    encoder = QwenPrompts(model.to(device), tokenizer, images, prefix)
    check_prefix(encoder.dropped, len(tokenizer))
    return encoder


@contextmanager
def _silence() -> Iterator[None]:
    """Keep transformers from reporting that lm_head is not used; what is missing is an error of ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def check_prefix(dropped: int, words: int) -> None:
    """Raise SettingsError when the released tokenizer, known by its size, makes other than 217 rows of the prefix."""
    if words >= WORDS and dropped != DROPPED:
        raise SettingsError(
            f"system message and prefix come to {dropped} rows, expected {DROPPED}; use the released one"
        )


def _on_cells(image: NDArray[Any]) -> Any:
    """Return the picture (PIL) with both sides rounded to whole cells, as the released pipeline hands it on."""
    from PIL import Image

    height, width = (max(CELL, round(side / CELL) * CELL) for side in image.shape[:2])
    return Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
