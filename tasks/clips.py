"""Choose clips in moving pictures: a few frames around a sharp one, without a cut, in which something moves.

The frames are read twice, from the start: nothing seeks, because seeking finds other frames in other files. The first
time each leaves three numbers; the second time the frames of the chosen clips are kept.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, field_validator

from degradations.optics.clips import speed
from storage.errors import SourceError
from storage.records import Image
from tasks.footage import Footage

SMALL, COARSE = 256, 32  # longer sides, of the copies on which sharpness and cuts are looked for
CUT = 20.0  # mean change of the coarse copy, levels, that is likely a cut; `speed` has the last word
MAX_CLIP_PIXELS = 2**28  # of all frames together: 800 MB decoded


class Options(BaseModel, frozen=True, extra="forbid"):
    """Which clips are made of a video or an image sequence.

    per_source: at most so many, evenly over it. frames: of one clip, odd; the middle one is the clean image.
    min_motion: pixels, at min(H, W) = 1024, that the faster tenth of the picture moves over the clip at least;
    max_speed: from frame to frame at most. max_frames: looked at, from the start.
    """

    per_source: Annotated[int, Field(ge=1, le=64)] = 4
    frames: Annotated[int, Field(ge=7, le=15)] = 9
    min_motion: Annotated[float, Field(ge=0)] = 3.0
    max_speed: Annotated[float, Field(gt=0)] = 40.0
    max_frames: Annotated[int, Field(ge=15)] = 900

    @field_validator("frames")
    @classmethod
    def _is_odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("a clip has an odd number of frames, so that one is in the middle")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Frames in a row, uint8 (K, H, W, 3). index: of the middle one in its source, from 0. broken: one is left out."""

    index: int
    frames: Image
    broken: bool

    @property
    def clean(self) -> Image:
        """The middle frame."""
        return np.asarray(self.frames[len(self.frames) // 2], dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class _Survey:
    """One number a frame. sharpness: of luma. change: against the frame before. jump: the same, too coarse to move."""

    sharpness: NDArray[np.float64]
    change: NDArray[np.float64]
    jump: NDArray[np.float64]


def clips_of(footage: Footage, options: Options) -> Iterator[Clip]:
    """Yield the clips of `footage` in order, one of each of up to `per_source` even stretches, judged by nobody yet.

    Raises SourceError when it cannot be read or has too few frames.
    """
    survey = _survey(footage, options)
    count = len(survey.sharpness)
    if 0 < count < min(options.max_frames, footage.promised) - 2:
        count -= 1  # the file ends early, within this frame
    stretches = min(options.per_source, count // options.frames)
    if not stretches:
        raise SourceError("too_few_frames", f"{count} frames, a clip has {options.frames}")
    borders = [count * number // stretches for number in range(stretches + 1)]
    centres = [_centre(survey, first, last, options.frames // 2) for first, last in pairwise(borders)]
    yield from _collected(footage, centres, options.frames // 2)


def speed_of(clip: Clip, options: Options) -> float:
    """Return the clip's speed in pixels a frame; raises SourceError scene_cut, still_clip or too_fast."""
    if clip.broken:
        raise SourceError("scene_cut", "a frame is left out")
    found = speed(clip.frames)
    if found < 0:
        raise SourceError("scene_cut", "a frame is not what the one before moves to")
    motion = found * (len(clip.frames) - 1)
    if motion < options.min_motion:
        raise SourceError("still_clip", f"it moves by {motion:.2f} pixels, less than {options.min_motion:g}")
    if found > options.max_speed:
        raise SourceError("too_fast", f"it moves by {found:.0f} pixels a frame, more than {options.max_speed:g}")
    return found


def clip_key(sha256: str, index: int) -> str:
    """Return the key of the clip around frame `index` of the source with this hash."""
    return hashlib.sha256(f"{sha256}:{index}".encode()).hexdigest()[:24]


def frames_sha256(frames: Image) -> str:
    """Return the hash by which recipes name these frames (`degradations.pairs.recipes.fingerprint`)."""
    header = f"{frames.dtype.str}{frames.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(frames).tobytes()).hexdigest()


def _survey(footage: Footage, options: Options) -> _Survey:
    rows, before = [], None
    for index, frame in enumerate(footage.frames(options.max_frames)):
        if index == 0 and frame[..., 0].size * options.frames > MAX_CLIP_PIXELS:
            raise SourceError("too_many_pixels", f"{options.frames} frames are over {MAX_CLIP_PIXELS} pixels together")
        small = _luma(frame, SMALL)
        coarse = _luma(frame, COARSE)
        sharpness = float(cv2.meanStdDev(cv2.Laplacian(small, cv2.CV_32F))[1][0, 0])
        last_small, last_coarse = before or (small, coarse)
        jump = float(np.mean(cv2.absdiff(coarse, last_coarse)))
        rows.append((sharpness, float(np.mean(cv2.absdiff(small, last_small))), jump))
        before = (small, coarse)
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    table[[index for index in footage.breaks if index < len(table)], 2] = 255
    return _Survey(table[:, 0], table[:, 1], table[:, 2])


def _luma(frame: Image, longer: int) -> Image:
    scale = min(1.0, longer / max(frame.shape))
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _centre(survey: _Survey, first: int, last: int, reach: int) -> int:
    """Return the sharpest frame from `first` to before `last` whose clip has no cut and moves at least as most do.

    Sharpest alone would choose the moments at which the camera rests.
    """
    centres = np.arange(first + reach, last - reach)
    steps = centres[:, None] + np.arange(1 - reach, reach + 1)
    whole = np.all(survey.jump[steps] <= CUT, axis=1)
    centres, steps = (centres[whole], steps[whole]) if whole.any() else (centres, steps)
    motion = survey.change[steps].mean(axis=1)
    moving = centres[motion >= np.median(motion)]
    return int(moving[np.argmax(survey.sharpness[moving])])


def _collected(footage: Footage, centres: list[int], reach: int) -> Iterator[Clip]:
    waiting, frames = list(centres), list[Image]()
    for index, frame in enumerate(footage.frames(centres[-1] + reach + 1)):
        if waiting and index >= waiting[0] - reach:
            frames.append(frame)
        if len(frames) == 2 * reach + 1:
            inside = range(index - 2 * reach + 1, index + 1)
            broken = not footage.breaks.isdisjoint(inside)
            yield Clip(index=waiting.pop(0), frames=np.stack(frames), broken=broken)
            frames = []
