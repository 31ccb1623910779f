"""`pairforge plan`: its bands hold what a build comes to, and it writes nothing."""

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from flows.__main__ import run
from flows.commands.plan import one_thread, probe
from flows.console import Console
from flows.estimate import LEDGER_BYTES, estimate
from flows.summary import summarise
from tasks.mixture import Options
from tasks.probe import Probe, ProbedPair
from tests.builds import build_here, settings_for, write_photographs

FILES, VARIANTS = 300, 9


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = write_photographs(tmp_path_factory.mktemp("photographs"))
    (folder / "notes.txt").write_text("not a photograph")
    return folder


@pytest.fixture(scope="module")
def planned_and_built(photographs, tmp_path_factory):
    settings = settings_for(photographs, tmp_path_factory.mktemp("built") / "dataset", mixture={"variants": 9})
    files = sorted(path.name for path in photographs.iterdir())
    with one_thread():
        found = estimate(probe(settings, files, Console()), files=len(files), options=settings.mixture, workers=1)
        began = time.process_time()
        build_here(settings)
        seconds = time.process_time() - began
    return found, summarise(Path(settings.output)), seconds


@pytest.fixture
def settings_file(photographs, tmp_path):
    file = tmp_path / "build.toml"
    file.write_text(
        f'seed = 1\noutput = "dataset"\n[source]\nfolder = "{photographs}"\n[clean]\nmin_side = 256\n'
        "[filters.resolution]\nmin_side = 256\n[mixture]\nvariants = 2\nweights = {haze = 3, noise = 1}\n"
    )
    return file


def photograph(rng, pairs=3, dropped=0.1):
    """Return a probe as a folder of one kind of photographs gives it."""
    size = rng.lognormal(13, 0.5)
    tried = tuple(
        ProbedPair(
            name="haze",
            reason="too_weak" if rng.random() < dropped else "",
            seconds=size * 1e-6,
            published=int(size * rng.lognormal(0, 0.2)),
            work=int(size),
        )
        for _ in range(pairs)
    )
    reason = "blurred" if rng.random() < dropped else ""
    return Probe(reason=reason, seconds=size * 1e-6, work=int(size), pairs=() if reason else tried)


def within(figure, value):
    return figure.low <= value <= figure.high


def test_what_is_built_lies_in_the_bands_of_the_plan(planned_and_built):
    found, summary, _ = planned_and_built
    assert within(found.images, summary.images["kept"])
    assert within(found.pairs, summary.pairs)
    assert within(found.bytes, summary.bytes)


def test_the_time_a_build_takes_is_near_its_band(planned_and_built):
    found, _, seconds = planned_and_built
    assert found.cpu_hours.low / 2 < seconds / 3600 < found.cpu_hours.high * 2


def test_bands_hold_the_truth_four_times_in_five():
    rng, hits = np.random.default_rng(5), Counter()
    for _ in range(40):
        folder = [photograph(rng, VARIANTS) for _ in range(FILES)]
        probes = [
            Probe(reason=item.reason, seconds=item.seconds, work=item.work, pairs=item.pairs[:3])
            for item in folder[:12]
        ]
        kept = [pair for item in folder for pair in item.pairs if not pair.reason]
        found = estimate(probes, files=FILES, options=Options(variants=VARIANTS), workers=2)
        hits["images"] += within(found.images, sum(not item.reason for item in folder))
        hits["pairs"] += within(found.pairs, len(kept))
        hits["bytes"] += within(found.bytes, sum(pair.published + LEDGER_BYTES for pair in kept))
    assert min(hits.values()) >= 26  # 32 are expected, 26 are 2.4 standard deviations fewer


def test_probing_every_photograph_leaves_no_doubt_how_many_are_kept():
    rng = np.random.default_rng(1)
    found = estimate([photograph(rng, dropped=0)] * 5, files=5, options=Options(), workers=1)
    assert (found.images.low, found.images.value, found.images.high) == (5, 5, 5)


def test_twelve_kept_of_twelve_do_not_promise_that_all_will_be():
    rng = np.random.default_rng(1)
    found = estimate([photograph(rng, dropped=0) for _ in range(12)], files=1000, options=Options(), workers=1)
    assert found.images.low < 1000
    assert found.images.high > 990


def test_types_follow_the_mixture():
    rng = np.random.default_rng(1)
    options = Options(variants=10, weights={"haze": 3, "noise": 1})
    found = estimate([photograph(rng, dropped=0) for _ in range(12)], files=12, options=options, workers=1)
    assert found.by_degradation["haze"] == pytest.approx(3 * found.by_degradation["noise"], abs=3)


def test_a_quota_caps_its_type():
    rng = np.random.default_rng(1)
    options = Options(variants=9, quotas={"haze": 7, "noise": 7})
    found = estimate([photograph(rng, dropped=0) for _ in range(12)], files=500, options=options, workers=1)
    assert found.pairs.high <= 14


def test_more_workers_take_less_time():
    rng = np.random.default_rng(1)
    probes = [photograph(rng) for _ in range(12)]
    one, four = (estimate(probes, files=10_000, options=Options(), workers=workers) for workers in (1, 4))
    assert four.hours.value < one.hours.value / 3


def test_a_folder_without_photographs_comes_to_nothing():
    found = estimate([Probe(reason="not_an_image", seconds=0.001)] * 4, files=4, options=Options(), workers=1)
    assert (found.images.high, found.pairs.high, found.bytes.high) == (0, 0, 0)


def test_plan_writes_nothing(settings_file, photographs, capsys):
    before = sorted(settings_file.parent.rglob("*")), sorted(photographs.rglob("*"))
    assert run(["plan", str(settings_file), "--limit", "2"]) == 0
    assert (sorted(settings_file.parent.rglob("*")), sorted(photographs.rglob("*"))) == before
    shown = capsys.readouterr().out
    assert "pairs" in shown
    assert len(shown.splitlines()) <= 24


def test_json_gives_every_figure_its_band(settings_file, capsys):
    assert run(["plan", str(settings_file), "--limit", "2", "--workers", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("images", "pairs", "bytes", "disk_bytes", "cpu_hours", "hours"):
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
    assert (found["files"], found["probed"], found["workers"]) == (2, 2, 3)
    assert set(found["by_degradation"]) == {"haze", "noise"}


def test_a_folder_is_planned_without_naming_an_output(photographs, capsys):
    assert run(["plan", str(photographs), "--limit", "1"]) == 0
    assert not photographs.with_name(f"{photographs.name}-dataset").exists()
    assert "dataset" in capsys.readouterr().out
