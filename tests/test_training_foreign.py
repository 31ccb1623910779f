"""Shards of others: plain WebDataset tars, as a stream."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import io
import tarfile

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")
pytest.importorskip("webdataset", reason="webdataset is not installed: install the `test` extra")

from storage.errors import SettingsError, ShardError
from tests.small_training import merged, settings, train
from training.data.foreign import Foreign, ForeignPairs

FOREIGN = {"clean": "gt.png", "degraded": "lq.jpg", "task": "noise", "instruction": "Remove the noise."}


def write(path, keys, members):
    with tarfile.open(path, "w") as tar:
        for key in keys:
            for suffix, data in members(key).items():
                entry = tarfile.TarInfo(f"{key}.{suffix}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return path


def images(key, shape=(40, 56, 3)):
    clean = np.random.default_rng(int(key)).integers(0, 256, shape, dtype=np.uint8)
    return {
        "gt.png": cv2.imencode(".png", clean[..., ::-1])[1].tobytes(),
        "lq.jpg": cv2.imencode(".jpg", clean[..., ::-1])[1].tobytes(),
        "txt": b"a caption",
    }


@pytest.fixture
def shards(tmp_path):
    keys = [f"{number:03d}" for number in range(12)]
    return (write(tmp_path / "a.tar", keys[:6], images), write(tmp_path / "b.tar", keys[6:], images))


def pairs(shards, count, **key):
    source = ForeignPairs(Foreign(shards=shards, **FOREIGN), seed=1, **key)
    return [source.pair(position) for position in range(count)]


def test_every_pair_of_every_shard_comes(shards):
    found = pairs(shards, 300)
    assert {pair.key for pair in found} == {f"{number:03d}" for number in range(12)}
    assert {(pair.task, pair.instruction) for pair in found} == {("noise", "Remove the noise.")}


def test_images_are_red_green_blue(shards):
    [pair] = pairs(shards, 1)
    expected = np.random.default_rng(int(pair.key)).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    assert np.array_equal(pair.clean, expected)


def test_ranks_and_continuations_draw_differently(shards):
    orders = [[pair.key for pair in pairs(shards, 30, **key)] for key in ({}, {}, {"rank": 1}, {"begun": 5})]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        (lambda key: {"gt.png": images(key)["gt.png"]}, r"000 has no member lq\.jpg, only gt\.png"),
        (lambda key: images(key) | {"lq.jpg": b"nothing"}, r"000: lq\.jpg is no image"),
        (lambda key: images(key) | {"lq.jpg": images(key)["gt.png"][:200]}, r"000: lq\.jpg is no whole image"),
        (lambda key: images(key) | {"lq.jpg": images(key, (8, 8, 3))["lq.jpg"]}, r"is \(40, 56, 3\), the degraded one"),
    ],
)
def test_what_is_no_pair_is_told_with_its_file_and_key(tmp_path, members, sentence):
    path = write(tmp_path / "a.tar", ["000"], members)
    with pytest.raises(ShardError, match=sentence):
        pairs((path,), 1)


@pytest.mark.parametrize("name", ["none.tar", "pipe:cat a.tar", "https://example.org/a.tar"])
def test_only_files_are_read(tmp_path, name):
    with pytest.raises(SettingsError, match="is no file; name tar files"):
        Foreign(shards=(tmp_path / name,), **FOREIGN).index()


def test_a_training_runs_on_shards_of_others(tmp_path, shards):
    content = settings(tmp_path, steps=3, run={"rhythm": {"validate": 0}})
    foreign = {"shards": [str(path) for path in shards], **FOREIGN}
    content = merged(content, {"data": {"train": [], "foreign": foreign}})
    assert train(content).step == 3
