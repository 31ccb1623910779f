"""The scores of RealIR-Bench and of full-reference tests, from what was measured of each picture.

RealIR-Bench (RealRestorer, arXiv 2603.25502 section 4) has no ground truth. LPS is the LPIPS distance of the restored
picture to its degraded input, RS the gain in a model's grade, FS = 0.2 (1 - LPS) RS. The paper's tables apply it to
the means of a task and, for the average, to the means of these (`fs_paper`); its code averages the FS of single
pictures (`fs_code`). Both take a loss of grade for no gain; `rs_unclamped` does not, so that harm shows. A picture
without a restored one, or without a readable grade, counts with RS 0; the code leaves it out.

R resamples, N pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SEED = 20  # of RealIR-Bench's code
RESAMPLES = 2000
REALIR = ("lps", "rs", "rs_unclamped", "fs_paper", "fs_code")
REFERENCE = ("psnr", "ssim", "lpips")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was measured of one picture. values: lps, before and after (grades 1 to 5), psnr, ssim, lpips, as known.

    reason: a slug saying why there is no score, empty when there is.
    """

    name: str
    task: str
    reason: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A mean and its 95 % bootstrap interval; all None where no picture has the value."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScores:
    """The scores of a task, or of the average over tasks. scored: pictures without a reason."""

    pictures: int
    scored: int
    scores: Mapping[str, Score]

    @property
    def coverage(self) -> float:
        """The share of pictures that could be scored."""
        return self.scored / self.pictures


def fs(lps: float, rs: float) -> float:
    """Return the final score of a distance to the input and a gain in grade."""
    return 0.2 * (1 - lps) * rs


def realir(outcomes: Sequence[Outcome], *, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, TaskScores]:
    """Return the scores of each task in the order of their names, and "average", the mean over tasks.

    ValueError without outcomes.
    """
    tasks = _by_task(outcomes)
    drawn = {name: _realir_draws(group, rng, resamples) for (name, group), rng in _seeded(tasks, seed)}
    means = {key: _mean(np.stack([part[key] for part in drawn.values()], axis=1)) for key in REALIR}
    means["fs_paper"] = _fs(means["lps"], means["rs"])
    found = {name: _task_scores(tasks[name], part) for name, part in drawn.items()}
    return {**found, "average": _task_scores(outcomes, means)}


def reference(outcomes: Sequence[Outcome], *, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, TaskScores]:
    """Return PSNR, SSIM and LPIPS to the ground truth of each task, and "average", the mean over tasks.

    The published averages over FoundIR's isolated subsets are means over subsets too. A missing picture has no PSNR,
    not 0 dB: it lowers the coverage only. ValueError without outcomes.
    """
    tasks = _by_task(outcomes)
    drawn = {name: _reference_draws(group, rng, resamples) for (name, group), rng in _seeded(tasks, seed)}
    keys = sorted({key for part in drawn.values() for key in part})
    means = {key: _mean(np.stack([part[key] for part in drawn.values() if key in part], axis=1)) for key in keys}
    found = {name: _task_scores(tasks[name], part) for name, part in drawn.items()}
    return {**found, "average": _task_scores(outcomes, means)}


def _by_task(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    if not outcomes:
        raise ValueError("no picture was measured, so there is nothing to score")
    ordered = sorted(outcomes, key=lambda item: item.name)  # whatever order they were measured in
    return {task: [item for item in ordered if item.task == task] for task in sorted({item.task for item in outcomes})}


def _seeded(
    tasks: Mapping[str, list[Outcome]], seed: int
) -> list[tuple[tuple[str, list[Outcome]], np.random.Generator]]:
    """Give each task a stream of its own, so that another task beside it changes nothing."""
    return [(item, np.random.Generator(np.random.PCG64([seed, *item[0].encode()]))) for item in tasks.items()]


def _realir_draws(outcomes: Sequence[Outcome], rng: np.random.Generator, resamples: int) -> dict[str, Floats]:
    """Return each score of the task, (1 + R,): first that of all pictures, then those of the resamples."""
    lps_N = np.array([item.values.get("lps", np.nan) for item in outcomes])
    gain_N = np.array([0.0 if item.reason else item.values["after"] - item.values["before"] for item in outcomes])
    clamped_N = np.maximum(gain_N, 0)
    single_N = np.where(clamped_N > 0, 0.2 * (1 - np.nan_to_num(lps_N)) * clamped_N, 0.0)
    picks_RN = _picks(len(outcomes), rng, resamples)
    lps_R, rs_R = _mean(lps_N[picks_RN]), clamped_N[picks_RN].mean(axis=1)
    return {
        "lps": lps_R,
        "rs": rs_R,
        "rs_unclamped": gain_N[picks_RN].mean(axis=1),
        "fs_paper": _fs(lps_R, rs_R),
        "fs_code": single_N[picks_RN].mean(axis=1),
    }


def _reference_draws(outcomes: Sequence[Outcome], rng: np.random.Generator, resamples: int) -> dict[str, Floats]:
    names = sorted({name for item in outcomes for name in item.values if name.removeprefix("input_") in REFERENCE})
    picks_RN = _picks(len(outcomes), rng, resamples)
    return {name: _mean(np.array([item.values.get(name, np.nan) for item in outcomes])[picks_RN]) for name in names}


def _picks(count: int, rng: np.random.Generator, resamples: int) -> NDArray[np.int64]:
    return np.concatenate([np.arange(count)[None], rng.integers(0, count, (resamples, count))])


def _mean(values_RN: Floats) -> Floats:
    """Return the mean of what is known in each row, NaN where nothing is."""
    known_R = (~np.isnan(values_RN)).sum(axis=1)
    total_R = np.nansum(values_RN, axis=1)
    return np.where(known_R > 0, total_R / np.maximum(known_R, 1), np.nan)


def _fs(lps_R: Floats, rs_R: Floats) -> Floats:
    """Return FS of means; where no picture has a distance none was restored, and nothing was gained."""
    return np.asarray(0.2 * (1 - np.nan_to_num(lps_R)) * rs_R)


def _task_scores(outcomes: Sequence[Outcome], draws: Mapping[str, Floats]) -> TaskScores:
    scored = sum(not item.reason for item in outcomes)
    return TaskScores(
        pictures=len(outcomes), scored=scored, scores={name: _score(values) for name, values in draws.items()}
    )


def _score(draws_R: Floats) -> Score:
    value, resampled = draws_R[0], draws_R[1:][~np.isnan(draws_R[1:])]
    if np.isnan(value):
        return Score(value=None, low=None, high=None)
    low, high = np.percentile(resampled, (2.5, 97.5)) if len(resampled) else (value, value)
    return Score(value=float(value), low=float(low), high=float(high))
