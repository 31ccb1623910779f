"""Where the time of a pair goes: by stage and degradation, and beside webdataset's own writer.

One process, one thread, on photographs of 1024 pixels; CPU-seconds. `PAIRFORGE_BENCH_PHOTOGRAPHS` sets how many, 6
unless set.
"""

import os
import threading
import time
import tomllib
from collections import Counter
from statistics import median

import cv2
import pytest
import skimage.data

from flows.job import run_job
from flows.observers import Board
from flows.settings import parse_settings
from storage import samples
from storage.shards import ShardWriter, read_shard
from tasks.units import InProcess
from tests.benchmarks.crops import BUNDLED, settings_text
from tests.benchmarks.rendered import evenly, photographs, read

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

SIDE = 1024
ROUNDS = 5
REST = "exchanges, publishing, report"
MOST_REST = 4.0  # CPU-s: the pictures of the report, which do not become more


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build a dataset here; return it and the CPU-seconds and items of every unit as (stage, unit) -> (s, items)."""
    folder = tmp_path_factory.mktemp("stages")
    cv2.setNumThreads(1)
    _write_photographs(folder / "photographs")
    content = tomllib.loads(settings_text(folder / "photographs", folder / "dataset", variants=9, workers=1))
    settings, spent = parse_settings(content, origin="benchmark", base=folder), {}

    def run_units(stage, units):
        with InProcess() as workers:
            for unit in units:
                began = time.process_time()
                (report,) = workers.run([unit], on_done=lambda _: None, stop=threading.Event())
                spent[stage, unit.shard.bucket] = time.process_time() - began, report.kept

    began = time.process_time()
    run_job(settings, run_units, Board())
    whole = time.process_time() - began
    return folder / "dataset", spent, whole


def test_time_per_pair_by_stage_and_degradation(built, capsys):
    _, spent, whole = built
    pairs = sum(items for (stage, _), (_, items) in spent.items() if stage == "degrade")
    by_stage, made = Counter(), Counter()
    for (stage, bucket), (seconds, items) in spent.items():
        by_stage[stage] += seconds
        if stage in ("degrade", "measure pairs"):
            name = bucket.split("-", 1)[1]
            by_stage[f"{stage}: {name}"] += seconds
            made[f"{stage}: {name}"] += items
    stages = [stage for stage in by_stage if stage not in made]
    by_stage[REST] = whole - sum(by_stage[stage] for stage in stages)
    lines = [f"{pairs} pairs, at most {SIDE} pixels a side, {whole / pairs:.3f} CPU-s each"]
    for stage, seconds in by_stage.most_common():
        each = made.get(stage, pairs)
        lines.append(f"{stage:<32} {1000 * seconds / each:8.1f} ms a pair {seconds / whole:7.1%} of all")
    with capsys.disabled():
        print("", *lines, sep="\n")  # noqa: T201
    assert by_stage[REST] < MOST_REST + 0.05 * whole


def test_encoding_and_writing_beside_the_writer_of_webdataset(built, tmp_path, capsys):
    import webdataset

    stored = [members for shard in sorted((built[0] / "shards").glob("*.tar")) for members in read_shard(shard)]
    pixels = [samples.decode_image(data) for _, members in stored for name, data in members.items() if name != "json"]
    encode = _cpu(lambda: [samples.encode_image(image, "webp") for image in pixels]) / len(pixels)
    size = sum(len(data) for _, members in stored for data in members.values()) / len(stored)

    def ours(round_number):
        with ShardWriter(tmp_path / f"ours-{round_number}.tar") as writer:
            for key, members in stored:
                writer.add(key, members)

    def theirs(round_number):
        with webdataset.ShardWriter(
            str(tmp_path / f"theirs-{round_number}-%d.tar"), verbose=0, maxsize=2**40
        ) as writer:
            for key, members in stored:
                writer.write({"__key__": key, **members})

    times = {writer: [] for writer in (ours, theirs)}
    for number in range(ROUNDS):
        for writer, found in times.items():
            found.append(_cpu(lambda writer=writer, number=number: writer(number)))
    own, other = (median(found) / len(stored) for found in times.values())
    ratio = (2 * encode + own) / (2 * encode + other)
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{len(stored)} pairs, {size / 1e6:.2f} MB each"
            f"\nencode one image, lossless WebP {1000 * encode:7.2f} CPU-ms"
            f"\nwrite, hashed, fsynced, indexed {1000 * own:7.2f} CPU-ms a pair"
            f"\nwebdataset.ShardWriter          {1000 * other:7.2f} CPU-ms a pair, ratio {own / other:.2f}"
            f"\nencode and write                {1000 * (2 * encode + own):7.2f} CPU-ms a pair, ratio {ratio:.3f}"
        )
    assert ratio < 1.05


def _cpu(work):
    began = time.process_time()
    work()
    return time.process_time() - began


def _write_photographs(folder):
    folder.mkdir()
    count = int(os.environ.get("PAIRFORGE_BENCH_PHOTOGRAPHS", 6))
    files = [file for file in sorted(photographs().glob("clean/*")) if min(read(file, 10**6).shape[:2]) >= 700]
    images = [read(file, SIDE) for file in evenly(files, count)]
    images = images or [getattr(skimage.data, name)() for name in BUNDLED]
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
