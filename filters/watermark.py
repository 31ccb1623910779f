"""Is there a watermark: an open-vocabulary detector looks for one, and a vision-language model gives a second opinion.

As RealRestorer filters crawled images (arXiv 2603.25502, section 3.1: OWLv2 and Qwen3-VL-8B-Instruct; its thresholds
are not published, these are ours and unproved). Without weights there is the filter `overlay`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from filters._contract import Filter, Prepare, Scores, Split, verdict
from filters._owl import Detect, Prepared, open_owl, open_prepare
from filters._vlm import Vlm, open_vlm, shown
from filters._vlm_questions import Ask, Question
from storage.records import Image, Recipe, Verdict

QUERIES = (
    "a watermark",
    "a copyright notice",
    "a logo laid over the photo",
    "text laid over the photo",
    "a date stamp",
)
QUESTION = (
    "Was a watermark, a copyright notice, a logo, a date or another text laid over this photo after it was taken? "
    "Signs and prints that stand in the scene do not count. Answer with one word: Yes or No."
)
UNREADABLE = -1.0

Probability = Annotated[float, Field(ge=0, le=1)]


class Watermark(Filter, frozen=True):
    """weights: OWLv2, a folder or hub-id@revision. queries: what it looks for. batch: images at a time.

    max_detected: probability of a box above which there is a watermark. second: the model that is asked for a second
    opinion of images with a box above `ask_above`; its yes or no decides of them. With one, boxes too are looked for
    only in what all other filters keep.
    """

    subject: ClassVar[Literal["image", "pair"]] = "image"
    cost: ClassVar[int] = 40
    measures_with: ClassVar[frozenset[str]] = frozenset({"weights", "queries", "dtype", "batch", "second", "ask_above"})
    needs_weights: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "transformers", "safetensors")
    checkpoint: ClassVar[tuple[str, tuple[str, ...]]] = ("config.json", ("owlv2",))

    weights: str = ""
    queries: Annotated[tuple[str, ...], Field(min_length=1)] = QUERIES
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch: Annotated[int, Field(ge=1, le=1024)] = 8
    max_detected: Probability = 0.3
    second: Vlm | None = None
    ask_above: Probability = 0.1

    def is_last(self) -> bool:
        """Return whether a second model is asked: its seconds are spent on survivors only, as `severity_vlm`'s are."""
        return self.second is not None

    def models(self) -> dict[str, str]:
        """Return the references of the detector and of the second model."""
        own = {"weights": self.weights} if self.weights else {}
        if self.second is None:
            return own
        where = "weights" if self.second.weights else "model"
        return own | {f"second.{where}": self.second.weights or self.second.model}

    def prepare(self) -> Prepare:
        """Return what makes of a photograph the detector's input and, for a second opinion, the picture to show."""
        prepare = open_prepare(self.weights)
        return lambda sample: Look(
            boxes=prepare(sample.clean), picture=shown(sample.clean) if self.second is not None else None
        )

    def open(self, device: str) -> Split:
        """Load the models and return the measure: `detected`, `area` of the box, and `opinion` where it was asked."""
        detect = open_owl(self.weights, self.queries, device=device, dtype=self.dtype, batch=self.batch)
        ask = open_vlm(self.second, device) if self.second else None
        return Split(self.prepare(), lambda looks: _score(looks, detect, ask, self.ask_above))

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `watermark`; the second opinion decides where there is a readable one."""
        opinion = scores.get("opinion", UNREADABLE)
        marked = scores["detected"] > self.max_detected if opinion == UNREADABLE else opinion == 1
        return verdict("watermark", scores, "watermark" if marked else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A photograph made ready. boxes: for the detector. picture: as a second model is shown it; None without one."""

    boxes: Prepared
    picture: Image | None


def opinion_of(answer: str) -> float:
    """Return 1 for yes, 0 for no, and UNREADABLE for anything but one of the two words."""
    return {"yes": 1.0, "no": 0.0}.get(answer.strip().strip(".!*\"'").lower(), UNREADABLE)


def _score(looks: Sequence[Look], detect: Detect, ask: Ask | None, ask_above: float) -> list[Scores]:
    boxes = detect([look.boxes for look in looks])
    scores = [{"detected": box.score, "area": box.area} for box in boxes]
    doubtful = {
        index: look.picture
        for index, (look, box) in enumerate(zip(looks, boxes, strict=True))
        if box.score > ask_above and look.picture is not None
    }
    if ask is not None and doubtful:
        questions = [Question(images=(picture,), prompt=QUESTION) for picture in doubtful.values()]
        for index, answer in zip(doubtful, ask(questions), strict=True):
            scores[index]["opinion"] = opinion_of(answer)
    return list(scores)


FILTER = Watermark
