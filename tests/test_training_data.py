"""What is trained on when: the index of our shards, the boxes, and the examples of a position, whoever makes them."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import dataclasses
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from storage.errors import SettingsError, ShardError
from storage.manifest import read_manifest, write_manifest
from tests.small_dataset import make_dataset
from training.data.crops import Box, box, bucket_of, bucket_shares, bucket_sizes, cut
from training.data.curriculum import Curriculum, Stage, equal_shares, leg, moved_shares
from training.data.examples import Maker, Pair, Shards, read_pair
from training.data.feed import Readers, Slice, feed
from training.data.index import read_index
from training.encoders.prompts import GlancingPrompts
from training.loop.levels import Levels
from training.network.glance import NUMBERS, PLACE

BATCH = 24


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset", photographs=2, shape=(40, 56))


@pytest.fixture
def broken(tmp_path):
    return make_dataset(tmp_path / "dataset", photographs=2, shape=(40, 56))


def maker(root, **changes):
    index = read_index([root], "train")
    now = leg(Curriculum(), index, Stage(seed=1, name="x", steps=8, batch=BATCH), 0, equal_shares(index))
    source = Shards(index=index, plan=now.plan, pools=now.pools)
    made = Maker(source=source, seed=1, stage="x", levels=Levels(), multiple=4, channels=48, scale="native")
    return dataclasses.replace(made, **changes)


def content(example):
    pixels = example.clean.tobytes() + example.degraded.tobytes() + example.noise_TC.numpy().tobytes()
    return example.position, example.key, example.task, example.prompt, example.sigma, hash(pixels)


def test_the_index_holds_every_pair_of_the_split(root):
    index = read_index([root], "train")
    [entry] = [shard for shard in read_manifest(root).shards if "train" in shard.name]
    assert len(index.records) == entry.pairs
    assert {task: len(rows) for (task, _), rows in index.pools().items()} == dict(entry.counts)
    keys = index.pools()["haze", "synthetic"]["key"].tolist()
    assert keys == sorted(keys)


def test_a_record_leads_to_its_pair(root):
    index = read_index([root], "train")
    pair = read_pair(index, index.pools()["haze", "synthetic"][0])
    assert (pair.task, pair.instruction) == ("haze", "Remove the haze.")
    assert pair.clean.shape == pair.degraded.shape == (40, 56, 3)
    assert not np.array_equal(pair.clean, pair.degraded)


def test_two_datasets_are_one_index(root, broken):
    both = read_index([root, broken], "train")
    assert len(both.records) == sum(len(read_index([path], "train").records) for path in (root, broken))
    assert both.digest != read_index([root], "train").digest


def test_only_the_named_tasks_are_taken(root):
    assert read_index([root], "train", ["noise"]).tasks == ("noise",)
    for asked in (["noise", "snow"], ["snow"]):
        with pytest.raises(SettingsError, match="of task snow; there are blur, haze, noise"):
            read_index([root], "train", asked)


def test_a_split_without_pairs_is_refused(root):
    with pytest.raises(SettingsError, match=r"in split test; build one, or name another dataset$"):
        read_index([root], "test")


def test_a_dataset_without_validation_can_be_trained_on_without(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.small_dataset.SPLITS", ("train", "test"))
    root = make_dataset(tmp_path / "dataset")
    with pytest.raises(SettingsError, match=r"split validation; .* or set run.rhythm.validate to 0$"):
        read_index([root], "validation")


@pytest.mark.parametrize("suffix", [".tar", ".idx"])
def test_what_is_not_as_the_manifest_says_is_refused(broken, suffix):
    path = next((broken / "shards").glob(f"train*{suffix}"))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ShardError, match="not what the manifest of version 1 promises"):
        read_index([broken], "train")


def test_a_shard_that_changed_after_it_was_indexed_ends_in_one_sentence(broken):
    index = read_index([broken], "train")
    record = index.records[0]
    with index.shards[0].open("r+b") as file:
        file.seek(int(record["clean_at"]) + 30)
        file.write(b"\0" * 200)
    with pytest.raises(ShardError, match=rf"train-000000\.tar: {record['key'].decode()}: "):
        read_pair(index, record)


def test_captured_and_generated_pairs_are_real(broken):
    manifest = read_manifest(broken)
    _with_origin(broken, manifest, b'"captured" ')
    assert {origin for _, origin in read_index([broken], "train").pools()} == {"real"}


def _with_origin(root, manifest, value):
    """Rewrite the origin in place, the same number of bytes; hashes of shards are not looked at, sizes are."""
    path = next((root / "shards").glob("train*.tar"))
    data = path.read_bytes().replace(b'"synthetic"', value)
    path.write_bytes(data)
    write_manifest(root, manifest)


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_ranks_together_read_the_batch_of_one(workers):
    whole = Slice(batch=BATCH)
    for step in (0, 5):
        parts = [list(Slice(batch=BATCH, rank=rank, world=workers).positions(step)) for rank in range(workers)]
        assert [position for part in parts for position in part] == list(whole.positions(step))


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="a batch of 24 does not divide among 7 ranks"):
        Slice(batch=24, world=7)


@pytest.mark.parametrize(
    "readers", [Readers(workers=1, ahead=1), Readers(workers=3, ahead=4), Readers(workers=2, processes=True)]
)
def test_examples_are_the_same_whoever_makes_them(root, readers):
    made = maker(root)
    expected = [content(made.example(position, (16, 16))) for position in range(2 * BATCH, 4 * BATCH)]
    fed = list(feed(maker(root), range(2, 4), Slice(batch=BATCH), lambda step: (16, 16), readers))
    assert [content(example) for batch in fed for example in batch.examples] == expected


def test_readers_stop_at_the_number_ahead(root):
    class Counting:
        def __init__(self, inner):
            self.inner, self.asked = inner, 0

        def pair(self, position):
            self.asked += 1
            return self.inner.pair(position)

    source = Counting(maker(root).source)
    fed = feed(
        maker(root, source=source), range(50), Slice(batch=4), lambda step: (16, 16), Readers(workers=1, ahead=2)
    )
    next(fed)
    time.sleep(0.2)  # time enough to read all of them
    assert source.asked <= 4 * 4
    fed.close()


def test_an_error_of_a_reader_is_raised_at_its_step(root):
    class Failing:
        def __init__(self, inner):
            self.inner = inner

        def pair(self, position):
            if position >= 8:
                raise ShardError("position 8 is broken")
            return self.inner.pair(position)

    fed = feed(
        maker(root, source=Failing(maker(root).source)), range(9), Slice(batch=4), lambda step: (16, 16), Readers()
    )
    assert [next(fed).step, next(fed).step] == [0, 1]
    with pytest.raises(ShardError, match="position 8 is broken"):
        next(fed)


def test_an_example_depends_on_seed_and_stage_only(root):
    base = content(maker(root).example(5, (16, 16)))
    assert content(maker(root).example(5, (16, 16))) == base
    for change in ({"seed": 2}, {"stage": "y"}):
        other = content(maker(root, **change).example(5, (16, 16)))
        assert other[1:3] == base[1:3]  # the pair is the plan's
        assert other[4] != base[4]


def test_a_share_of_prompts_is_empty_and_the_images_stay(root):
    made = [maker(root, dropout=0.25).example(position, (8, 8)) for position in range(400)]
    assert np.mean([example.prompt == "" for example in made]) == pytest.approx(0.25, abs=0.06)
    assert all(example.degraded.any() for example in made)


def test_an_augmentation_sees_the_degraded_image_and_its_own_seed(root):
    seeds = []

    def augment(image, seed):
        seeds.append(seed)
        return 255 - image

    plain = maker(root).example(3, (16, 16))
    worn = maker(root, augment=augment, augmented=1.0).example(3, (16, 16))
    assert np.array_equal(worn.degraded, 255 - plain.degraded)
    assert np.array_equal(worn.clean, plain.clean)
    maker(root, augment=augment, augmented=1.0).example(4, (16, 16))
    assert len(set(seeds)) == 2


def test_a_mirrored_pair_is_mirrored_on_both_sides(root):
    found = {}
    for position in range(12):
        plain = maker(root).example(position, (16, 16))
        mirrored = maker(root, mirrored=True).example(position, (16, 16))
        is_same = np.array_equal(plain.clean, mirrored.clean)
        found[is_same] = found.get(is_same, 0) + 1
        flip = slice(None) if is_same else slice(None, None, -1)
        assert np.array_equal(plain.degraded[:, flip], mirrored.degraded)
        assert np.array_equal(plain.clean[:, flip], mirrored.clean)
    assert set(found) == {True, False}


def test_bucket_sizes_have_one_area_and_both_orientations():
    sizes = bucket_sizes(1024, 16)
    assert sizes[0] == (1024, 1024)
    assert {(w, h) for h, w in sizes} == set(sizes)
    assert len(sizes) == 7
    for height, width in sizes:
        assert height % 16 == width % 16 == 0
        assert height * width == pytest.approx(1024**2, rel=0.03)


def test_buckets_come_as_often_as_images_have_their_shape():
    sizes = bucket_sizes(64, 4)
    shares = bucket_shares(sizes, {(600, 900): 30, (100, 100): 10})
    assert shares[sizes.index((64, 64))] == pytest.approx(0.25)
    drawn = Counter(bucket_of(step, sizes, shares, "key") for step in range(2000))
    assert drawn[64, 64] / 2000 == pytest.approx(0.25, abs=0.03)
    assert len(drawn) == 2


@pytest.mark.parametrize("scale", ["native", "cover"])
def test_a_box_lies_within_the_image(scale):
    for key in range(200):
        place = box((40, 90), (32, 48), scale, str(key))
        assert 0 <= place.top <= 40 - place.height
        assert 0 <= place.left <= 90 - place.width
        assert (place.height, place.width) == ((32, 48) if scale == "native" else (40, 60))


def test_an_image_that_is_too_small_is_covered():
    assert box((20, 90), (32, 32), "native", "k").height == 20


def test_both_images_are_cut_at_one_place():
    rows, columns = np.mgrid[0:40, 0:60].astype(np.uint8)
    image = np.dstack([rows, columns, rows])
    clean, degraded = cut((image, 255 - image), Box(top=3, left=5, height=16, width=20), (16, 20))
    assert np.array_equal(clean, image[3:19, 5:25])
    assert np.array_equal(degraded, 255 - clean)


@pytest.mark.parametrize("size", [(8, 10), (9, 11), (32, 40)])
def test_both_images_are_scaled_alike(size):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    clean, degraded = cut((image, image.copy()), Box(top=3, left=5, height=16, width=20), size)
    assert clean.shape == (*size, 3)
    assert np.array_equal(clean, degraded)


def test_an_incremental_stage_begins_with_isolated_degradations(tmp_path):
    index = read_index([make_dataset(tmp_path / "d", photographs=2, shape=(24, 24))], "train")
    records = index.records.copy()
    records["isolated"] = records["task"] != index.tasks.index("haze")
    index = dataclasses.replace(index, records=records)
    stage, curriculum = Stage(seed=1, name="x", steps=100, batch=6), Curriculum(kind="incremental", isolated=0.2)
    first = leg(curriculum, index, stage, 0, equal_shares(index))
    then = leg(curriculum, index, stage, 20, equal_shares(index))
    assert (first.steps, then.steps) == (range(20), range(20, 100))
    assert {first.plan.pick(k).task for k in range(60)} == {"blur", "noise"}
    assert {then.plan.pick(k).task for k in range(120, 180)} == {"blur", "haze", "noise"}


def test_an_equilibrium_stage_gives_seats_to_tasks_that_lag(root):
    index = read_index([root], "train")
    curriculum = Curriculum(kind="equilibrium", every=10, seats=30, limit=0.1, alpha=5.0)
    shares = equal_shares(index)
    before = dict.fromkeys(index.tasks, 20.0)
    for _ in range(5):
        now = {"blur": before["blur"], "haze": before["haze"] + 1, "noise": before["noise"] + 0.1}
        moved = moved_shares(curriculum, shares, before, now)
        assert all(abs(moved[task] / shares[task] - 1) <= 0.1 + 1e-9 for task in moved)
        shares, before = moved, now
    later = leg(curriculum, index, Stage(seed=1, name="x", steps=100, batch=30), 50, shares)
    counts = Counter(later.plan.pick(k).task for k in range(30 * 50, 30 * 51))
    assert counts["blur"] > counts["noise"] > counts["haze"]
    assert later.steps == range(50, 60)


@pytest.mark.parametrize("kind", ["balanced", "incremental"])
def test_a_task_comes_as_often_as_its_share_says(root, kind):
    index = read_index([root], "train")
    curriculum = Curriculum(kind=kind, isolated=0.0, shares={"noise": 2.5, "blur": 0.5}, seats=40)
    plan = leg(curriculum, index, Stage(seed=1, name="x", steps=100, batch=40), 0, equal_shares(index)).plan
    counts = Counter(plan.pick(k).task for k in range(3 * 40))
    assert {task: count / 3 for task, count in counts.items()} == {"noise": 24, "haze": 10, "blur": 6}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"shares": {"noise": 0.0}}, "shares must be above 0, 100 at most"),
        ({"shares": {"noise": 2.0}, "kind": "equilibrium"}, "choose balanced or incremental"),
    ],
)
def test_shares_that_cannot_be_are_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        Curriculum(**options)


def test_the_first_scores_move_nothing():
    shares = {"a": 0.5, "b": 0.5}
    assert moved_shares(Curriculum(kind="equilibrium"), shares, {}, {"a": 20.0, "b": 30.0}) == pytest.approx(shares)


@pytest.mark.parametrize("kind", ["shifted-logit-normal", "power", "uniform"])
def test_levels_are_those_of_their_kind(kind):
    generator = torch.Generator().manual_seed(0)
    levels = np.array([Levels(kind=kind).draw(4096, generator) for _ in range(4000)])
    below = {"shifted-logit-normal": 0.9 * 0.012 + 0.1 * 0.25, "power": 0.25 ** (1 / 0.35), "uniform": 0.25}
    assert np.mean(levels < 0.25) == pytest.approx(below[kind], abs=0.02)
    assert levels.min() >= 1e-3
    assert levels.max() < 1


def test_a_whole_encoder_sees_the_whole_degraded_image(root):
    seen = []

    def look(image, prompt):
        seen.append((image.shape, prompt))
        return torch.zeros(1, 2, NUMBERS), torch.ones(1, 2, dtype=torch.bool)

    example = maker(root, look=look, dropout=0.0).example(0, (16, 16))
    assert seen == [((40, 56, 3), example.prompt)]
    assert example.rows[0].shape == (1, 2, NUMBERS)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_glance_is_told_where_a_crop_was_cut(root, mirrored):
    """A mirrored crop lies where it would in the mirrored whole."""
    whole = np.zeros((40, 56, 3), np.uint8)
    whole[..., 0], whole[..., 1] = np.arange(40)[:, None] + 1, np.arange(56) + 1
    pair = Pair(key="a", task="haze", instruction="", clean=whole, degraded=whole)
    source = SimpleNamespace(pair=lambda position: pair)
    look = GlancingPrompts().encode
    made = maker(root, source=source, look=lambda image, prompt: look([image], [prompt]), mirrored=mirrored)
    for position in range(4):
        example = made.example(position, (16, 16))
        row, column = (float(example.clean[..., channel].mean()) - 0.5 for channel in (0, 1))
        is_mirrored = example.clean[0, 0, 1] > example.clean[0, 1, 1]
        expected = row / 40, 1 - column / 56 if is_mirrored else column / 56
        torch.testing.assert_close(example.rows[0][0, -1, PLACE], 4 * torch.tensor(expected) - 2)
