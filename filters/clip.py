"""What CLIP sees in a photograph (Radford et al., arXiv 2103.00020): its type, quality, and whether it is one at all.

Cosines with the prompts by which RealRestorer sorts crawled images into six real types (arXiv 2603.25502, Table 4) are
the scores `like_<type>`. All others are probabilities of one prompt among a few: `is_<type>` against a plain photo,
`quality` as in CLIP-IQA (Wang et al., arXiv 2207.12396), `photograph` against what else is put on the web, `portrait`
against other subjects, by which the mixture chooses the scene behind the glass of a reflection. The embedding itself is
stored beside the scores: the deduplicate exchange finds near copies by it that no perceptual hash shows.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from filters._clip import Clip, Embeddings, Model, Pixels, open_clip_model, open_pixels
from filters._contract import Embedded, Filter, Prepare, Scores, Split, verdict
from storage.records import Recipe, Verdict

TYPES: Mapping[str, str] = {  # RealRestorer, arXiv 2603.25502, Table 4
    "flare": "a photo with lens flare, bright streaks of light",
    "haze": "a hazy photo, foggy atmosphere, low contrast",
    "rain": "a rainy photo with rain streaks or raindrops",
    "low_light": "a dark photo, underexposed, low illumination",
    "blur": "a blurry photo with motion blur or out-of-focus regions",
    "reflection": "a photo with glass or mirror-like reflection artifacts",
}
PLAIN = "a clear, sharp and well exposed photo"
CHOICES: Mapping[str, tuple[str, ...]] = {  # score -> what it is the probability of, and the alternatives
    **{f"is_{name}": (prompt, PLAIN) for name, prompt in TYPES.items()},
    "quality": ("Good photo.", "Bad photo."),  # CLIP-IQA, arXiv 2207.12396, section 3
    "photograph": (
        "a photograph",
        "a screenshot",
        "a drawing or an illustration",
        "a computer rendering",
        "a page of text or a diagram",
        "a collage of several pictures",
    ),
    "portrait": ("a portrait photo of a person", "a photo of a landscape", "a photo of a street", "a photo of a thing"),
}

Probability = Annotated[float, Field(ge=0, le=1)]


class ClipFilter(Filter, Model, frozen=True):
    """Limits on the scores; the model stands beside them, see `filters._clip.Model`.

    A photograph is dropped where another kind of picture is likelier; that is no fitted threshold. The others keep
    everything until they are set, because none is published. wanted: the real type to keep; empty keeps all.
    max_degraded: of every other type.
    """

    subject: ClassVar[Literal["image", "pair"]] = "image"
    cost: ClassVar[int] = 20
    measures_with: ClassVar[frozenset[str]] = frozenset(Model.model_fields)
    needs_weights: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "open_clip", "safetensors")
    checkpoint: ClassVar[tuple[str, tuple[str, ...]]] = ("open_clip_config.json", ())

    min_photograph: Probability = 0.5
    min_quality: Probability = 0.0
    max_degraded: Probability = 1.0
    wanted: Literal["", "flare", "haze", "rain", "low_light", "blur", "reflection"] = ""
    min_wanted: Probability = 0.5

    def prepare(self) -> Prepare:
        """Return what makes of a photograph the network's input."""
        pixels = open_pixels(self)
        return lambda sample: pixels(sample.clean)

    def open(self, device: str) -> Split:
        """Load the model, embed the prompts, and return the measure: scores with the image's embedding."""
        clip = open_clip_model(self, device)
        prompts = sorted({*TYPES.values(), *(prompt for choice in CHOICES.values() for prompt in choice)})
        texts = dict(zip(prompts, clip.texts(prompts), strict=True))
        return Split(self.prepare(), lambda pixels: _score(pixels, clip, texts))

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `not_a_photograph`, `poor_quality`, `not_<type>` or `shows_<type>`."""
        if scores["photograph"] < self.min_photograph:
            return verdict("clip", scores, "not_a_photograph")
        if scores["quality"] < self.min_quality:
            return verdict("clip", scores, "poor_quality")
        if self.wanted and scores[f"is_{self.wanted}"] < self.min_wanted:
            return verdict("clip", scores, f"not_{self.wanted}")
        others = [name for name in TYPES if name != self.wanted]
        shown = max(others, key=lambda name: scores[f"is_{name}"])
        return verdict("clip", scores, f"shows_{shown}" if scores[f"is_{shown}"] > self.max_degraded else "")


def _score(pixels: Sequence[Pixels], clip: Clip, texts: Mapping[str, Embeddings]) -> list[Embedded]:
    found = clip.images(pixels)
    return [Embedded(scores=_scores(one, texts, clip.scale), embedding=one.astype("<f2").tobytes()) for one in found]


def _scores(image: Embeddings, texts: Mapping[str, Embeddings], scale: float) -> Scores:
    cosines = {prompt: float(image @ text) for prompt, text in texts.items()}
    like = {f"like_{name}": cosines[prompt] for name, prompt in TYPES.items()}
    return like | {score: _first_of([cosines[prompt] for prompt in choice], scale) for score, choice in CHOICES.items()}


def _first_of(cosines: Sequence[float], scale: float) -> float:
    """Return the probability of the first by softmax."""
    return float(1 / np.exp(np.clip(scale * (np.array(cosines) - cosines[0]), -700, 700)).sum())


FILTER = ClipFilter
