"""The order of samples is a pure function of seed, stage and position, and its counts are exact."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import math
import time
from collections import Counter

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from training.data.plan import Plan, Share, equilibrium, generator, permuted, seated

TASKS = ["blur", "compression", "flare", "haze", "low_light", "moire", "noise", "rain", "reflection"]
WITHOUT_REAL = {"compression", "moire", "noise"}


TWO_TO_EIGHT = Share(start=0.2, end=0.2)


def plan(share=TWO_TO_EIGHT, seed=7, size=300, real=60):
    pools = {(task, "synthetic"): size for task in TASKS}
    pools |= {(task, "real"): 0 if task in WITHOUT_REAL else real for task in TASKS}
    return Plan(seed=seed, stage="tune", pools=pools, share=share)


def picks(made, count, start=0):
    return [made.pick(position) for position in range(start, start + count)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 9, 16, 17, 100, 1023, 4096])
def test_permutation_takes_every_place_once(size):
    assert sorted(permuted(place, size, "key") for place in range(size)) == list(range(size))


def test_permutations_of_different_keys_look_unrelated():
    size, keys = 6, 6000
    places = Counter((place, permuted(place, size, f"key/{key}")) for key in range(keys) for place in range(size))
    expected = keys / size
    chi_squared = sum((places[a, b] - expected) ** 2 / expected for a in range(size) for b in range(size))
    assert chi_squared < 60  # 25 degrees of freedom, p = 1e-4


def test_a_place_outside_is_refused():
    with pytest.raises(ValueError, match="place must be within 0 and 5, got 5"):
        permuted(5, 5, "key")


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_the_order_is_the_same_for_any_number_of_workers(workers):
    batch, steps = 24, 6
    own = batch // workers
    by_rank = {
        step * batch + rank * own + sample: plan().pick(step * batch + rank * own + sample)
        for rank in range(workers)
        for step in range(steps)
        for sample in range(own)
    }
    assert [by_rank[position] for position in range(steps * batch)] == picks(plan(), steps * batch)


def test_a_restart_goes_on_where_it_stopped():
    assert picks(plan(), 50) + picks(plan(), 70, start=50) == picks(plan(), 120)


@pytest.mark.parametrize("count", [9, 16, 100, 16_000 // 9])
def test_tasks_are_balanced_to_within_one_sample(count):
    counts = Counter(pick.task for pick in picks(plan(), count))
    assert max(counts.values()) - min(counts[task] for task in TASKS) <= 1


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_the_mixture_is_exact_within_each_task_at_every_moment(share):
    synthetic, seen = Counter(), Counter()
    for pick in picks(plan(Share(start=share, end=share)), 1800):
        seen[pick.task] += 1
        synthetic[pick.task] += pick.origin == "synthetic"
        if pick.task not in WITHOUT_REAL:
            assert abs(synthetic[pick.task] - share * seen[pick.task]) < 1 + 1e-9


def test_a_task_without_real_pairs_stays_synthetic():
    assert {pick.origin for pick in picks(plan(), 900) if pick.task in WITHOUT_REAL} == {"synthetic"}


def test_a_task_without_any_sample_is_left_out():
    pools = {("haze", "synthetic"): 5, ("noise", "synthetic"): 0}
    made = Plan(seed=0, stage="x", pools=pools, share=Share())
    assert {pick.task for pick in picks(made, 20)} == {"haze"}
    with pytest.raises(ValueError, match="at least one sample"):
        Plan(seed=0, stage="x", pools={("haze", "synthetic"): 0}, share=Share())


def test_a_ramp_falls_evenly_and_then_stays():
    share = Share(start=1.0, end=0.2, ramp=1000)
    slow = [share.end + (share.start - share.end) * (1 - min(1, (k + 0.5) / 1000)) for k in range(3000)]
    for samples in (0, 1, 250, 1000, 3000):
        assert share.sum(samples) == pytest.approx(sum(slow[:samples]), abs=1e-6)


def test_the_ramped_mixture_starts_synthetic_and_ends_at_two_to_eight():
    made = plan(Share(start=1.0, end=0.2, ramp=1800))
    real = [pick.origin == "real" for pick in picks(made, 5400) if pick.task not in WITHOUT_REAL]
    first, last = real[:120], real[-1200:]
    assert sum(first) / len(first) < 0.06
    assert sum(last) / len(last) == pytest.approx(0.8, abs=0.005)


def test_a_pool_is_passed_through_before_it_comes_again():
    haze = [pick.index for pick in picks(plan(Share()), 9 * 600) if pick.task == "haze"]
    assert sorted(haze[:300]) == list(range(300))
    assert sorted(haze[300:]) == list(range(300))
    assert haze[:300] != haze[300:]


def test_another_seed_is_another_order():
    assert picks(plan(), 90) != picks(plan(seed=8), 90)


def test_noise_is_keyed_by_position_and_purpose():
    def draw(*key):
        return torch.randn(4, generator=generator(*key)).tolist()

    assert draw(7, "tune", 3, "noise") == draw(7, "tune", 3, "noise")
    keys = [(7, "tune", 3, "noise"), (7, "tune", 4, "noise"), (7, "tune", 3, "crop"), (8, "tune", 3, "noise")]
    assert len({tuple(draw(*key)) for key in keys}) == 4


def test_a_pick_is_cheap():
    made = plan(size=1_014_229)
    began = time.process_time()
    picks(made, 2000)
    assert (time.process_time() - began) / 2000 < 1e-3


@pytest.mark.parametrize("values", [{"start": 1.1}, {"end": -0.1}, {"ramp": -1}])
def test_a_share_that_is_none_is_refused(values):
    with pytest.raises(ValueError, match="shares must be within 0 and 1"):
        Share(**values)


def test_seats_say_how_often_a_task_comes():
    pools = {(task, "synthetic"): 50 for task in TASKS}
    made = Plan(seed=1, stage="x", pools=pools, share=Share(), seats={"haze": 3, "noise": 2})
    for start in (0, 12, 1200):
        counts = Counter(pick.task for pick in picks(made, 12, start))
        assert counts == Counter(dict.fromkeys(TASKS, 1) | {"haze": 3, "noise": 2})
    haze = [pick.index for pick in picks(made, 200) if pick.task == "haze"]
    assert sorted(haze) == list(range(50))


def test_seats_keep_the_mixture():
    pools = {(task, origin): 50 for task in TASKS for origin in ("synthetic", "real")}
    made = Plan(seed=1, stage="x", pools=pools, share=TWO_TO_EIGHT, seats={"haze": 5})
    haze = [(pick.origin, pick.index) for pick in picks(made, 13 * 50) if pick.task == "haze"]
    counts = Counter(origin for origin, _ in haze)
    assert abs(counts["synthetic"] - 50) <= 1
    assert set(Counter(haze).values()) == {1, 4}  # 50 of 50 synthetic once, 200 of 50 real four times


def test_a_task_without_a_seat_is_refused():
    with pytest.raises(ValueError, match="at least one seat"):
        Plan(seed=1, stage="x", pools={("haze", "real"): 1}, share=Share(), seats={"haze": 0})


def test_equilibrium_moves_shares_to_tasks_that_gained_less():
    equal = dict.fromkeys(("a", "b", "c"), 1 / 3)
    moved = equilibrium(equal, {"a": 0.0, "b": 0.5, "c": 2.0})
    assert sum(moved.values()) == pytest.approx(1)
    assert moved["a"] > moved["b"] > moved["c"]
    assert max(abs(moved[task] * 3 - 1) for task in moved) == pytest.approx(0.1)
    assert equilibrium(equal, dict.fromkeys(equal, 0.7)) == pytest.approx(equal)


def test_small_moves_are_those_of_the_equation():
    moved = equilibrium({"a": 0.5, "b": 0.5}, {"a": 0.01, "b": 0.05}, alpha=2.0)
    a, b = (0.5 * math.exp(-2 * gain) for gain in (0.01, 0.05))
    assert moved == pytest.approx({"a": a / (a + b), "b": b / (a + b)})


@pytest.mark.parametrize("seats", [3, 4, 10, 180])
def test_every_seat_is_given_and_none_goes_without(seats):
    given = seated({"a": 0.7, "b": 0.29, "c": 0.01}, seats)
    assert sum(given.values()) == seats
    assert min(given.values()) >= 1
    assert given["a"] >= given["b"] >= given["c"]


def test_too_few_seats_are_refused():
    with pytest.raises(ValueError, match="3 tasks need as many seats, got 2"):
        seated({"a": 1, "b": 1, "c": 1}, 2)
