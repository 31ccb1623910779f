"""Measure restored pictures: against their degraded inputs, as RealIR-Bench does, or against the ground truth.

The grader and the distance are handed in. What costs seconds, a grade and a distance, is kept by its content, so that a
run that was cut off goes on where it was. A picture that is missing, broken or without a readable grade is an outcome
with a reason, never an error and never left out.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image

from filters import _embedded_grade, _rubric
from filters._reference import psnr, ssim
from filters._vlm import shown
from filters._vlm_answers import Answers
from filters._vlm_questions import Ask, Question
from storage.canonical import digest
from storage.errors import SettingsError, SourceError
from storage.records import Image
from tasks.decode import decode
from tasks.gallery import Gallery
from training.benchmark.scores import Outcome

GROUP = 32  # pictures whose questions are asked at once, at most
MOST_BYTES = 1 << 30  # of decoded pictures that wait for their grades, about
LEAST_SIDE = 32  # of a picture that LPIPS and SSIM can look at

Progress = Callable[[int, int], None]  # (pictures done, pictures in all)
Grade = Callable[[Sequence[tuple[Image, str]]], list[int]]  # (picture, degradation) -> 1 to 5, 0 unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far two images are apart. identity: what tells it from others, for what is kept of it."""

    between: Callable[[Image, Image], float]
    identity: str


def vlm_grader(ask: Ask) -> Grade:
    """Return RealIR-Bench's grader: the rubric, asked of a vision-language model."""

    def grade(pictures: Sequence[tuple[Image, str]]) -> list[int]:
        questions = [Question(images=(shown(image),), prompt=_rubric.prompt(task)) for image, task in pictures]
        return [_rubric.grade(answer) for answer in ask(questions)]

    return grade


def embedded_grader(tasks: Iterable[str]) -> Grade:
    """Return the grader that needs no weights; SettingsError when one of the tasks is unknown to it."""
    if unknown := sorted(set(tasks) - set(_embedded_grade.types())):
        raise SettingsError(f"the embedded grader does not know {unknown[0]}: name a vision-language model in [grader]")

    def grade(pictures: Sequence[tuple[Image, str]]) -> list[int]:
        return [_embedded_grade.graded(image, task) for image, task in pictures]

    return grade


def dissimilarity() -> Distance:
    """Return the stand-in for LPIPS where there are no weights: 1 - SSIM."""
    return Distance(between=lambda one, other: 1 - ssim(one, other), identity="1 - SSIM")


def kept(distance: Distance, answers: Answers) -> Callable[[Image, Image, str], float]:
    """Return the distance of two images whose content `key` names, measured once in the life of `answers`."""

    def between(one: Image, other: Image, key: str) -> float:
        name = digest(["distance", distance.identity, key])
        known = answers.read(name)
        if known is None:
            known = repr(distance.between(one, other))
            answers.write(name, known)
        return float(known)

    return between


def measure_realir(
    degraded: Gallery,
    restored: Gallery,
    *,
    distance: Callable[[Image, Image, str], float],
    grade: Grade,
    progress: Progress = lambda done, of: None,
) -> list[Outcome]:
    """Return an outcome for every degraded picture, with `lps`, `before` and `after` as far as there are any.

    A restored picture of another size is resized to its input's, by Lanczos, as the benchmark's code does. Raises
    SettingsError when the task of a picture is not known.
    """
    _check_tasks(degraded.tasks)
    outcomes: list[Outcome] = []
    compared = (_compared(name, degraded, restored, distance) for name in sorted(degraded.tasks))
    for group in _groups(compared):
        outcomes += _graded(group, grade)
        progress(len(outcomes), len(degraded.tasks))
    return outcomes


def measure_reference(
    clean: Gallery,
    restored: Gallery,
    *,
    degraded: Gallery | None = None,
    distance: Callable[[Image, Image, str], float] | None = None,
    progress: Progress = lambda done, of: None,
) -> list[Outcome]:
    """Return an outcome for every clean picture: `psnr` in dB, `ssim` and `lpips` of the restored one.

    With `degraded`, the same of the input as `input_psnr` and `input_ssim`. distance: LPIPS, None leaves it out.
    """
    outcomes = []
    for done, name in enumerate(sorted(clean.tasks), start=1):
        outcomes.append(_referred(name, clean, restored, degraded, distance))
        progress(done, len(clean.tasks))
    return outcomes


def fitted(image: Image, shape: Sequence[int]) -> Image:
    """Return `image` in the height and width of `shape`, resized by Lanczos where it has another."""
    if image.shape[:2] == tuple(shape[:2]):
        return image
    resized = PIL.Image.fromarray(image).resize((shape[1], shape[0]), PIL.Image.Resampling.LANCZOS)
    return np.asarray(resized, dtype=np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """A picture before it is graded: both images, where there are any."""

    name: str
    task: str
    reason: str = ""
    lps: float | None = None
    images: tuple[Image, Image] | None = None


def _check_tasks(tasks: Mapping[str, str]) -> None:
    unknown = sorted(name for name, task in tasks.items() if not task)
    if unknown:
        raise SettingsError(
            f"nothing says what {unknown[0]} is degraded by, nor of {len(unknown) - 1} others: put them into a folder "
            "named for it, list them in an index, or set pictures.task"
        )


def _groups(compared: Iterable[_Compared]) -> Iterator[list[_Compared]]:
    """Yield pictures in groups that are worth asking about together and fit into memory."""
    group, held = list[_Compared](), 0
    for item in compared:
        group.append(item)
        held += sum(image.nbytes for image in item.images or ())
        if len(group) == GROUP or held > MOST_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


def _compared(
    name: str, degraded: Gallery, restored: Gallery, distance: Callable[[Image, Image, str], float]
) -> _Compared:
    task = degraded.tasks[name]
    try:
        (image, other), key = _read(name, {"degraded": degraded, "restored": restored})
    except SourceError as error:
        return _Compared(name=name, task=task, reason=error.reason)
    return _Compared(name=name, task=task, lps=distance(other, image, key), images=(image, other))


def _graded(pictures: Sequence[_Compared], grade: Grade) -> Iterator[Outcome]:
    wanted = [(image, item.task) for item in pictures for image in item.images or ()]
    grades = iter(grade(wanted) if wanted else [])
    for item in pictures:
        values = {} if item.lps is None else {"lps": item.lps}
        found = [next(grades) for _ in item.images or ()]
        values |= {side: float(one) for side, one in zip(("before", "after"), found, strict=False) if one}
        unreadable = bool(found) and not all(found)
        yield Outcome(name=item.name, task=item.task, reason="unreadable" if unreadable else item.reason, values=values)


def _referred(
    name: str,
    clean: Gallery,
    restored: Gallery,
    degraded: Gallery | None,
    distance: Callable[[Image, Image, str], float] | None,
) -> Outcome:
    task, values = clean.tasks[name] or "all", dict[str, float]()
    if degraded is not None and name in degraded.tasks:
        try:
            (truth, image), _ = _read(name, {"clean": clean, "degraded": degraded})
            values |= {"input_psnr": psnr(truth, image), "input_ssim": ssim(truth, image)}
        except SourceError as error:
            return Outcome(name=name, task=task, reason=error.reason, values={})
    try:
        (truth, image), key = _read(name, {"clean": clean, "restored": restored})
    except SourceError as error:
        return Outcome(name=name, task=task, reason=error.reason, values=values)
    values |= {"psnr": psnr(truth, image), "ssim": ssim(truth, image)}
    if distance is not None:
        values["lpips"] = distance(image, truth, key)
    return Outcome(name=name, task=task, reason="", values=values)


def _read(name: str, sides: Mapping[str, Gallery]) -> tuple[list[Image], str]:
    """Return the picture of each side in the size of the first, and a hash of their files.

    Raises SourceError with the reason `missing`, or `<side>_<reason of the decoder>`.
    """
    images, hashes = list[Image](), list[str]()
    for side, gallery in sides.items():
        if name not in gallery.tasks:
            raise SourceError("missing", f"{gallery.title} holds no {name}")
        data = gallery.read(name)
        try:
            image = decode(data, min_side=LEAST_SIDE).image
        except SourceError as error:
            raise SourceError(f"{side}_{error.reason}", str(error)) from error
        images.append(image if not images else fitted(image, images[0].shape))
        hashes.append(hashlib.sha256(data).hexdigest())
    return images, digest(hashes)
