"""Moving pictures as sources: video files, and image sequences in folders whose name ends in `.frames`.

* A video is MP4, MOV, AVI, Matroska or WebM, told by its first bytes, never by name. FFmpeg, as OpenCV brings it, reads
  it through the file that was hashed (no name, so no protocol and no other file), on one thread, without hardware: the
  same frames on every machine with that FFmpeg. It is turned as its header says. What FFmpeg conceals of a damaged
  middle is not noticed; a damaged end is cut off.
* A sequence is a folder such as `walk.frames`: its files `<anything><number>.png` (or jpg, jpeg, webp, tif, tiff, bmp)
  are one clip in the order of their numbers. Nothing else makes photographs a sequence: folders of equally sized,
  consecutively numbered stills are how most photographs are kept. Where a number is left out, the sequence is broken.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import cv2
import numpy as np

from storage.canonical import decode as decode_json
from storage.canonical import digest, encode
from storage.errors import SourceError
from storage.records import Image
from tasks.crawl import path_of
from tasks.decode import MAX_SIDE, decode

HEAD = 16  # bytes that tell a video

_BRANDS = (b"iso", b"mp4", b"avc1", b"qt  ", b"M4V", b"3gp", b"3g2", b"dash", b"mmp4", b"MSNV", b"F4V", b"XAVC")
_QUICKTIME = (b"moov", b"mdat", b"wide")  # boxes at the front of a MOV older than brands
_ON_CPU = (cv2.CAP_PROP_HW_ACCELERATION, cv2.VIDEO_ACCELERATION_NONE, cv2.CAP_PROP_N_THREADS, 1)
_MEMBER = re.compile(r"(?P<folder>.+\.frames)/[^/]*?(?P<number>\d{1,15})\.(?:png|jpe?g|webp|tiff?|bmp)", re.IGNORECASE)
_CHUNK = 1 << 20

Row = Mapping[str, Any]
Member = tuple[str, str, int]  # uri, sha256 and bytes of one frame of a sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is refused before a frame is decoded: sides and pixels of a frame, as of a photograph."""

    min_side: int
    max_pixels: int


class Footage(Protocol):
    """Frames that can be read from the start as often as one likes."""

    @property
    def format(self) -> str:
        """The name of the format, as in the ledger."""
        ...

    @property
    def promised(self) -> int:
        """How many frames there should be, once they were begun to be read; 0 where nobody says."""
        ...

    @property
    def breaks(self) -> frozenset[int]:
        """Which frames do not directly follow the one before."""
        ...

    def frames(self, most: int) -> Iterator[Image]:
        """Yield up to `most` frames, uint8 (H, W, 3) RGB, all of one size; raises SourceError if there is none."""
        ...


def is_footage(source: Row, folder: Path) -> bool:
    """Tell whether a source is a sequence or a video; a file that cannot be read is neither."""
    if source.get("frames"):
        return True
    try:
        with path_of(folder, source["uri"]).open("rb") as file:
            return video_format(file.read(HEAD)) != ""
    except OSError:
        return False


def video_format(head: bytes) -> str:
    """Return the container that the first HEAD bytes tell: mp4, mov, avi, matroska; empty if it is no video."""
    if head[4:8] == b"ftyp":
        return "mov" if head[8:12] == b"qt  " else "mp4" if head[8:].startswith(_BRANDS) else ""
    if head[4:8] in _QUICKTIME and len(head) == HEAD:
        return "mov"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return "matroska" if head[:4] == b"\x1aE\xdf\xa3" else ""


def open_footage(source: Row, folder: Path, limits: Limits) -> AbstractContextManager[Footage]:
    """Open a source that `is_footage`; SourceError "changed" unless its bytes are those that were crawled."""
    if source.get("frames"):
        return _opened_sequence(source, folder, limits)
    return _opened_video(source, folder, limits)


def sequence_of(uri: str) -> str:
    """Return the uri of the sequence that the file at `uri` belongs to, empty if to none."""
    found = _MEMBER.fullmatch(uri)
    return found["folder"] if found else ""


def with_sequences(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the crawled files with those of each sequence as one source: its hash is that of its frames in order."""
    sources, sequences = [], dict[str, list[Row]]()
    for row in rows:
        if folder := sequence_of(row["uri"]):
            sequences.setdefault(folder, []).append(row)
        else:
            sources.append(dict(row))
    return sources + [_sequence(uri, members) for uri, members in sequences.items()]


def _sequence(uri: str, rows: Sequence[Row]) -> dict[str, Any]:
    ordered = sorted(rows, key=lambda row: (_number(row["uri"]), row["uri"]))
    members = [(row["uri"], row["sha256"], row["bytes"]) for row in ordered]
    rights = {name: "; ".join(sorted({row[name] for row in rows})) for name in ("licence", "author")}
    return {
        **ordered[0],
        **rights,
        "uri": uri,
        "sha256": digest([(_number(name), sha256) for name, sha256, _ in members]),
        "bytes": sum(size for _, _, size in members),
        "frames": encode(members).decode(),
    }


def _number(uri: str) -> int:
    found = _MEMBER.fullmatch(uri)
    assert found, f"{uri} belongs to no sequence"
    return int(found["number"])


@dataclass(slots=True, kw_only=True)
class _Video:
    file: BinaryIO
    format: str
    limits: Limits
    promised: int = 0
    breaks: frozenset[int] = field(default_factory=frozenset)

    def frames(self, most: int) -> Iterator[Image]:
        self.file.seek(0)
        try:
            capture = cv2.VideoCapture(self.file, cv2.CAP_FFMPEG, _ON_CPU)  # type: ignore[call-overload]
        except cv2.error as error:
            raise SourceError("corrupt", f"{self.format}: {error.err}") from error
        try:
            yield from self._decoded(capture, most)
        finally:
            capture.release()

    def _decoded(self, capture: cv2.VideoCapture, most: int) -> Iterator[Image]:
        if not capture.isOpened():
            raise SourceError("unreadable_video", f"{self.format}: damaged, or no video stream in a known codec")
        width, height = (int(capture.get(name)) for name in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        _check_size(width, height, self.limits)
        self.promised = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        for number in range(most):
            found, frame = capture.read()
            if not found:
                if number == 0:
                    raise SourceError("unreadable_video", f"{self.format}: not one frame decodes")
                return
            if frame.ndim != 3 or {*frame.shape[:2]} != {height, width}:  # it may have been turned
                raise SourceError("corrupt", f"{self.format}: frame {number} is {frame.shape}, not {height}x{width}")
            yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)


@contextmanager
def _opened_video(source: Row, folder: Path, limits: Limits) -> Iterator[Footage]:
    with closing(_verified(source, folder)) as file:
        yield _Video(file=file, format=video_format(file.read(HEAD)), limits=limits)


def _verified(source: Row, folder: Path) -> BinaryIO:
    try:
        file = path_of(folder, source["uri"]).open("rb")
        sha256 = hashlib.sha256()
        while data := file.read(_CHUNK):
            sha256.update(data)
        file.seek(0)
    except OSError as error:
        raise SourceError("changed", f"it can no longer be read: {error.strerror}") from error
    if sha256.hexdigest() != source["sha256"]:
        file.close()
        raise SourceError("changed", "its bytes are not those that were crawled")
    return file


@dataclass(slots=True, kw_only=True)
class _Sequence:
    folder: Path
    members: Sequence[Member]
    limits: Limits
    breaks: frozenset[int]
    format: str = "frames"

    @property
    def promised(self) -> int:
        return len(self.members)

    def frames(self, most: int) -> Iterator[Image]:
        shape: tuple[int, ...] = ()
        for uri, sha256, size in self.members[:most]:
            image = self._frame(uri, sha256, size)
            shape = shape or image.shape
            if image.shape != shape:
                raise SourceError("mixed_sizes", f"{uri} is {image.shape[1]} x {image.shape[0]}, the first is not")
            yield image

    def _frame(self, uri: str, sha256: str, size: int) -> Image:
        try:
            with path_of(self.folder, uri).open("rb") as file:
                data = file.read(size + 1)
        except OSError as error:
            raise SourceError("changed", f"{uri} can no longer be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise SourceError("changed", f"the bytes of {uri} are not those that were crawled")
        try:
            return decode(data, max_pixels=self.limits.max_pixels, min_side=self.limits.min_side).image
        except SourceError as error:
            raise SourceError(error.reason, f"{uri}: {error}") from error


@contextmanager
def _opened_sequence(source: Row, folder: Path, limits: Limits) -> Iterator[Footage]:
    members = decode_json(list[Member], source["frames"].encode())
    numbers = [_number(uri) for uri, _, _ in members]
    steps = [after - before for before, after in pairwise(numbers)]
    usual = min((step for step in steps if step > 0), default=1)
    breaks = frozenset(index + 1 for index, step in enumerate(steps) if step != usual)
    yield _Sequence(folder=folder, members=members, limits=limits, breaks=breaks)


def _check_size(width: int, height: int, limits: Limits) -> None:
    if min(width, height) < max(1, limits.min_side):
        raise SourceError("too_small", f"{width} x {height}: a side is below {limits.min_side}")
    if width * height > limits.max_pixels:
        raise SourceError("too_many_pixels", f"{width} x {height} are more than {limits.max_pixels} pixels")
    if max(width, height) > MAX_SIDE:
        raise SourceError("too_wide", f"{width} x {height}: a side is above {MAX_SIDE}")
