"""Run a benchmark: find the pictures, measure what is not measured yet, score, and write the results.

`<output>/bench.json` holds every figure and every picture's outcome, `<output>/bench.html` shows them. Nothing in
either says when it was made: the same pictures, models and settings give the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from filters import _embedded_grade
from filters._vlm import open_vlm
from filters._vlm_answers import NOTES, Answers
from flows.bench_settings import BenchSettings, RestoreSettings
from flows.bench_sides import Sides, check_match, content_of, inputs_of, open_sides
from storage.canonical import digest, plain
from storage.commits import code_version
from storage.files import sha256_of
from storage.weights import identity, locate
from tasks import evaluate as measuring
from tasks.bench_restore import restore_all
from tasks.evaluate import Distance, Grade, Progress
from tasks.gallery import Gallery, folder_gallery
from training.benchmark.published import foundir_table, realir_table
from training.benchmark.scores import Outcome, TaskScores, realir, reference

Told = Callable[[str, int, int], None]

FORMAT_VERSION = 1
TITLES = {
    "lps": "LPS",
    "rs": "RS",
    "rs_unclamped": "RS unclamped",
    "fs_paper": "FS paper",
    "fs_code": "FS code",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "input_psnr": "input PSNR",
    "input_ssim": "input SSIM",
}
_PATHS = {
    "pictures": ("restored", "degraded", "clean", "index"),
    "restore": ("weights", "prefix"),
    "grader": ("weights",),
    "lpips": ("weights",),
}

_Measured = tuple[list[Outcome], str, Distance | None]  # with the words for the grader


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A benchmark that has been run.

    sides: its pictures. inputs: a hash of all that it was computed from. grader, distance: what measured, in words.
    scores: by task, and "average". unmatched: restored pictures that are nobody's. published: what others reached, by
    model and task, where it can be compared.
    """

    settings: BenchSettings
    sides: Sides
    inputs: str
    grader: str
    distance: str
    outcomes: tuple[Outcome, ...]
    scores: Mapping[str, TaskScores]
    published: Mapping[str, Mapping[str, Sequence[float]]]
    unmatched: tuple[str, ...]

    @property
    def unscored(self) -> list[Outcome]:
        """The pictures without a score."""
        return [item for item in self.outcomes if item.reason]

    @property
    def titles(self) -> dict[str, str]:
        """The titles of the scores there are; those of the embedded grader say so, because they are another thing."""
        found = {name: title for name, title in TITLES.items() if name in self.scores["average"].scores}
        if self.settings.protocol != "realir" or self.settings.grader.kind == "vlm":
            return found
        return {
            name: (title if self.settings.lpips.weights else self.distance) if name == "lps" else f"{title} (embedded)"
            for name, title in found.items()
        }

    @property
    def title(self) -> str:
        """What the scores are, and who graded."""
        settings, name = self.settings, self.settings.name
        if settings.protocol != "realir":
            test = "FoundIR's test set" if settings.protocol == "foundir" else "full reference"
            return f"{name}: {test}, means with 95 % intervals"
        if settings.grader.kind == "embedded":
            return (
                f"{name}: RealIR-Bench's protocol with the EMBEDDED grader and {self.distance} as distance; "
                "comparable with no published figure"
            )
        model = Path(settings.grader.weights).name or settings.grader.model
        return f"{name}: RealIR-Bench's protocol, graded by {model}, means with 95 % intervals"

    def content(self) -> dict[str, Any]:
        """Return all figures as JSON values."""
        pictures, scored = len(self.outcomes), len(self.outcomes) - len(self.unscored)
        scores: dict[str, Any] = {name: plain(part) | {"coverage": part.coverage} for name, part in self.scores.items()}
        average = scores.pop("average")
        return {
            "format_version": FORMAT_VERSION,
            "inputs": self.inputs,
            "name": self.settings.name,
            "protocol": self.settings.protocol,
            "grader": self.grader,
            "distance": self.distance,
            "pictures": pictures,
            "scored": scored,
            "coverage": scored / pictures,
            "average": average,
            "tasks": scores,
            "unscored": [{"name": item.name, "task": item.task, "reason": item.reason} for item in self.unscored],
            "unmatched": list(self.unmatched),
            "published": plain(self.published),
            "settings": _deciding(self.settings),
        }


def evaluate(settings: BenchSettings, told: Told = lambda what, done, of: None) -> Evaluation:
    """Run the benchmark; what its folder holds, restored pictures, answers and distances, is not made again.

    told: called with "restored" or "measured", how many pictures are, and of how many.

    Raises SettingsError when there is nothing to measure, TransientError when the grader cannot be reached.
    """
    named = open_sides(settings)
    hashed, sides = inputs_digest(settings, named), dict(named)
    if settings.restore:
        sides["restored"] = _restored(settings, settings.restore, sides["degraded"], partial(told, "restored"))
        check_match(inputs_of(settings, sides), sides["restored"])
    measure = _against_input if settings.protocol == "realir" else _against_truth
    outcomes, grader, distance = measure(settings, sides, partial(told, "measured"))
    return Evaluation(
        settings=settings,
        sides=sides,
        inputs=hashed,
        grader=grader,
        distance=distance.identity if distance else "",
        outcomes=tuple(outcomes),
        scores=scores_of(settings, outcomes),
        published=published_of(settings),
        unmatched=tuple(sorted(set(sides["restored"].tasks) - set(inputs_of(settings, sides).tasks))),
    )


def inputs_digest(settings: BenchSettings, named: Sides) -> str:
    """Return a hash of all that decides the figures: settings, pictures, models and code."""
    notes = Path(settings.grader.answers) / NOTES
    weights, code = [settings.lpips.weights], ["tasks.evaluate", "training.benchmark.scores"]
    if settings.restore:
        weights.append(settings.restore.weights)
        code.append("training.restoring.restorer")
    return digest(
        {
            "format": FORMAT_VERSION,
            "settings": _deciding(settings),
            "pictures": content_of(named),
            "grader": settings.grader.identity() if settings.grader.kind == "vlm" else _embedded_grade.NAME,
            "models": [identity(reference, notes=notes) if reference else "" for reference in weights],
            "prefix": _prefix(settings.restore) if settings.restore else None,
            "code": [code_version(module) for module in code],
        }
    )


def scores_of(settings: BenchSettings, outcomes: Sequence[Outcome]) -> dict[str, TaskScores]:
    """Return the scores of outcomes by the protocol of the settings."""
    score = realir if settings.protocol == "realir" else reference
    return score(outcomes, resamples=settings.resamples, seed=settings.seed)


def published_of(settings: BenchSettings) -> Mapping[str, Mapping[str, Sequence[float]]]:
    """Return what may stand beside the scores: nothing beside those of the embedded grader, which are another thing."""
    if settings.protocol == "realir" and settings.grader.kind == "vlm":
        return realir_table()
    return foundir_table() if settings.protocol == "foundir" else {}


def _deciding(settings: BenchSettings) -> dict[str, Any]:
    """Return what decides the figures, folders by their last name: where they lie is nobody's business."""
    found: dict[str, Any] = settings.model_dump(mode="json", exclude={"output"})
    for table, names in _PATHS.items():
        if found[table]:
            found[table] |= {name: Path(found[table][name]).name for name in names}
    return found


def _prefix(wanted: RestoreSettings) -> str | None:
    return Path(wanted.prefix).read_text(encoding="utf-8") if wanted.prefix else None


def _restored(settings: BenchSettings, wanted: RestoreSettings, degraded: Gallery, progress: Progress) -> Gallery:
    """Run the restorer on what it has not restored yet; another one, or other options, have a folder of their own."""
    from training.restoring import restorer as restorers
    from training.restoring.tiles import restore

    prefix = _prefix(wanted)
    restorer = restorers.load(Path(wanted.weights), restorers.Placing(device=settings.device, prefix=prefix))
    usual = restorers.sampling_of(restorer.model.params)
    sampling = replace(usual, seed=wanted.seed, steps=wanted.steps or usual.steps)
    notes = Path(settings.grader.answers) / NOTES
    name = digest([identity(wanted.weights, notes=notes), plain(sampling), wanted.prompts, prefix])
    folder = Path(settings.output) / "restored" / name[:16]
    restore_all(
        degraded,
        folder,
        lambda image, prompt: restore(restorer, image, prompt, sampling),
        prompts=wanted.prompts,
        progress=progress,
    )
    return folder_gallery(folder)


def _against_input(settings: BenchSettings, sides: Sides, progress: Progress) -> _Measured:
    grade, grader = _grader(settings, sides["degraded"])
    distance = _lpips(settings) or measuring.dissimilarity()
    between = measuring.kept(distance, Answers(Path(settings.grader.answers)))
    outcomes = measuring.measure_realir(
        sides["degraded"], sides["restored"], distance=between, grade=grade, progress=progress
    )
    return outcomes, grader, distance


def _against_truth(settings: BenchSettings, sides: Sides, progress: Progress) -> _Measured:
    distance = _lpips(settings)
    between = measuring.kept(distance, Answers(Path(settings.grader.answers))) if distance else None
    outcomes = measuring.measure_reference(
        sides["clean"], sides["restored"], degraded=sides.get("degraded"), distance=between, progress=progress
    )
    return outcomes, "", distance


def _grader(settings: BenchSettings, inputs: Gallery) -> tuple[Grade, str]:
    if settings.grader.kind == "embedded":
        return measuring.embedded_grader(filter(None, inputs.tasks.values())), _embedded_grade.NAME
    vlm = settings.grader
    return measuring.vlm_grader(open_vlm(vlm, settings.device)), vlm.identity()


def _lpips(settings: BenchSettings) -> Distance | None:
    if not settings.lpips.weights:
        return None
    from filters._lpips import open_lpips

    file = locate(settings.lpips.weights)
    return Distance(
        between=open_lpips(file, settings.device), identity=f"LPIPS 0.1 AlexNet, sha256 {sha256_of(file)[:16]}"
    )
