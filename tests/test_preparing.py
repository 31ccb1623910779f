"""What a model is given is made ready ahead of it, and what it found is finished after it, in order and in bounds."""

import itertools
import os
import threading

import pytest

from storage.errors import SourceError
from storage.records import WorkShard
from tasks.preparing import Ahead, grouped, in_turn
from tasks.units import InProcess, Interrupted
from tests.quiet_ray import quiet_ray
from tests.test_remote import notes, run, units

COUNT = 2  # groups ahead of the actor of the cluster below


def rows(count):
    return [{"key": f"{n}"} for n in range(count)]


@pytest.mark.parametrize(("count", "size", "sizes"), [(5, 2, [2, 2, 1]), (4, 4, [4]), (3, 8, [3]), (0, 2, [])])
def test_groups_hold_all_rows_in_their_order(count, size, sizes):
    found = grouped(rows(count), size)
    assert [len(group.keys) for group in found] == sizes
    assert [key for group in found for key in group.keys] == [row["key"] for row in rows(count)]
    assert all(tuple(row["key"] for row in group.rows) == group.keys for group in found)


def window(groups, count, result=lambda handle: handle):
    begun = []
    return Ahead(groups, begin=lambda group: begun.append(group) or group, result=result, count=count), begun


@pytest.mark.parametrize("count", [1, 2, 5, 50])
def test_what_was_prepared_ahead_comes_in_order_and_never_more_than_asked_for(count):
    ahead, begun = window(range(20), count)
    assert begun == list(range(min(count, 20)))  # before anything is wanted
    for number, ready in enumerate(ahead):
        assert ready == number
        assert len(begun) == min(20, number + 1 + count)


def test_groups_are_not_even_listed_before_there_is_room_for_them():
    source = iter(range(10))
    ahead, _ = window(source, 2)
    assert next(iter(ahead)) == 0
    assert next(source) == 3


def test_what_preparing_raises_arrives_at_its_group():
    def result(handle):
        if handle == 2:
            raise SourceError("not_an_image", "2 is not an image")
        return handle

    ahead, seen = window(range(5), 3, result)[0], []
    with pytest.raises(SourceError, match="2 is not an image"):
        seen.extend(ready for ready in ahead)
    assert list(itertools.islice(ahead, 1)) == [3]


def test_in_turn_prepares_only_what_is_wanted_and_says_which_image_it_is_on(tmp_path):
    shard = WorkShard(stage="test", bucket="b", inputs=(), output=str(tmp_path / "b"), seed=0)
    seen = []
    stream = in_turn(grouped(rows(3), 1), lambda group: seen.append(group.keys) or group.keys, shard)
    assert (next(stream), seen) == (("0",), [("0",)])
    assert (tmp_path / "b.on").read_text() == "0"


def test_a_group_of_many_blames_none_of_them(tmp_path):
    shard = WorkShard(stage="test", bucket="b", inputs=(), output=str(tmp_path / "b"), seed=0)
    assert [group.keys for group in in_turn(grouped(rows(4), 2), lambda group: group, shard)] == [
        ("0", "1"),
        ("2", "3"),
    ]
    assert not (tmp_path / "b.on").exists()


@pytest.fixture(scope="module")
def cluster():
    with quiet_ray():
        from tasks.remote import Cluster

        with Cluster(1, preparers=COUNT) as workers:  # one actor: what overlaps, overlaps its own work
            yield workers


def spans(folder, suffix):
    """Return key -> (begun, ended) of what is noted with a suffix."""
    return {key: (float(begun), float(ended)) for key, begun, ended, *_ in notes(folder, suffix)}


@pytest.mark.stack
def test_preparing_goes_on_elsewhere_while_the_actor_computes_even_across_units(cluster, tmp_path):
    run(cluster, units(tmp_path, 4, actor=True, seconds=0.2, prepare_seconds=0.1))
    prepared, computed = spans(tmp_path, "prepared"), spans(tmp_path, "computed")
    order = [f"{unit}{letter}" for unit in range(4) for letter in "abc"]
    assert sorted(computed, key=computed.__getitem__) == order
    assert all(prepared[key][1] <= computed[key][0] for key in order)
    assert all(computed[one][1] <= computed[other][0] for one, other in itertools.pairwise(order))
    overlaps = [
        unit
        for unit in range(3)
        if any(prepared[f"{unit + 1}{letter}"][0] < computed[f"{unit}c"][1] for letter in "ab")
    ]
    assert overlaps == [0, 1, 2]
    waited = [computed[other][0] - computed[one][1] for one, other in itertools.pairwise(order)]
    assert sum(waited) < 0.75 * 0.1 * len(waited)  # in turn, each group would wait for its 0.1 s
    assert str(os.getpid()) not in {process for *_, process, _ in notes(tmp_path, "computed")}


@pytest.mark.stack
def test_no_more_is_ready_than_the_actor_can_soon_use(cluster, tmp_path):
    run(cluster, units(tmp_path, 5, actor=True, seconds=0.1))
    prepared, computed = spans(tmp_path, "prepared"), spans(tmp_path, "computed")
    for moment, _ in prepared.values():
        begun = sum(start <= moment for start, _ in prepared.values())
        used = sum(end < moment for _, end in computed.values())
        assert begun - used <= 2 * (COUNT + 1)  # of the unit that computes and of the one that waits


@pytest.mark.stack
def test_results_are_those_of_one_process(cluster, tmp_path):
    with InProcess() as alone:
        expected = run(alone, units(tmp_path / "one", 3, actor=True))
    found = run(cluster, units(tmp_path / "two", 3, actor=True))
    assert [(one.kept, one.sha256) for one in found] == [(one.kept, one.sha256) for one in expected]
    assert {key: int(total) for key, *_, total in notes(tmp_path / "two", "computed")} == {
        f"{unit}{letter}": unit * 512 * 512 * 3 for unit in range(3) for letter in "abc"
    }


@pytest.mark.stack
def test_a_preparer_that_dies_costs_neither_the_unit_nor_the_weights(cluster, tmp_path):
    reports = run(cluster, units(tmp_path, 3, actor=True, prepare_dies_once=("1b",)))
    assert [(report.kept, dict(report.rejected)) for report in reports] == [(3, {})] * 3
    assert len({model for (model,) in notes(tmp_path, "model")}) == 1
    assert len(notes(tmp_path, "model")) == 4  # the second try of unit 1
    assert list(tmp_path.glob("*.quarantine.json")) == []


@pytest.mark.stack
def test_an_image_that_kills_whoever_touches_it_costs_only_itself(cluster, tmp_path):
    reports = run(cluster, units(tmp_path, 3, actor=True, prepare_dies_once=("1b",), dies=("1b",)))
    assert [(report.kept, dict(report.rejected)) for report in reports] == [(3, {}), (2, {"crash": 1}), (3, {})]


@pytest.mark.stack
def test_what_a_preparer_raises_arrives_as_itself_and_the_actor_goes_on(cluster, tmp_path):
    with pytest.raises(SourceError, match="0b is not an image") as caught:
        run(cluster, units(tmp_path / "broken", 1, actor=True, prepare_raises=("0b",)))
    assert caught.type is SourceError
    assert [report.kept for report in run(cluster, units(tmp_path / "next", 2, actor=True))] == [3, 3]


@pytest.mark.stack
def test_a_wave_that_is_stopped_leaves_no_preparer_behind(cluster, tmp_path):
    stop = threading.Event()
    threading.Timer(0.8, stop.set).start()
    with pytest.raises(Interrupted):
        run(cluster, units(tmp_path, 2, actor=True, prepare_seconds=0.2, seconds=30), stop)
    began = len(notes(tmp_path, "prepared"))
    assert [report.kept for report in run(cluster, units(tmp_path / "next", 2, actor=True))] == [3, 3]
    assert len(notes(tmp_path, "prepared")) <= began + COUNT


@pytest.mark.stack
def test_what_was_found_is_finished_elsewhere_while_the_actor_computes_and_comes_back_in_order(cluster, tmp_path):
    run(cluster, units(tmp_path, 2, actor=True, seconds=0.2, finish_seconds=0.15))
    finished, computed = spans(tmp_path, "finished"), spans(tmp_path, "computed")
    assert finished.keys() == computed.keys()
    assert all(computed[key][1] <= finished[key][0] for key in computed)
    assert sum(finished[f"{unit}a"][0] < computed[f"{unit}b"][1] for unit in range(2)) == 2
    models = {name.partition("-")[0] for (name,) in notes(tmp_path, "model")}
    assert models.isdisjoint({process for *_, process in notes(tmp_path, "finished")})
    for unit in range(2):
        assert (tmp_path / f"{unit}.taken").read_text().split() == [f"{unit}{letter}" for letter in "abc"]


@pytest.mark.stack
def test_no_more_waits_to_be_finished_than_was_asked_for(cluster, tmp_path):
    run(cluster, units(tmp_path, 1, actor=True, finish_seconds=0.2))
    finished, computed = spans(tmp_path, "finished"), spans(tmp_path, "computed")
    for begun, _ in computed.values():
        waiting = sum(end <= begun for _, end in computed.values()) - sum(end <= begun for _, end in finished.values())
        assert waiting < COUNT + 1


@pytest.mark.stack
def test_a_finisher_that_dies_costs_neither_the_unit_nor_the_weights(cluster, tmp_path):
    reports = run(cluster, units(tmp_path, 2, actor=True, finish_dies_once=("1b",)))
    assert [(report.kept, dict(report.rejected)) for report in reports] == [(3, {})] * 2
    assert len({model for (model,) in notes(tmp_path, "model")}) == 1


@pytest.mark.stack
def test_what_a_finisher_raises_arrives_as_itself(cluster, tmp_path):
    with pytest.raises(SourceError, match="0b cannot be finished"):
        run(cluster, units(tmp_path, 1, actor=True, finish_raises=("0b",)))
