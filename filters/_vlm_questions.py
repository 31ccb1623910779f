"""What a vision-language model is asked, and what answers it: the same of each transport."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from filters._vlm_patches import Patches
from storage.records import Image

MAX_TOKENS = 32
SEED = 20  # of RealIR-Bench's code; greedy decoding does not draw, a server may still ask
SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Pictures, as `shown` returns them, and what is asked about them.

    patches: of each picture, made ahead for a local model; empty where it is to make them.
    """

    images: tuple[Image, ...]
    prompt: str
    patches: tuple[Patches, ...] = ()


Note = Callable[[int, str], None]  # (number of the question, its answer), as soon as it is there


def no_note(number: int, answer: str) -> None:
    """Note nothing."""


class Ask(Protocol):
    """Answers questions, in their order."""

    def __call__(self, questions: Sequence[Question], note: Note = no_note) -> list[str]:
        """Return one text for each question; raises TransientError when the model cannot be reached."""
