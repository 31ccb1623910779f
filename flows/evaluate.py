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
from filters._vlm_answers import Answers
from flows.bench_settings import BenchSettings, RestoreSettings
from flows.dataset import Dataset
from storage.canonical import digest, plain
from storage.errors import SettingsError
from storage.files import sha256_of
from storage.weights import identity, locate
from tasks import evaluate as measuring
from tasks.bench_restore import restore_all
from tasks.evaluate import Distance, Grade, Progress
from tasks.gallery import Gallery, folder_gallery, foundir_gallery, read_index, with_index
from tasks.gallery_tables import Columns, table_gallery
from tasks.table_files import SUFFIXES, table_files
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
_MOST_NAMED = 3  # pictures named in an error
_PATHS = {
    "pictures": ("restored", "degraded", "clean", "index"),
    "restore": ("weights", "prefix"),
    "grader": ("weights",),
    "lpips": ("weights",),
}

_Measured = tuple[list[Outcome], dict[str, TaskScores], str, Distance | None]  # with the words for grader and distance


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A benchmark that has been run. before: the pictures that went in; truth: the clean ones, where there are any.

    grader, distance: what measured, in words. scores: by task, and "average". unmatched: restored pictures that are
    nobody's. published: what others reached, by model and task, where it can be compared.
    """

    settings: BenchSettings
    grader: str
    distance: str
    outcomes: tuple[Outcome, ...]
    scores: Mapping[str, TaskScores]
    published: Mapping[str, Mapping[str, Sequence[float]]]
    unmatched: tuple[str, ...]
    before: Gallery | None
    truth: Gallery | None
    restored: Gallery

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

    def _settings(self) -> dict[str, Any]:
        """Return what decides the figures, folders by their last name: where they lie is nobody's business."""
        found: dict[str, Any] = self.settings.model_dump(mode="json", exclude={"output"})
        for table, names in _PATHS.items():
            if found[table]:
                found[table] |= {name: Path(found[table][name]).name for name in names}
        return found

    def content(self) -> dict[str, Any]:
        """Return all figures as JSON values."""
        pictures, scored = len(self.outcomes), len(self.outcomes) - len(self.unscored)
        scores: dict[str, Any] = {name: plain(part) | {"coverage": part.coverage} for name, part in self.scores.items()}
        average = scores.pop("average")
        return {
            "format_version": FORMAT_VERSION,
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
            "settings": self._settings(),
        }


def evaluate(settings: BenchSettings, told: Told = lambda what, done, of: None) -> Evaluation:
    """Run the benchmark; what its folder holds, restored pictures, answers and distances, is not made again.

    told: called with "restored" or "measured", how many pictures are, and of how many.

    Raises SettingsError when there is nothing to measure, TransientError when the grader cannot be reached.
    """
    degraded, clean, restored = _galleries(settings, told)
    inputs = degraded if settings.protocol == "realir" else clean
    assert inputs is not None, "the settings say so"
    _check_match(inputs, restored)
    measure = _against_input if settings.protocol == "realir" else _against_truth
    outcomes, scores, grader, distance = measure(settings, inputs, degraded, restored, partial(told, "measured"))
    return Evaluation(
        settings=settings,
        grader=grader,
        distance=distance.identity if distance else "",
        outcomes=tuple(outcomes),
        scores=scores,
        published=_published(settings),
        unmatched=tuple(sorted(set(restored.tasks) - set(inputs.tasks))),
        before=degraded,
        truth=clean,
        restored=restored,
    )


def gallery(path: str, settings: BenchSettings, *, side: str) -> Gallery:
    """Return the pictures at `path`; side: "degraded", "clean" or "restored", for what holds more than one of them.

    Raises SettingsError when there are none.
    """
    root, pictures = Path(path), settings.pictures
    if settings.protocol == "foundir":
        found = foundir_gallery(root, side={"degraded": "LQ", "clean": "GT"}.get(side, side))
    elif (root / "manifest.json").is_file():
        found = dataset_gallery(root, side=side, split=pictures.split)
    elif root.suffix in SUFFIXES or (root.is_dir() and table_files(root)):
        found = table_gallery(root, Columns(**pictures.columns.model_dump()))
    else:
        found = folder_gallery(root)
    if not found.tasks:
        what = "by FoundIR's ids, 0001 to 1500," if settings.protocol == "foundir" else ""
        raise SettingsError(f"pictures.{side}: {root} holds no picture {what}".rstrip() + "; name another place")
    index = read_index(Path(pictures.index)) if pictures.index else {}
    return with_index(found, index, otherwise=pictures.task)


def dataset_gallery(root: Path, *, side: str, split: str) -> Gallery:
    """Return one side of the pairs of a dataset of ours, named by their keys."""
    if side == "restored":
        raise SettingsError(f"pictures.restored: {root} is a dataset; name the folder of restored pictures, <key>.png")
    dataset = Dataset(root)
    rows = dataset.rows("pairs", ("key", "name", "shard", "split", "status"))
    kept = {row["key"]: row for row in rows if row["status"] == "kept" and row["split"] == split}

    def read(key: str) -> bytes:
        pixels = dataset.stored(key, kept[key]["shard"]).pixels
        return next(data for suffix, data in pixels.items() if suffix.split(".")[0] == side)

    return Gallery(title=str(root), tasks={key: row["name"] for key, row in kept.items()}, read=read)


def _galleries(settings: BenchSettings, told: Told) -> tuple[Gallery | None, Gallery | None, Gallery]:
    places = {side: getattr(settings.pictures, side) for side in ("degraded", "clean", "restored")}
    found = {side: gallery(path, settings, side=side) for side, path in places.items() if path}
    if settings.restore:
        found["restored"] = _restored(settings, settings.restore, found["degraded"], partial(told, "restored"))
    return found.get("degraded"), found.get("clean"), found["restored"]


def _restored(settings: BenchSettings, wanted: RestoreSettings, degraded: Gallery, progress: Progress) -> Gallery:
    """Run the restorer on what it has not restored yet; another one, or other options, have a folder of their own."""
    from training.restoring import restorer as restorers
    from training.restoring.tiles import restore

    prefix = Path(wanted.prefix).read_text(encoding="utf-8") if wanted.prefix else None
    restorer = restorers.load(Path(wanted.weights), restorers.Placing(device=settings.device, prefix=prefix))
    usual = restorers.sampling_of(restorer.model.params)
    sampling = replace(usual, seed=wanted.seed, steps=wanted.steps or usual.steps)
    notes = Path(settings.grader.answers) / "models.json"
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


def _check_match(inputs: Gallery, restored: Gallery) -> None:
    if set(inputs.tasks) & set(restored.tasks):
        return
    wanted, there = (", ".join(sorted(item.tasks)[:_MOST_NAMED]) for item in (inputs, restored))
    raise SettingsError(
        f"no picture in {restored.title} is named as one of {inputs.title}: it holds {there}, wanted are {wanted}"
    )


def _against_input(
    settings: BenchSettings, inputs: Gallery, degraded: Gallery | None, restored: Gallery, progress: Progress
) -> _Measured:
    grade, grader = _grader(settings, inputs)
    distance = _lpips(settings) or measuring.dissimilarity()
    between = measuring.kept(distance, Answers(Path(settings.grader.answers)))
    outcomes = measuring.measure_realir(inputs, restored, distance=between, grade=grade, progress=progress)
    return outcomes, realir(outcomes, resamples=settings.resamples, seed=settings.seed), grader, distance


def _against_truth(
    settings: BenchSettings, inputs: Gallery, degraded: Gallery | None, restored: Gallery, progress: Progress
) -> _Measured:
    distance = _lpips(settings)
    between = measuring.kept(distance, Answers(Path(settings.grader.answers))) if distance else None
    outcomes = measuring.measure_reference(inputs, restored, degraded=degraded, distance=between, progress=progress)
    return outcomes, reference(outcomes, resamples=settings.resamples, seed=settings.seed), "", distance


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


def _published(settings: BenchSettings) -> Mapping[str, Mapping[str, Sequence[float]]]:
    """Return what may stand beside the scores: nothing beside those of the embedded grader, which are another thing."""
    if settings.protocol == "realir" and settings.grader.kind == "vlm":
        return realir_table()
    return foundir_table() if settings.protocol == "foundir" else {}
