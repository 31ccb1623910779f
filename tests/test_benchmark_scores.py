"""The benchmark's scores: formulas by hand, the published tables by the formulas, intervals by what they must do."""

import numpy as np
import pytest
from skimage import data
from skimage.metrics import structural_similarity

from filters._reference import psnr, ssim
from training.benchmark.published import TASKS, foundir_table, realir_table
from training.benchmark.scores import REALIR, Outcome, fs, realir, reference

PUBLISHED = realir_table()


def outcome(name, lps, before, after, task="rain"):
    return Outcome(name=name, task=task, reason="", values={"lps": lps, "before": before, "after": after})


def lost(name, reason="missing", task="rain", **values):
    return Outcome(name=name, task=task, reason=reason, values=values)


def values(scores, name):
    return {key: score.value for key, score in scores[name].scores.items()}


THREE = [outcome("a", 0.2, 2, 4), outcome("b", 0.5, 3, 3), outcome("c", 0.8, 4, 1)]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        # By hand: 0.2 (1 - 0.2) 2 = 0.32 of one picture; means 0.5 and 2 / 3, so 0.2 x 0.5 x 2 / 3; 0.32 / 3.
        (THREE, {"lps": 0.5, "rs": 2 / 3, "rs_unclamped": -1 / 3, "fs_paper": 0.2 / 3, "fs_code": 0.32 / 3}),
        # One picture: both readings agree.
        (THREE[:1], {"lps": 0.2, "rs": 2, "rs_unclamped": 2, "fs_paper": 0.32, "fs_code": 0.32}),
        # Only harm: clamped to nothing, but seen.
        (THREE[2:], {"lps": 0.8, "rs": 0, "rs_unclamped": -3, "fs_paper": 0, "fs_code": 0}),
        # An output that returns its input unchanged scores nothing.
        ([outcome("a", 0, 2, 2)], {"lps": 0, "rs": 0, "rs_unclamped": 0, "fs_paper": 0, "fs_code": 0}),
        # A missing output has no distance and no gain: half the pictures, half the gain.
        ([THREE[0], lost("z")], {"lps": 0.2, "rs": 1, "rs_unclamped": 1, "fs_paper": 0.16, "fs_code": 0.16}),
        # A grade nobody could read: there is a distance, but no gain.
        (
            [THREE[0], lost("z", "unreadable", lps=0.6)],
            {"lps": 0.4, "rs": 1, "rs_unclamped": 1, "fs_paper": 0.12, "fs_code": 0.16},
        ),
        # Nothing was restored at all.
        ([lost("y"), lost("z")], {"lps": None, "rs": 0, "rs_unclamped": 0, "fs_paper": 0, "fs_code": 0}),
    ],
)
def test_scores_by_hand(outcomes, expected):
    assert values(realir(outcomes), "rain") == pytest.approx(expected)


def test_the_average_is_the_formula_on_means_of_tasks():
    outcomes = [
        *THREE,  # lps 0.5, rs 2 / 3
        outcome("d", 0.1, 1, 5, task="haze"),  # lps 0.1, rs 4
    ]
    average = values(realir(outcomes), "average")
    assert average["lps"] == pytest.approx(0.3)
    assert average["rs"] == pytest.approx(7 / 3)
    assert average["fs_paper"] == pytest.approx(0.2 * 0.7 * 7 / 3)
    assert average["fs_code"] == pytest.approx((0.32 / 3 + 0.2 * 0.9 * 4) / 2)


def test_a_task_without_any_output_pulls_the_average_down():
    scores = realir([outcome("a", 0.2, 2, 4), lost("z", task="haze")])
    assert values(scores, "average")["rs"] == 1
    assert values(scores, "average")["lps"] == pytest.approx(0.2)


@pytest.mark.parametrize("model", PUBLISHED)
@pytest.mark.parametrize("task", TASKS)
def test_the_published_fs_follows_from_the_published_lps_and_rs(model, task):
    lps, rs, published = PUBLISHED[model][task]
    assert fs(lps, rs) == pytest.approx(published, abs=0.0006)  # of values printed with three digits


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_published_average_is_that_of_the_means_of_tasks(model):
    rows = PUBLISHED[model]
    means = np.mean([rows[task][:2] for task in TASKS[:-1]], axis=0)
    assert rows["average"][:2] == pytest.approx(tuple(means), abs=0.0011)
    assert fs(*means) == pytest.approx(rows["average"][2], abs=0.0006)


def test_the_published_order_of_models_is_that_of_the_paper():
    order = sorted(PUBLISHED, key=lambda model: -PUBLISHED[model]["average"][2])
    assert order[:4] == ["Nano Banana Pro", "GPT-Image-1.5", "RealRestorer", "Qwen-Image-Edit-2511"]


@pytest.mark.parametrize("model", sorted(foundir_table()))
def test_the_published_average_on_foundir_is_the_mean_over_its_subsets(model):
    row = foundir_table()[model]
    tasks = [task for task in row if task != "average"]
    mean = np.mean([row[task] for task in tasks], axis=0)
    # V-Bridge's 23.57 dB of the generalist is no mean of its row, over subsets (23.72) or over pictures (23.62).
    error = 0.16 if len(tasks) == 20 else 0.006
    assert mean == pytest.approx(row["average"], abs=error)


def test_coverage_is_the_share_of_pictures_with_a_score():
    scores = realir([*THREE, lost("z"), lost("u", "unreadable", lps=0.1)])
    assert (scores["rain"].pictures, scores["rain"].scored, scores["rain"].coverage) == (5, 3, 0.6)


def test_the_order_of_measuring_changes_nothing():
    outcomes = [outcome(str(number), number / 40, 1 + number % 3, 1 + number % 5) for number in range(30)]
    assert realir(outcomes[::-1]) == realir(outcomes)


def test_a_seed_fixes_the_intervals_and_another_moves_them():
    outcomes = [outcome(str(number), number / 40, 1 + number % 3, 1 + number % 5) for number in range(30)]
    assert realir(outcomes, seed=1) == realir(outcomes, seed=1)
    assert realir(outcomes, seed=1)["rain"].scores["rs"].low != realir(outcomes, seed=2)["rain"].scores["rs"].low


def test_another_task_beside_it_changes_no_interval():
    outcomes = [outcome(str(number), number / 40, 1, 1 + number % 5) for number in range(30)]
    beside = [*outcomes, *(outcome(f"x{number}", 0.5, 1, 2, task="haze") for number in range(9))]
    assert realir(beside)["rain"] == realir(outcomes)["rain"]


@pytest.mark.parametrize("name", REALIR)
def test_pictures_that_are_all_alike_have_no_interval(name):
    score = realir([outcome(str(number), 0.3, 2, 4) for number in range(20)])["rain"].scores[name]
    assert score.low == pytest.approx(score.value)
    assert score.high == pytest.approx(score.value)


def test_the_interval_of_a_mean_is_that_of_the_central_limit():
    rng = np.random.default_rng(0)
    gains = rng.integers(0, 3, 400)
    score = realir([outcome(f"{n:03d}", 0, 1, 1 + gain) for n, gain in enumerate(gains)])["rain"].scores["rs"]
    half = 1.96 * gains.std() / 20
    assert (score.high - score.low) / 2 == pytest.approx(half, rel=0.1)
    assert (score.high + score.low) / 2 == pytest.approx(gains.mean(), abs=0.1 * half)


def test_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="nothing to score"):
        realir([])


def test_a_missing_picture_has_no_psnr_and_lowers_the_coverage():
    outcomes = [Outcome(name="a", task="haze", reason="", values={"psnr": 20.0, "ssim": 0.5}), lost("b", task="haze")]
    scores = reference(outcomes)["haze"]
    assert (scores.scores["psnr"].value, scores.coverage) == (20, 0.5)


def test_the_full_reference_average_is_the_mean_over_tasks():
    outcomes = [
        Outcome(name=str(n), task="haze" if n < 3 else "rain", reason="", values={"psnr": float(n)}) for n in range(4)
    ]
    assert reference(outcomes)["average"].scores["psnr"].value == 2.0


@pytest.mark.parametrize("shape", [(96, 128), (11, 40)])
def test_ssim_is_that_of_wang_et_al(shape):
    clean = data.astronaut()[: shape[0], : shape[1]]
    restored = np.clip(clean + np.random.default_rng(0).normal(0, 20, clean.shape), 0, 255).astype(np.uint8)
    planes = [image @ np.array([0.299, 0.587, 0.114]) for image in (clean, restored)]
    expected = structural_similarity(
        *planes, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert ssim(clean, restored) == pytest.approx(expected, abs=1e-6)


def test_equal_images_are_as_close_as_can_be():
    image = data.chelsea()[:64, :64]
    assert (ssim(image, image), psnr(image, image)) == (pytest.approx(1), 100)


def test_ssim_refuses_images_of_different_sizes():
    with pytest.raises(ValueError, match="one size"):
        ssim(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 21, 3), np.uint8))
