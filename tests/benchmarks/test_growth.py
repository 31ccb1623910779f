"""Growth: with twice the images a pair costs the same and no process needs more memory.

The smallest size is enough for what is bounded to be nearly full: parts of the ledger, slices, shards, report. What a
pair costs is what a larger build costs more, for the pairs it has more: start-up cancels. As the difference of two
measurements it wants a quiet machine; so the upper half of the sizes is compared with the lower.
`PAIRFORGE_BENCH_IMAGES` is the largest of the four sizes, 2000 unless set.
"""

from itertools import pairwise

import pytest

from flows.dataset import Dataset
from tests.benchmarks.crops import images, settings_text, write_crops
from tests.benchmarks.process_tree import cost_of, pairforge

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

MOST = 2000
SIDE = 128
VARIANTS = 1
BUCKET = 32  # images; 250 are eight buckets, two parts of the ledger
TOLERANCE = 1.10


def test_cost_of_a_pair_and_peak_memory_do_not_grow_with_the_dataset(tmp_path, capsys):
    most = images(MOST)
    photographs = write_crops(tmp_path / "photographs", most, side=SIDE)
    _measure(photographs, BUCKET, tmp_path)  # the server's database is made once, which is not growth
    rows = [_measure(photographs, count, tmp_path) for count in (most // 8, most // 4, most // 2, most)]
    costs = [None, *(_more(a, b) for a, b in pairwise(rows))]
    with capsys.disabled():
        title = f"\n{'images':>6} {'pairs':>6} {'CPU-s':>8} {'ms a pair more':>15} {'driver':>8} {'worker':>8}"
        lines = [_line(row, cost, rows[0]) for row, cost in zip(rows, costs, strict=True)]
        print(title, *lines, sep="\n")  # noqa: T201
    assert _more(rows[-2], rows[-1]) <= TOLERANCE * _more(rows[0], rows[-2])
    assert rows[-1]["driver"] <= TOLERANCE * rows[0]["driver"]
    assert rows[-1]["worker"] <= TOLERANCE * rows[0]["worker"]


def _measure(photographs, count, folder):
    file, output = folder / f"{count}.toml", folder / f"dataset-{count}"
    text = settings_text(photographs, output, variants=VARIANTS, side=SIDE, images_per_bucket=BUCKET)
    text = text.replace("[source]", f"[source]\nlimit = {count}")
    file.write_text(text + "[pack]\npairs_per_shard = 100\n")
    cost = cost_of(pairforge("build", file, "--json"), XDG_DATA_HOME=str(folder / "data"), OMP_NUM_THREADS="1")
    pairs = sum(1 for _ in Dataset(output).rows("pairs", ("key",)))
    return {"images": count, "pairs": pairs, "cpu": cost.total, "by role": cost.cpu, **cost.peak}


def _more(small, large):
    """Return the CPU-seconds of each pair that `large` has more."""
    return (large["cpu"] - small["cpu"]) / (large["pairs"] - small["pairs"])


def _line(row, cost, first):
    memory = " ".join(f"{row[role] / 2**20:4.0f} MB" for role in ("driver", "worker"))
    ratios = " ".join(f"{row[role] / first[role]:.3f}" for role in ("driver", "worker"))
    shown = f"{1000 * cost:15.1f}" if cost else f"{'':>15}"
    roles = ", ".join(f"{role} {seconds:.0f}" for role, seconds in row["by role"].items())
    return f"{row['images']:6d} {row['pairs']:6d} {row['cpu']:8.1f} {shown} {memory}  ratios {ratios} ({roles})"
