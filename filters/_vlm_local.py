"""Ask a Qwen3-VL checkpoint in this process, through transformers: greedy, at most 32 new tokens.

Its own processor lays out the chat and cuts the pictures into patches; questions of a batch are padded on the left.
"""

from collections.abc import Sequence
from typing import Any

import PIL.Image

from filters._vlm import MAX_TOKENS, SYSTEM, Note, Question, no_note
from storage.errors import ShardError
from storage.torchvision import prepare_torchvision
from storage.weights import load_pretrained, locate


class Local:
    """An `Ask` that runs `model` with its `processor`, `batch` questions at a time."""

    def __init__(self, model: Any, processor: Any, *, batch: int) -> None:
        self.model, self.processor, self._batch = model, processor, batch
        processor.tokenizer.padding_side = "left"  # what is generated must follow the question, not the padding

    def __call__(self, questions: Sequence[Question], note: Note = no_note) -> list[str]:
        """Return one text for each question, in order; see `filters._vlm.Ask`."""
        answers: list[str] = []
        for start in range(0, len(questions), self._batch):
            for answer in self._generate(questions[start : start + self._batch]):
                note(len(answers), answer)
                answers.append(answer)
        return answers

    def inputs(self, questions: Sequence[Question]) -> Any:
        """Return what the model is given: token ids and their mask and types, patches, and the grid of each picture."""
        texts = [self._chat(question) for question in questions]
        images = [PIL.Image.fromarray(image) for question in questions for image in question.images]
        return self.processor(text=texts, images=images or None, padding=True, return_tensors="pt")

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

        inputs = self.inputs(questions).to(self.model.device)
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
    folder = locate(reference)
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        told = " ".join(str(error).split())[:200]
        raise ShardError(f"{folder} holds no processor of Qwen3-VL that can be read: {told}") from error
    return Local(model, processor, batch=batch)
