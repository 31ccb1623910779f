"""The stages with weights prepare the same in another process as in their own, and send no pixels for nothing."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import skimage.data

pytest.importorskip("httpx", reason="httpx is not installed: install PairForge's `models` extra")

from filters import load
from filters._contract import Filter, Split
from filters._vlm import shown
from storage.ledger import read_table
from tasks import annotate, measure
from tasks.progress import finished, quarantined
from tasks.units import InProcess, Unit
from tests.quiet_ray import quiet_ray
from tests.test_clean import Bucket, png
from tests.test_remote import run
from tests.vlm_server import graded, picture_in, serve


@pytest.fixture
def bucket(tmp_path):
    """A cleaned bucket of five photographs of two sizes; returns the stem of its clean images."""
    found = Bucket(tmp_path)
    for index in range(5):
        part = skimage.data.astronaut()[40 * index : 40 * index + 160, 100 : 340 - 20 * (index % 2)]
        found.add(f"{index}.png", png(np.ascontiguousarray(part)))
    found.clean()
    return found


def shard(bucket, stage, name="b0"):
    return bucket.shard(stage, f"{stage}/{name}", (str(bucket.root / "clean/b0"),), ())


def by_brightness(number, body):
    return graded(1 + int(picture_in(body).mean()) % 5)


@pytest.fixture(scope="module")
def cluster():
    with quiet_ray():
        from tasks.remote import Cluster

        with Cluster(1, preparers=2) as workers:
            yield workers


@pytest.mark.stack
def test_what_was_prepared_elsewhere_gives_the_same_bytes(cluster, bucket):
    with serve(by_brightness) as running:
        severity = load("severity_vlm")(url=running.url, asked="haze")
        options = {"annotate": annotate.Options(), "measure": measure.Options(filters={"severity_vlm": severity})}
        reports = {}
        for name, workers in (("alone", InProcess()), ("ray", cluster)):
            units = [
                Unit(stage=f"tasks.{stage}", shard=shard(bucket, stage, name), options=chosen, actor=True)
                for stage, chosen in options.items()
            ]
            reports[name] = [(report.kept, report.sha256) for report in run(workers, units)]
    assert reports["ray"] == reports["alone"]
    assert [kept for kept, _ in reports["ray"]] == [5, 5]
    scores = read_table(bucket.root / "measure/ray.parquet")
    assert len({row["scores"]["severity_vlm.degraded_haze"] for row in scores}) > 1


def test_pixels_stay_behind_where_every_filter_has_what_it_needs(bucket):
    severity = load("severity_vlm")(url="http://127.0.0.1:9/v1", asked="haze")
    whole = measure.Options(filters={"severity_vlm": severity, "resolution": load("resolution")()})
    for options, pixels in ((measure.Options(filters={"severity_vlm": severity}), 0), (whole, 5)):
        (group,) = measure.groups(shard(bucket, "measure"), options)
        ready = measure.prepare(group, options)
        assert len(ready.samples) == pixels
        assert len(ready.made["severity_vlm"]) == 5
    clean = {sample.key: sample.clean for sample in ready.samples}
    for key, asked in zip(ready.keys, ready.made["severity_vlm"], strict=True):
        assert np.array_equal(asked.pictures["degraded"], shown(clean[key]))


def test_a_group_says_where_its_images_lie_and_is_small(bucket):
    for stage, options in ((annotate, annotate.Options()), (measure, measure.Options(filters={}))):
        for group in stage.groups(shard(bucket, stage.__name__.rpartition(".")[2]), options):
            assert len(pickle.dumps(group)) < 2000 * len(group.keys)


def test_embedded_annotations_are_made_where_images_are_prepared(bucket):
    options = annotate.Options()
    (first, *_) = annotate.groups(shard(bucket, "annotate"), options)
    ready = annotate.prepare(first, options)
    assert set(ready.made) == {"depth", "segments"}
    assert ready.made["depth"][0].shape == ready.images[0].shape[:2]


class Deadly(Filter, frozen=True):
    """Ends the process, as far as a test can have that, at one key."""

    subject = "image"
    key: str

    def open(self, device):
        def look(samples):
            if self.key in [sample.key for sample in samples]:
                raise KeyboardInterrupt
            return [{"score": 1.0} for _ in samples]

        return look


def test_after_a_death_the_image_that_kills_is_the_one_that_is_blamed(bucket):
    from tasks.retries import Retries

    work, retries = shard(bucket, "measure"), Retries()
    keys = sorted(row["key"] for row in read_table(bucket.root / "clean/b0.parquet"))
    options = measure.Options(filters={"deadly": Deadly(key=keys[2])})
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            measure.run(work, options)
        retries.died(work, RuntimeError("the worker is gone"))
    assert quarantined(work) == {keys[2]}
    report = measure.run(work, options)
    assert (report.kept, dict(report.rejected)) == (4, {"crash": 1})
    finished(work)


@pytest.mark.parametrize("name", ["clip", "pair_similarity"])
def test_a_split_filter_prepares_alike_with_and_without_its_weights(name, bucket, tmp_path):
    pytest.importorskip("open_clip")
    from tests import tiny_clip

    chosen = load(name)(weights=str(tiny_clip.save(tmp_path / "clip")))
    whole = chosen.open("cpu")
    assert isinstance(whole, Split)
    group = measure.groups(shard(bucket, "measure"), measure.Options(filters={}))[0]
    samples = measure.prepare(group, measure.Options(filters={"resolution": load("resolution")()})).samples
    samples = [replace(sample, degraded=sample.clean[::-1].copy()) for sample in samples]
    first = chosen.prepare()
    frozen = pickle.loads(pickle.dumps([first(sample) for sample in samples]))
    assert whole.score(frozen) == whole(samples)
