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
from storage.records import Recipe, Step
from storage.samples import encode_depth
from tasks import annotate, measure
from tasks.progress import finished, quarantined
from tasks.units import InProcess, Unit
from tests.quiet_ray import quiet_ray
from tests.test_clean import Bucket, png
from tests.test_remote import run
from tests.vlm_server import graded, picture_in, serve

HAZE = Recipe(name="haze", severity=0.5, steps=(Step(degradation="haze", params={}, inputs={}),), digest="0" * 64)


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
    assert set(ready.prepared) == {"depth", "segments"}
    assert ready.prepared["depth"][0].shape == ready.images[0].shape[:2]


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


def clip(folder):
    pytest.importorskip("open_clip")
    from tests import tiny_clip

    return {"weights": str(tiny_clip.save(folder / "clip"))}


def owl(folder):
    pytest.importorskip("transformers")
    from tests import tiny_owl

    return {"weights": str(tiny_owl.save(folder / "owl"))}


def poses(folder):
    pytest.importorskip("transformers")
    from tests import tiny_vitpose

    return {"weights": str(tiny_vitpose.save_poses(folder / "poses")), "min_joint": 0.0}


def detected_poses(folder):
    options = poses(folder)
    from tests import tiny_vitpose

    return options | {"detector": str(tiny_vitpose.save_detector(folder / "people")), "min_person": 0.0, "people": 2}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("clip", clip),
        ("pair_similarity", clip),
        ("watermark", owl),
        ("skeleton", poses),
        ("skeleton", detected_poses),
    ],
    ids=["clip", "pair_similarity", "watermark", "skeleton", "skeleton with a detector"],
)
def test_a_split_filter_prepares_alike_with_and_without_its_weights(name, model, bucket, tmp_path):
    chosen = load(name)(**model(tmp_path))
    whole = chosen.open("cpu")
    assert isinstance(whole, Split)
    group = measure.groups(shard(bucket, "measure"), measure.Options(filters={}))[0]
    samples = measure.prepare(group, measure.Options(filters={"resolution": load("resolution")()})).samples
    samples = [replace(sample, degraded=sample.clean[::-1].copy(), recipe=HAZE) for sample in samples]
    first = chosen.prepare()
    frozen = pickle.loads(pickle.dumps([first(sample) for sample in samples]))
    found = whole.score(frozen)
    assert found == whole(samples)
    assert len({str(one) for one in found}) > 1


@pytest.mark.stack
def test_annotations_by_models_that_were_prepared_and_finished_elsewhere_have_the_same_bytes(cluster, bucket, tmp_path):
    options = modelled(tmp_path)
    shas = [
        run(workers, [Unit(stage="tasks.annotate", shard=shard(bucket, "annotate", name), options=options, actor=True)])
        for name, workers in (("alone", InProcess()), ("ray", cluster))
    ]
    assert [[(one.kept, one.sha256) for one in reports] for reports in shas] == [[(5, shas[0][0].sha256)]] * 2
    backends = {(row["depth_backend"][:5], row["segments_backend"][:4]) for row in rows_of(bucket, "annotate/ray")}
    assert backends == {("midas", "sam2")}


def test_the_model_is_all_that_is_left_between_preparing_and_finishing(bucket, tmp_path):
    options = modelled(tmp_path)
    runner = annotate.open(options, "cpu")
    (first, *_) = annotate.groups(shard(bucket, "annotate"), options)
    ready = pickle.loads(pickle.dumps(annotate.prepare(first, options)))
    found = pickle.loads(pickle.dumps(runner._find(replace(ready, images=()))))  # no pixel of an image is looked at
    finished_group = annotate.finish(replace(found, images=ready.images), options)
    expected = runner._annotators["depth"].annotate_all(ready.images)
    for one, depth in zip(finished_group, expected, strict=True):
        assert one.members["depth.png"] == encode_depth(depth)


def modelled(folder):
    """Return options whose depth and segments small random networks make."""
    pytest.importorskip("sam2")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from tests.test_midas import dpt
    from tests.test_sam2 import FOLDER, processor, saved, small_parts

    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.DPTForDepthEstimation(dpt()).save_pretrained(folder / "depth")
        saved(transformers.Sam2Model(transformers.Sam2Config(**small_parts())), folder / "segments")
    transformers.DPTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder / "depth")
    processor().save_pretrained(folder / "segments")
    return annotate.Options(
        depth="midas",
        depth_weights=str(folder / "depth"),
        segments="sam2",
        segments_weights=str(folder / "segments"),
        midas={"batch": 2},
        sam2=FOLDER,
    )


def rows_of(bucket, stem):
    return read_table(bucket.root / f"{stem}.parquet")
