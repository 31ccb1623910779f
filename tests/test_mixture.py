"""The exchanges that decide who becomes what: mixture, split, duplicates, judgement and shuffle."""

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.mixture import REALRESTORER, Options, over_quota, plan_bucket
from tasks.shuffle import Spool, shard_bits, slice_of
from tasks.split import split_by_group


def scenes(count, *, start=0, keep=True):
    keys = [hashlib.sha256(str(number).encode()).hexdigest()[:24] for number in range(start, start + count)]
    return [{"key": key, "keep": keep, "split": "train", "group": key, "scores": {}} for key in keys]


def names(planned):
    return Counter(row["name"] for row in planned)


def test_equal_weights_give_every_photograph_every_type():
    planned = plan_bucket(scenes(7), Options(variants=18), seed=1)
    assert names(planned) == dict.fromkeys(REALRESTORER, 14)
    per_photograph = Counter((row["source_key"], row["name"]) for row in planned)
    assert set(per_photograph.values()) == {2}


def test_levels_of_each_type_are_filled_evenly():
    planned = plan_bucket(scenes(40), Options(variants=9), seed=1)
    levels = Counter((row["name"], row["level"]) for row in planned)
    assert set(levels.values()) == {8}


def test_weights_are_met_within_one_pair():
    options = Options(variants=4, weights={"haze": 3, "rain": 1})
    assert names(plan_bucket(scenes(50), options, seed=1)) == {"haze": 150, "rain": 50}


def test_the_published_mixture_is_met_within_two_pairs():
    options = Options(variants=9, preset="realrestorer")
    counts = names(plan_bucket(scenes(200), options, seed=1))
    expected = {name: 1800 * count / sum(REALRESTORER.values()) for name, count in REALRESTORER.items()}
    assert all(abs(counts[name] - expected[name]) <= 2 for name in expected)


def test_a_share_of_the_pairs_is_coupled():
    counts = names(plan_bucket(scenes(65), Options(variants=10, coupled=0.2), seed=1))
    coupled = sum(count for name, count in counts.items() if name not in REALRESTORER)
    assert abs(coupled - 130) <= 13


def test_severity_lies_in_its_level():
    planned = plan_bucket(scenes(20), Options(), seed=5)
    assert all(0.2 * (row["level"] - 1) < row["severity"] <= 0.2 * row["level"] for row in planned)


def test_judging_an_image_anew_moves_no_other_plan():
    every = scenes(12)
    fewer = [{**row, "keep": index != 5} for index, row in enumerate(every)]
    lost = every[5]["key"]
    expected = [row for row in plan_bucket(every, Options(), seed=2) if row["source_key"] != lost]
    assert plan_bucket(fewer, Options(), seed=2) == expected


def test_second_photographs_come_from_the_same_split_and_show_something_else():
    rows = scenes(6)
    rows[1]["split"] = rows[2]["split"] = "validation"
    rows[3]["group"] = rows[0]["key"]
    planned = plan_bucket(rows, Options(weights={"reflection": 1}, variants=5), seed=3)
    by_key = {row["key"]: row for row in rows}
    for row in planned:
        other, own = by_key[row["overlay"]], by_key[row["source_key"]]
        assert other["split"] == own["split"]
        assert other["group"] != own["group"]


def test_a_photograph_is_given_what_suits_it_first():
    bright, dull = scenes(2)
    bright["scores"], dull["scores"] = {"clean.highlight_fraction": 0.05}, {"clean.highlight_fraction": 0.0}
    planned = plan_bucket([bright, dull], Options(variants=1, weights={"flare": 1, "noise": 1}), seed=1)
    assert {row["source_key"]: row["name"] for row in planned}[bright["key"]] == "flare"


def test_quotas_leave_out_the_surplus_and_nothing_else():
    planned = plan_bucket(scenes(30), Options(variants=2, quotas={"haze": 10, "rain": 50}), seed=1)
    surplus = over_quota(planned, {"haze": 7, "rain": 50})
    kept = names([row for row in planned if row["key"] not in surplus])
    assert kept == {"haze": 7, "rain": names(planned)["rain"]}


@pytest.mark.parametrize("table", [{"weights": {"fog": 1}}, {"weights": {"haze": 0}}, {"levels": [6]}, {"variants": 0}])
def test_a_mixture_that_cannot_be_made_is_refused(table):
    with pytest.raises(ValueError, match=r"."):
        Options.model_validate(table)


def test_groups_are_split_whole_and_both_splits_exist():
    groups = {row["key"]: scenes(40)[index // 2]["key"] for index, row in enumerate(scenes(40))}
    splits = split_by_group(groups, fraction=0.01)
    assert set(splits.values()) == {"train", "validation"}
    assert all(len({splits[key] for key in groups if groups[key] == group}) == 1 for group in groups.values())


def test_the_validation_share_is_met():
    groups = {row["key"]: row["key"] for row in scenes(4000)}
    share = Counter(split_by_group(groups, fraction=0.05).values())["validation"] / 4000
    assert share == pytest.approx(0.05, abs=0.012)


@given(st.integers(1, 10**7), st.integers(1, 5000))
def test_shards_hold_between_half_the_target_and_the_target_on_average(pairs, target):
    mean = pairs / 2 ** shard_bits(pairs, target)
    assert mean <= target
    assert mean > target / 2 or pairs <= target


def test_a_new_pair_moves_no_other_between_slices():
    keys = [row["key"] + "-000" for row in scenes(500)]
    before = {key: slice_of(key, 3) for key in keys}
    assert set(before.values()) == set(range(8))
    assert {key: slice_of(key, 3) for key in [*keys, "f" * 24 + "-001"] if key in before} == before


def test_a_spool_returns_every_row_once_whatever_the_order(tmp_path):
    rows = [{"key": row["key"] + "-000"} for row in scenes(300)]
    found = []
    for index, order in enumerate((rows, rows[::-1])):
        folder = tmp_path / str(index)
        folder.mkdir()
        spool = Spool(folder, {"train": 2})
        for row in order:
            spool.add("train", row)
        spool.flush()
        found.append({name: spool.read(slot) for slot, name in spool.names().items()})
    assert found[0] == found[1]
    assert sorted(found[0]) == [f"train-{number:06d}" for number in range(4)]
    assert sum(map(len, found[0].values())) == 300
