"""Ask a Qwen3-VL checkpoint in this process, through transformers: greedy, at most 32 new tokens.

Its own processor lays out the chat and cuts the pictures into patches, unless these come with the question; questions
of a batch are padded on the left.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from filters._vlm_patches import PROCESSOR, Cut, Patches, open_patches
from filters._vlm_questions import MAX_TOKENS, SYSTEM, Note, Question, no_note
from storage.torchvision import prepare_torchvision
from storage.weights import load_pretrained, load_processor


class Local:
    """An `Ask` that runs `model` with its `processor`, `batch` questions at a time; `cut` makes patches of pictures."""

    def __init__(self, model: Any, processor: Any, cut: Cut, *, batch: int) -> None:
        self.model, self.processor, self._cut, self._batch = model, processor, cut, batch
        processor.tokenizer.padding_side = "left"  # what is generated must follow the question, not the padding

    def __call__(self, questions: Sequence[Question], note: Note = no_note) -> list[str]:
        """Return one text for each question, in order; see `filters._vlm_questions.Ask`."""
        answers: list[str] = []
        for start in range(0, len(questions), self._batch):
            for answer in self._generate(questions[start : start + self._batch]):
                note(len(answers), answer)
                answers.append(answer)
        return answers

    def inputs(self, questions: Sequence[Question]) -> dict[str, Any]:
        """Return what the model is given: token ids and their mask and types, patches, and the grid of each picture.

        As the library's processor does it, which would cut the pictures once more.
        """
        import torch

        patches = [question.patches or tuple(map(self._cut, question.images)) for question in questions]
        texts = [self._with_room(self._chat(one), cut) for one, cut in zip(questions, patches, strict=True)]
        tokens = self.processor.tokenizer(texts, padding=True, return_tensors="pt")
        made = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        if "mm_token_type_ids" in self.processor.model_input_names:  # where pictures are: their positions depend on it
            made["mm_token_type_ids"] = (made["input_ids"] == self.processor.image_token_id).long()
        if pictures := [one for cut in patches for one in cut]:
            made["pixel_values"] = torch.from_numpy(np.concatenate([one.values for one in pictures]))
            made["image_grid_thw"] = torch.tensor([one.grid for one in pictures])
        return made

    def _with_room(self, chat: str, patches: Sequence[Patches]) -> str:
        """Return `chat` with as many tokens for each picture as the model makes of its patches."""
        token, merged = self.processor.image_token, self.processor.image_processor.merge_size**2
        counts = (math.prod(one.grid) // merged for one in patches)
        return re.sub(re.escape(token), lambda _: token * next(counts), chat)

    def _chat(self, question: Question) -> str:
        content = [*({"type": "image"} for _ in question.images), {"type": "text", "text": question.prompt}]
        messages = [
            {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
            {"role": "user", "content": content},
        ]
        text: str = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text

    def _generate(self, questions: Sequence[Question]) -> list[str]:
        import torch

        inputs = {name: values.to(self.model.device) for name, values in self.inputs(questions).items()}
        with torch.inference_mode():
            ids = self.model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        fresh = ids[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.batch_decode(fresh, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [text.strip() for text in texts]


def open_local(reference: str, *, device: str, dtype: str, batch: int) -> Local:
    """Return the model of a checkpoint: a folder or hub-id@revision.

    dtype: "auto" is bfloat16 on a GPU and float32 elsewhere. Raises SettingsError or ShardError in one sentence.
    """
    prepare_torchvision()
    import torch
    from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

    kind = {"auto": torch.float32 if device == "cpu" else torch.bfloat16}.get(dtype) or getattr(torch, dtype)
    model = load_pretrained(Qwen3VLForConditionalGeneration, reference, dtype=kind, device=device)
    # Released checkpoints say how to sample; greedy decoding would warn of each of these.
    model.generation_config.update(do_sample=False, temperature=None, top_p=None, top_k=None)
    processor = load_processor(AutoProcessor, reference, of=PROCESSOR)
    return Local(model, processor, open_patches(reference), batch=batch)
