"""Is the named degradation really there, by one physical statistic of its type that compares degraded with clean.

Each score is 0 for equal images and grows with the degradation:

    blur         share of the finest detail's gain that is lost beside coarser octaves
    compression  share of the finest octave that is not the clean image's
    noise        levels of unexplained detail in usual blocks, of the finer octave that shows more of it
    noisiest     the same in busy blocks: noise in a part of the picture, if the pair looks like noise
    moire        octaves by which a line of the change's spectrum stands above others of its frequency
    low_light    exposure lost, in EV
    flare        light added at the brightest places, of white
    reflection   the same
    haze         rise of the dark channel, or loss of contrast, as a share of the mean light: darkness does not hide it
    rain         levels of unexplained detail in busy blocks, of the octave of streaks, at the clean image's exposure
    changed      share of pixels that changed at all: for types that this file does not know

A statistic of one type may answer to others as well. So a recipe of one step is also asked whether the pair looks like
another type altogether: `like_<type>` is the probability of the type by `classify`. `propose` asks what one image,
without its clean side, suffers from.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from filters._appearance import appearance
from filters._contract import Filter, Measure, Sample, Scores, verdict
from filters._evidence import Evidence, evidence
from filters._likeness import likeness
from storage.records import Image, Recipe, Verdict

_UNKNOWN = "changed"
_HIDDEN_BY = {"haze": "low_light", "low_light": "haze"}  # a veil lifts what darkness lowers: together, one must show


class Presence(Filter, frozen=True):
    """Least scores, below which a degradation is absent.

    Rendered pairs of all levels lie above, but for a few that show nothing, such as a moving object without texture.
    noise_likeness: probability of noise from which it suffices that a tenth of the blocks is noisy (EXPERIMENTS.md).
    likeness: least probability of the type; 3 of 1,440 rendered pairs fell below.
    """

    subject: ClassVar[Literal["image", "pair"]] = "pair"
    cost: ClassVar[int] = 4

    blur: float = Field(default=0.003, ge=0)
    compression: float = Field(default=0.03, ge=0)
    noise: float = Field(default=0.8, ge=0)
    noise_likeness: float = Field(default=0.05, ge=0, le=1)
    moire: float = Field(default=2.5, ge=0)
    low_light: float = Field(default=0.15, ge=0)
    flare: float = Field(default=0.002, ge=0)
    reflection: float = Field(default=0.001, ge=0)
    haze: float = Field(default=0.03, ge=0)
    rain: float = Field(default=0.2, ge=0)
    changed: float = Field(default=0.002, ge=0)
    likeness: float = Field(default=0.001, ge=0, le=1)

    def open(self, device: str) -> Measure:
        """Return the measure: all scores of each pair, whatever its recipe says."""
        return _measure

    def judge(self, scores: Scores, recipe: Recipe | None = None) -> Verdict:
        """Drop as `absent_<type>` for the first step whose type does not show, as `unlike_<type>` if mislabelled."""
        names = [step.degradation for step in recipe.steps] if recipe else []
        for name in names:
            hidden = _HIDDEN_BY.get(name) in names and self._shows(_HIDDEN_BY[name], scores)
            if not hidden and not self._shows(name, scores):
                return verdict("presence", scores, f"absent_{name}")
        if recipe and len(names) == 1 and scores.get(f"like_{names[0]}", 1.0) < self.likeness:
            return verdict("presence", scores, f"unlike_{recipe.name}")
        return verdict("presence", scores)

    def _shows(self, name: str, scores: Scores) -> bool:
        if name == "noise" and scores.get("like_noise", 0.0) >= self.noise_likeness:
            return bool(max(scores["noise"], scores.get("noisiest", 0.0)) >= self.noise)
        score = name if name in scores else _UNKNOWN
        return bool(scores[score] >= getattr(self, score))


def classify(clean: Image, degraded: Image) -> dict[str, float]:
    """Return the probability of each of the nine degradations for a pair."""
    return likeness("pair", evidence(clean, degraded))


def propose(image: Image) -> dict[str, float]:
    """Return for each degradation the probability that this image, of unknown clean side, suffers from it."""
    return likeness("image", appearance(image))


def scores_of(found: Evidence) -> dict[str, float]:
    """Return the scores of the types from the evidence of a pair."""
    coarser = max(found["gain_2"], found["gain_3"], found["gain_4"], 0.05)
    shown = 2 ** max(0.0, -found["exposure"] / 2.2)  # sRGB levels of the clean image per level of a darkened one
    return {
        "blur": max(0.0, 1 - found["gain_0"] / coarser),
        "compression": 1 - found["coherence_0"],
        "noise": max(found["rest_0"], found["rest_1"]),
        "noisiest": max(found["rest_busy_0"], found["rest_busy_1"]),
        "moire": found["pattern"],
        "low_light": max(0.0, -found["exposure"]),
        "flare": max(0.0, found["most_gain"]),
        "reflection": max(0.0, found["most_gain"]),
        "haze": max(0.0, found["veil"], found["flattening"]),
        "rain": found["rest_busy_1"] * shown,
        "changed": found["changed"],
    }


def _measure(samples: Sequence[Sample]) -> list[Scores]:
    return [_scores(sample) for sample in samples]


def _scores(sample: Sample) -> Scores:
    assert sample.degraded is not None
    found = evidence(sample.clean, sample.degraded)
    return scores_of(found) | {f"like_{name}": share for name, share in likeness("pair", found).items()}


FILTER = Presence
