"""What Prefect and Ray cost: a build beside a bare process pool that runs the same units through the same functions.

Both are run on a few images and on many, in turns. What the few cost is start-up (a server, Ray, imports) and work;
what each unit more costs is the difference, divided by the units that the many have more. CPU-seconds are those of all
processes, the server's included (see `process_tree`). `PAIRFORGE_BENCH_IMAGES` sets the many, 2000 unless set.
"""

import sys
from pathlib import Path

import pytest

from tests.benchmarks.crops import images, settings_text, write_crops
from tests.benchmarks.process_tree import cost_of, pairforge

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

MOST = 2000
FEW = 128  # at least two whole buckets: units as large as those of the many, and every worker is started
VARIANTS = 3
GOAL = 1.05
POOL = Path(__file__).with_name("pooled_build.py")


def test_a_work_shard_costs_no_more_than_in_a_bare_process_pool(tmp_path, capsys):
    most = images(MOST)
    write_crops(tmp_path / "photographs", most)
    rows = {}
    for count in (max(FEW, most // 16), most):
        for engine in ("pool", "pairforge"):
            rows[engine, count] = _measure(tmp_path, engine, count)
    few, many = sorted({count for _, count in rows})
    slopes, lines = {}, []
    for engine in ("pool", "pairforge"):
        (small, fewer), (large, more) = rows[engine, few], rows[engine, many]
        slopes[engine] = (large.total - small.total) / (more - fewer)
        lines += [_line(engine, few, fewer, small), _line(engine, many, more, large)]
    fixed = {engine: rows[engine, few][0].total - slopes[engine] * rows[engine, few][1] for engine in slopes}
    ratio = slopes["pairforge"] / slopes["pool"]
    lines += [
        f"{name:<10} {slopes[name]:7.3f} CPU-s a work shard, {fixed[name]:6.1f} to start and stop" for name in slopes
    ]
    with capsys.disabled():
        print("", *lines, f"ratio      {ratio:7.3f} a work shard", sep="\n")  # noqa: T201
    assert ratio <= GOAL


def _measure(folder, engine, count):
    from tasks.remote import ENVIRONMENT  # here: other tests set Ray's environment before they import it

    file, output = folder / f"{engine}-{count}.toml", folder / f"{engine}-{count}"
    text = settings_text(folder / "photographs", output, variants=VARIANTS)
    file.write_text(text.replace("[source]", f"[source]\nlimit = {count}"))
    command = pairforge("build", file, "--json") if engine == "pairforge" else [sys.executable, POOL, file]
    cost = cost_of(command, XDG_DATA_HOME=str(folder / "data"), **ENVIRONMENT)
    return cost, _units(output)


def _units(dataset):
    """Return how many work shards were committed."""
    stages = ("crawl", "clean", "measure", "annotate", "degrade", "pack")
    commits = [file for stage in stages for file in (dataset / ".work" / stage).glob("*.json")]
    return sum(1 for file in commits if not file.name.endswith(".files.json"))


def _line(engine, count, units, cost):
    roles = ", ".join(f"{role} {seconds:.1f}" for role, seconds in cost.cpu.items())
    return f"{engine:<10} {count:5d} images {units:5d} work shards {cost.total:8.1f} CPU-s ({roles}) {cost.wall:6.0f} s"
