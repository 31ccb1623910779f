import hashlib
import io
import json
import os
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import skimage.data
from pydantic import ValidationError

from storage import samples
from storage.ledger import read_table, write_table
from storage.records import WorkShard
from storage.shards import read_member, read_shard
from tasks import annotate, clean
from tasks.clean import reduced
from tasks.crawl import SCHEMA as SOURCES
from tasks.image_statistics import is_grey, statistics

PHOTOGRAPHS = Path(os.environ.get("PAIRFORGE_PHOTOGRAPHS", Path(__file__).parents[2] / "shared/data"))
SMALL = clean.Options(min_side=64)


@pytest.fixture(scope="module")
def photograph():
    return np.ascontiguousarray(skimage.data.astronaut()[100:260, 150:390])


def png(image, **options):
    stream = io.BytesIO()
    PIL.Image.fromarray(image).save(stream, "PNG", **options)
    return stream.getvalue()


class Bucket:
    """A folder, the sources of a bucket made of all its files, and the stages run on them."""

    def __init__(self, root):
        self.root, self.folder = root, root / "photographs"
        self.folder.mkdir()
        self.files = {}

    def add(self, name, data):
        (self.folder / name).write_bytes(data)
        self.files[name] = data

    def clean(self, options=SMALL, quarantine=(), output="clean/b0"):
        rights = {"licence": "CC0-1.0", "author": "Ada"}
        rows = [
            {"uri": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "status": "found", **rights}
            for name, data in self.files.items()
        ]
        table = self.root / "sources.parquet"
        write_table(table, rows, SOURCES)
        shard = self.shard("clean", output, (str(self.folder), str(table)), quarantine)
        report = clean.run(shard, options)
        return report, {row["uri"]: row for row in read_table(Path(shard.output + ".parquet"))}

    def annotate(self, scenes=None, quarantine=()):
        inputs = [str(self.root / "clean/b0")]
        if scenes is not None:
            table = self.root / "scenes.parquet"
            rows = [{"key": key, "keep": keep} for key, keep in scenes.items()]
            write_table(table, rows, annotate.pa.schema([("key", "string"), ("keep", "bool")]))
            inputs.append(str(table))
        shard = self.shard("annotate", "annotate/b0", tuple(inputs), quarantine)
        report = annotate.run(shard, annotate.Options())
        return report, {row["key"]: row for row in read_table(Path(shard.output + ".parquet"))}

    def shard(self, stage, output, inputs, quarantine):
        stem = self.root / output
        stem.parent.mkdir(exist_ok=True)
        if quarantine:
            Path(f"{stem}.quarantine.json").write_text(json.dumps(list(quarantine)))
        return WorkShard(stage=stage, bucket="b0", inputs=inputs, output=str(stem), seed=7)


@pytest.fixture
def bucket(tmp_path):
    return Bucket(tmp_path)


def test_a_photograph_is_stored_without_loss_with_its_source(bucket, photograph):
    bucket.add("a.png", png(photograph))
    report, rows = bucket.clean()
    row = rows["a.png"]
    stored = read_member(bucket.root / "clean/b0.tar", row["offset"], row["size"])
    assert np.array_equal(samples.decode_image(stored), photograph)
    assert (row["status"], row["width"], row["height"], row["format"]) == ("kept", 240, 160, "png")
    assert (row["licence"], row["author"], row["key"]) == ("CC0-1.0", "Ada", row["sha256"][:24])
    assert (report.kept, report.rejected) == (1, {})


@pytest.mark.parametrize("codec", ["webp", "png"])
def test_members_are_named_for_their_codec(codec, bucket, photograph):
    bucket.add("a.png", png(photograph))
    bucket.clean(clean.Options(min_side=64, codec=codec))
    ((_, members),) = read_shard(bucket.root / "clean/b0.tar")
    assert list(members) == [f"clean.{codec}"]


def test_each_source_gets_a_row_with_its_reason(bucket, photograph):
    grey = np.repeat(photograph[..., :1], 3, axis=2)
    bucket.add("0-good.png", png(photograph))
    bucket.add("1-copy.png", png(photograph))
    bucket.add("2-grey.png", png(grey))
    bucket.add("3-small.png", png(photograph[:60]))
    bucket.add("4-notes.txt", b"remember the milk")
    bucket.add("5-cut.png", png(photograph[::-1])[:9000])
    bucket.add("6-changed.png", png(photograph[:, ::-1]))
    bucket.add("7-gone.png", png(photograph[:150]))
    (bucket.folder / "6-changed.png").write_bytes(png(photograph[:140]))
    (bucket.folder / "7-gone.png").unlink()
    report, rows = bucket.clean()
    assert [(row["status"], row["reason"]) for row in rows.values()] == [
        ("kept", ""),
        ("dropped", "duplicate"),
        ("dropped", "greyscale"),
        ("dropped", "too_small"),
        ("failed", "not_an_image"),
        ("failed", "truncated"),
        ("failed", "changed"),
        ("failed", "changed"),
    ]
    assert rows["1-copy.png"]["duplicate_of"] == rows["0-good.png"]["key"]
    assert all(row["detail"] and not row["key"] for row in rows.values() if row["reason"])
    assert (report.kept, report.rejected["changed"], sum(report.rejected.values())) == (1, 2, 7)


def test_a_rights_table_is_no_failed_photograph(bucket):
    bucket.add("licences.tsv", b"path\tlicence\n")
    _, rows = bucket.clean()
    assert (rows["licences.tsv"]["status"], rows["licences.tsv"]["reason"]) == ("dropped", "rights_table")


def test_a_copy_is_kept_when_the_first_file_has_gone(bucket, photograph):
    bucket.add("a.png", png(photograph))
    bucket.add("b.png", png(photograph))
    (bucket.folder / "a.png").unlink()
    _, rows = bucket.clean()
    assert [row["reason"] for row in rows.values()] == ["changed", ""]


def test_a_quarantined_photograph_is_not_touched_again(bucket, photograph):
    bucket.add("a.png", png(photograph))
    bucket.add("b.png", png(photograph[:128]))
    killer = hashlib.sha256(bucket.files["a.png"]).hexdigest()[:24]
    report, rows = bucket.clean(quarantine=[killer])
    assert [row["reason"] for row in rows.values()] == ["crash", ""]
    assert report.rejected == {"crash": 1}


def test_the_key_being_worked_on_is_noted_until_the_end(bucket, photograph):
    bucket.add("a.png", png(photograph))
    bucket.clean()
    assert not (bucket.root / "clean/b0.on").exists()
    bucket.files["../b.png"] = b"outside"
    with pytest.raises(ValueError, match="leads out"):
        bucket.clean()
    assert (bucket.root / "clean/b0.on").read_text() == hashlib.sha256(b"outside").hexdigest()[:24]


def test_the_same_sources_make_the_same_bytes(bucket, photograph):
    for index in range(3):
        bucket.add(f"{index}.png", png(photograph[index:]))
    first, _ = bucket.clean(output="clean/b0")
    second, _ = bucket.clean(output="clean/again")
    assert (first.sha256, first.bytes) == (second.sha256, second.bytes)


def test_a_hostile_name_is_found_by_its_uri(bucket, photograph):
    data = png(photograph)
    (bucket.folder / "new\nline 100%.png").write_bytes(data)
    bucket.files["new%0Aline 100%25.png"] = data
    report, _ = bucket.clean()
    assert report.kept == 1


def test_grey_photographs_are_kept_on_request(bucket, photograph):
    bucket.add("a.png", png(photograph[..., 0]))
    report, _ = bucket.clean(clean.Options(min_side=64, grey="keep"))
    assert report.kept == 1


def test_large_photographs_are_reduced_on_request(bucket, photograph):
    bucket.add("a.png", png(photograph))
    _, rows = bucket.clean(clean.Options(min_side=64, max_side=120))
    row = rows["a.png"]
    assert (row["width"], row["height"], row["notes"]) == (120, 80, "reduced")
    _, rows = bucket.clean(clean.Options(min_side=64, max_side=90))
    assert rows["a.png"]["reason"] == "too_small"


def test_reduction_keeps_the_mean_light():
    checker = np.indices((64, 96)).sum(axis=0) % 2 * 255
    small = reduced(np.repeat(checker[..., None], 3, axis=2).astype(np.uint8), 48)
    assert np.all(small == 188)  # half the light of white is code 188, not 128


@pytest.mark.parametrize("options", [{"min_side": 0}, {"max_pixels": 10**9}, {"gray": "keep"}, {"codec": "jpeg"}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        clean.Options(**options)


@pytest.mark.parametrize("sigma", [2.0, 5.0, 10.0])
def test_noise_of_a_smooth_photograph_is_measured(sigma):
    ramp = np.linspace(60, 190, 512)[:, None, None] * np.ones((1, 512, 3))
    field = np.random.default_rng(0).normal(0, sigma, (512, 512, 1))
    noisy = np.clip(np.rint(ramp + field), 0, 255).astype(np.uint8)
    assert statistics(noisy)["noise"] == pytest.approx(sigma, rel=0.15)


def test_statistics_of_flat_images_are_those_of_their_colour():
    grey = statistics(np.full((80, 90, 3), 188, np.uint8))
    assert grey["mean_luminance"] == pytest.approx(0.5, abs=0.005)
    assert [grey[name] for name in ("contrast", "colourfulness", "noise", "texture")] == [0, 0, 0, 0]
    assert statistics(np.full((80, 90, 3), 255, np.uint8))["highlight_fraction"] == 1
    assert statistics(np.zeros((80, 90, 3), np.uint8))["shadow_fraction"] == 1


def test_colourfulness_grows_with_saturation(photograph):
    grey = np.repeat(cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2).astype(float)
    values = [
        statistics((grey + share * (photograph - grey)).astype(np.uint8))["colourfulness"] for share in (0, 0.3, 0.6, 1)
    ]
    assert values == sorted(values)
    assert values[0] < 1 < 20 < values[-1]


def test_grey_is_told_by_content(photograph):
    luma = photograph[..., :1].astype(int)
    almost = np.clip(luma + np.array([2, 0, -3]), 0, 255).astype(np.uint8)
    assert is_grey(almost)
    assert not is_grey(photograph)


@pytest.mark.skipif(not (PHOTOGRAPHS / "clean").is_dir(), reason="the photographs are not beside the project")
def test_photographs_have_sane_statistics():
    files = sorted((PHOTOGRAPHS / "clean").glob("gb82-image-set__*.png"))
    found = [statistics(cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)) for file in files]
    night, day = (
        found[[file.stem.split("__")[1] for file in files].index(f"{name}-lossless")] for name in ("nyc", "baby")
    )
    assert night["mean_luminance"] < day["mean_luminance"]
    assert all(0 < one["noise"] < 6 and one["texture"] > 1 for one in found)


def test_annotations_are_stored_for_every_clean_image(bucket, photograph):
    bucket.add("a.png", png(photograph))
    bucket.add("b.png", png(photograph[:128]))
    _, cleaned = bucket.clean()
    report, rows = bucket.annotate()
    assert set(rows) == {row["key"] for row in cleaned.values()}
    assert (report.kept, report.rejected) == (2, {})
    row, tar = rows[cleaned["a.png"]["key"]], bucket.root / "annotate/b0.tar"
    depth = samples.decode_depth(read_member(tar, row["depth_offset"], row["depth_size"]))
    labels = samples.decode_labels(read_member(tar, row["segments_offset"], row["segments_size"]))
    assert depth.shape == labels.shape == photograph.shape[:2]
    assert (row["depth_backend"], row["segments_backend"]) == ("depth_prior-4", "superpixels-1")
    assert row["scores"]["segments.count"] == labels.max() + 1
    assert 0 < row["scores"]["depth.spread"] <= 1


def test_only_kept_scenes_are_annotated(bucket, photograph):
    bucket.add("a.png", png(photograph))
    bucket.add("b.png", png(photograph[:128]))
    _, cleaned = bucket.clean()
    first, second = (row["key"] for row in cleaned.values())
    _, rows = bucket.annotate(scenes={first: False, second: True})
    assert set(rows) == {second}


def test_an_image_that_kills_the_annotator_is_left_out(bucket, photograph):
    bucket.add("a.png", png(photograph))
    _, cleaned = bucket.clean()
    key = cleaned["a.png"]["key"]
    report, rows = bucket.annotate(quarantine=[key])
    assert (rows[key]["reason"], rows[key]["depth_size"]) == ("crash", 0)
    assert (report.kept, report.rejected) == (0, {"crash": 1})


def test_an_opened_runner_annotates_many_shards_alike(bucket, photograph):
    bucket.add("a.png", png(photograph))
    bucket.clean()
    runner = annotate.open(annotate.Options(), "cpu")
    stems = [bucket.shard("annotate", f"annotate/{name}", (str(bucket.root / "clean/b0"),), ()) for name in "xy"]
    first, second = (runner.run(shard) for shard in stems)
    assert first.sha256 == second.sha256


@pytest.mark.parametrize(
    ("options", "message"), [({"depth": "crystal_ball"}, "no annotator"), ({"segment": "superpixels"}, "extra")]
)
def test_wrong_annotator_settings_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        annotate.Options(**options)


def test_a_backend_of_the_wrong_kind_is_refused():
    with pytest.raises(ValueError, match="makes segments, not depth"):
        annotate.open(annotate.Options(depth="superpixels"), "cpu")
