"""Small moving pictures as sources: a camera that walks over a photograph, as a video or as numbered images."""

import hashlib
import json
from pathlib import Path

import cv2
import pytest
import skimage.data

from storage.ledger import read_table, write_table
from storage.records import WorkShard
from tasks import clean
from tasks.crawl import SOURCES
from tasks.footage import with_sequences

SIDE = 256


def pan(photograph, count, step=3, row=0):
    """Return the frames of a camera that moves straight over a photograph."""
    return [photograph[row : row + SIDE, step * at : step * at + SIDE] for at in range(count)]


ASTRONAUT, COFFEE = skimage.data.astronaut(), skimage.data.coffee()
WALK, STILL = pan(ASTRONAUT, 30), pan(ASTRONAUT, 12, step=0)
CUT = [*pan(ASTRONAUT, 6), *pan(COFFEE, 5, row=100)]


def write_video(path, frames, codec="MJPG"):
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), 25, (width, height))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {codec}")
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def write_sequence(folder, frames, first=1, step=1):
    folder.mkdir(parents=True)
    for at, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"view_{first + step * at}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return folder


def crawled(root, uri):
    data = (root / uri).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    return {"uri": uri, "sha256": sha256, "bytes": len(data), "status": "found", "licence": "CC0", "author": "Ada"}


def sources(root):
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return with_sequences([crawled(root, uri) for uri in files])


def cleaned(root, tmp_path, options=None, quarantine=()):
    """Run the clean stage on all of `root`."""
    table, stem = tmp_path / "sources.parquet", tmp_path / "clean" / "b0"
    write_table(table, sources(root), SOURCES)
    stem.parent.mkdir(exist_ok=True)
    Path(f"{stem}.quarantine.json").write_text(json.dumps(list(quarantine)))
    shard = WorkShard(stage="clean", bucket="b0", inputs=(str(root), str(table)), output=str(stem), seed=0)
    report = clean.run(shard, options or clean.Options(min_side=64))
    return report, read_table(Path(f"{stem}.parquet"))
