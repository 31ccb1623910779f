"""How long a degradation takes, uint8 in and uint8 out at 1024 x 1024 on one thread, beside other libraries.

All candidates take turns in one run; of nine rounds the median of the CPU time counts. It is told as a multiple r of
one reference operation of the same run, `cv2.GaussianBlur` of sigma 5 on the float32 picture, because milliseconds
mean nothing on another machine. Each degradation is drawn at the middle of the scale (severity 0.6) by several seeds,
so that every mode has its share; the row tells the median over the seeds and the slowest. Drawing is timed apart.
"""

import ctypes
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data

from degradations import load
from degradations.pairs.render import render_params
from storage.records import Image, Scene
from tests.benchmarks.degradation_peers import peers
from tests.scenes import annotated, psnr, sampled

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

SIDE, ROUNDS, SEVERITY, SEEDS = 1024, 9, 0.6, 5
TARGETS = {  # r; of `blur` by cause
    "blur shake": 1.7,
    "blur linear": 0.5,
    "blur Gaussian": 0.35,
    "blur defocus": 3.2,
    "compression": 0.35,
    "moire": 1.0,
    "flare": 0.9,
    "haze": 0.75,
    "reflection": 1.6,
    "low_light": 1.1,
    "noise": 1.1,
    "rain": 1.4,
}
OPTIONS = {  # of rows that stand for one cause
    "blur shake": {"linear": 0, "object_motion": 0, "rotation": 0, "defocus": 0, "web": 0},
    "blur linear": {"shake": 0, "object_motion": 0, "rotation": 0, "defocus": 0, "web": 0},
    "blur defocus": {"shake": 0, "linear": 0, "object_motion": 0, "rotation": 0, "web": 0},
}
SLACK = 6.0  # a row that takes more than this times its target is a regression; a busy machine takes three times

Candidate = Callable[[], object]


@pytest.fixture(autouse=True)
def alone():
    """One thread, and memory that stays with the process, as in the workers (`tasks.remote.ENVIRONMENT`)."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    keep = getattr(ctypes.CDLL(None), "mallopt", None)
    if keep is not None:
        keep(-3, 2**28)  # M_MMAP_THRESHOLD
        keep(-1, 2**28)  # M_TRIM_THRESHOLD
    yield
    cv2.setNumThreads(threads)


def photograph() -> Image:
    """Return the astronaut and its mirror images, 1024 x 1024."""
    quarter = np.asarray(skimage.data.astronaut())
    half = np.hstack((quarter, quarter[:, ::-1]))
    return np.ascontiguousarray(np.vstack((half, half[::-1])))


def params_of(row: str, target: Scene, seed: int):
    name = row.split()[0]
    if row == "blur Gaussian":
        drawn = sampled("blur", SEVERITY, target, seed, shake=0, linear=0, object_motion=0, rotation=0, defocus=0)
        return replace(drawn, motion=replace(drawn.motion, kernel="gaussian", aspect=1.0, beta=1.0))
    if row == "compression":  # one generation of JPEG
        drawn = sampled("compression", SEVERITY, target, seed, webp=0, avif=0, video=0)
        return replace(drawn, generations=(replace(drawn.generations[0], sharpen=0.0),))
    return sampled(name, SEVERITY, target, seed, **OPTIONS.get(row, {}))


def scene_of(image: Image) -> Scene:
    """Return the scene as a build has it: depth, segments and a second photograph, no patterns."""
    full = annotated(image)
    return replace(full, overlays={"reflection": full.overlays["reflection"]})


def seconds(candidates: dict[object, Candidate], rounds: int = ROUNDS) -> dict[object, float]:
    """Return the median CPU time of each candidate, all taking turns; the first round warms up."""
    spent: dict[object, list[float]] = {key: [] for key in candidates}
    for _ in range(rounds + 1):
        for key, candidate in candidates.items():
            start = time.process_time()
            candidate()
            spent[key].append(time.process_time() - start)
    return {key: float(np.median(times[1:])) for key, times in spent.items()}


def test_degradations_reach_their_times_and_stand_beside_their_peers(capsys):
    target = scene_of(photograph())
    light = target.image.astype(np.float32) / 255
    others, absent = peers()
    candidates: dict[object, Candidate] = {"reference": lambda: cv2.GaussianBlur(light, (0, 0), 5)}
    for row in TARGETS:
        for seed in range(SEEDS):
            drawn = [(load(row.split()[0]), params_of(row, target, seed))]
            candidates[row, seed] = lambda drawn=drawn: render_params(target, drawn)
    working, strength = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for label, (row, operation) in others.items():
            failure = _failure(operation, target.image)
            if failure:
                absent.append(f"{label} ({failure})")
                continue
            working[label] = row
            strength[label] = psnr(target.image, operation(target.image))
            candidates[label] = lambda operation=operation: operation(target.image)
        measured = seconds(candidates)
    reference = measured.pop("reference")
    rows = {row: [measured[row, seed] / reference for seed in range(SEEDS)] for row in TARGETS}
    beside = {label: (row, measured[label] / reference, strength[label]) for label, row in working.items()}
    harm = {row: _strength(target, row) for row in TARGETS}
    with capsys.disabled():
        sys.stdout.write(_table(reference, rows, harm, beside, absent))
    for row, target_r in TARGETS.items():
        assert np.median(rows[row]) < SLACK * target_r, row


def test_drawing_costs_less_than_rendering(capsys):
    target = scene_of(photograph())
    names = sorted({row.split()[0] for row in TARGETS} | {"snow"})
    candidates = {
        (name, seed): lambda name=name, seed=seed: sampled(name, SEVERITY, target, seed)
        for name in names
        for seed in range(4)
    }
    light = target.image.astype(np.float32) / 255
    measured = seconds({"reference": lambda: cv2.GaussianBlur(light, (0, 0), 5), **candidates}, rounds=5)
    reference = measured.pop("reference")
    drawing = {name: float(np.median([measured[name, seed] for seed in range(4)])) for name in names}
    with capsys.disabled():
        lines = [f"  {name:12s} r {cost / reference:5.2f}  {1e3 * cost:6.1f} ms" for name, cost in drawing.items()]
        sys.stdout.write("\n".join(["", "drawing the parameters", *lines, ""]))
    assert max(drawing.values()) < 4 * reference


def _failure(operation, image: Image) -> str:
    """Return why `operation` does not run with the libraries of today, or nothing."""
    try:
        operation(image)
    except Exception as error:  # a peer may break in any way; which one is told
        return f"{type(error).__name__}: {str(error)[:60]}"
    return ""


def _strength(target: Scene, row: str) -> float:
    """Return the median PSNR, in dB, of what is timed in `row`."""
    pairs = [render_params(target, [(load(row.split()[0]), params_of(row, target, seed))]) for seed in range(SEEDS)]
    return float(np.median([psnr(pair.clean, pair.degraded) for pair in pairs]))


def _table(reference: float, rows, harm, beside, absent) -> str:
    lines = [
        "",
        f"reference: GaussianBlur sigma 5, float32, {SIDE} x {SIDE}: {1e3 * reference:.1f} ms; severity {SEVERITY}",
        f"{'row':14s} {'target r':>8s} {'r':>6s} {'slowest':>8s} {'ms':>6s} {'dB':>5s}        peers, r (dB)",
    ]
    for row, values in rows.items():
        r = float(np.median(values))
        told = ", ".join(f"{label} {peer_r:.2f} ({db:.1f})" for label, (of, peer_r, db) in beside.items() if of == row)
        verdict = "pass" if r <= TARGETS[row] else "MISS"
        lines.append(
            f"{row:14s} {TARGETS[row]:8.2f} {r:6.2f} {max(values):8.2f} {1e3 * r * reference:6.1f} {harm[row]:5.1f}"
            f"  {verdict}  {told}"
        )
    if absent:
        lines.append(f"not measured: {', '.join(absent)} (see degradation_peers.py)")
    return "\n".join([*lines, ""])
