"""Ask a vision-language model about pictures: questions in, short texts out, by one of two transports.

`_vlm_server` speaks to an OpenAI-compatible server (vLLM, SGLang, llama.cpp), `_vlm_local` loads a checkpoint with
transformers. Both decode greedily, at most 32 tokens, and are shown the pictures at 512 x 512 pixels of area, aspect
kept, as RealIR-Bench's code does. An answer is kept by its content: the pictures, the prompt and the model's identity.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import PIL.Image
from pydantic import BaseModel, Field, model_validator

from filters._vlm_answers import NOTES, Answers
from filters._vlm_questions import Ask, Note, Question, no_note
from storage.canonical import digest
from storage.errors import SettingsError
from storage.records import Image
from storage.samples import pixels_sha256

AREA = 512 * 512  # pixels of a picture as it is shown


class Vlm(BaseModel, frozen=True, extra="forbid"):
    """Which model answers, and how it is reached; only `model`, `weights` and `dtype` can change an answer.

    url: base of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1. model: its name there. weights: a folder
    or hub-id@revision instead of a server. concurrency: questions at once. timeout: seconds that one try may take.
    api_key_env: name of the environment variable that holds the server's key; the key itself stands nowhere. batch:
    questions at once of a local model. answers: folder in which answers are kept; empty keeps none.
    """

    model: str = "Qwen/Qwen3-VL-8B-Instruct"
    weights: str = ""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    url: Annotated[str, Field(exclude=True)] = ""
    concurrency: Annotated[int, Field(ge=1, le=1024, exclude=True)] = 16
    timeout: Annotated[float, Field(gt=0, exclude=True)] = 120.0
    api_key_env: Annotated[str, Field(exclude=True, pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")] = ""
    batch: Annotated[int, Field(ge=1, le=1024, exclude=True)] = 16
    answers: Annotated[str, Field(exclude=True)] = ""

    @model_validator(mode="after")
    def _one_transport(self) -> Self:
        if self.url and self.weights:
            raise ValueError("url and weights exclude each other: name a server or a checkpoint")
        return self

    def identity(self) -> str:
        """Return what tells this model from others: its bytes, or the name that a server gives it.

        Hashes of files are noted beside the answers, so that gigabytes are read once and not at each start.
        """
        if not self.weights:
            return f"server {self.model}"
        from storage.weights import identity

        notes = Path(self.answers) / NOTES if self.answers else None
        return f"transformers {identity(self.weights, notes=notes)} {self.dtype}"


def open_vlm(vlm: Vlm, device: str = "cpu") -> Ask:
    """Load or reach the model; raises SettingsError when neither a server nor weights are named."""
    ask = _transport(vlm, device)
    return cached(ask, vlm.identity(), Answers(Path(vlm.answers))) if vlm.answers else ask


def shown(image: Image) -> Image:
    """Return `image`, uint8 (H, W, 3), at about 512 x 512 pixels of area by Lanczos, smaller ones enlarged."""
    height, width = image.shape[:2]
    aspect = width / height
    size = (max(1, int((AREA * aspect) ** 0.5)), max(1, int((AREA / aspect) ** 0.5)))
    return np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.LANCZOS), dtype=np.uint8)


def name_of(question: Question, identity: str) -> str:
    """Return the sha256, in hex, by which the answer of this model to this question is kept."""
    return digest([identity, question.prompt, [pixels_sha256(image) for image in question.images]])


def cached(ask: Ask, identity: str, answers: Answers) -> Ask:
    """Return an `Ask` that asks each question once in the life of `answers`, also when it is cut off half-way."""

    def asked(questions: Sequence[Question], note: Note = no_note) -> list[str]:
        names = [name_of(question, identity) for question in questions]
        known = {name: text for name in set(names) if (text := answers.read(name)) is not None}
        for number, name in enumerate(names):
            if name in known:
                note(number, known[name])
        first = {name: number for number, name in reversed(list(enumerate(names))) if name not in known}
        missing = sorted(first, key=first.__getitem__)

        def keep(number: int, answer: str) -> None:
            answers.write(missing[number], answer)
            for place, name in enumerate(names):
                if name == missing[number]:
                    note(place, answer)

        if missing:
            known |= zip(missing, ask([questions[first[name]] for name in missing], keep), strict=True)
        return [known[name] for name in names]

    return asked


def _key(name: str, environment: Mapping[str, str]) -> str:
    if not name:
        return ""
    key = environment.get(name, "").strip()
    if not key:
        raise SettingsError(f"api_key_env names {name}, which is not set in the environment; export it")
    if not key.isascii() or not key.isprintable():
        raise SettingsError(f"the environment variable {name} holds no key: a key is printable ASCII")
    return key


def _transport(vlm: Vlm, device: str) -> Ask:
    if vlm.weights:
        from filters._vlm_local import open_local

        return open_local(vlm.weights, device=device, dtype=vlm.dtype, batch=vlm.batch)
    if not vlm.url:
        raise SettingsError(
            "no vision-language model is named: set url, such as http://127.0.0.1:8000/v1, or weights, a folder"
        )
    from filters._vlm_server import Server

    key = _key(vlm.api_key_env, os.environ)  # read where it is sent: handed down, it would travel with the options
    return Server(url=vlm.url, model=vlm.model, key=key, concurrency=vlm.concurrency, timeout=vlm.timeout)
