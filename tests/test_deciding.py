"""Which score of a reject decided, and where its limit lies."""

import pytest

from filters import load
from flows.__main__ import run
from flows.dataset import Dataset
from flows.deciding import Decided, deciding, judges_of, medians
from tests.small_dataset import make_dataset

STRENGTH = load("strength").model_validate({"measured": False, "psnr": (12.0, 45.0)})
TYPICAL = {"strength.psnr": 20.0, "strength.ssim": 0.7, "strength.area": 0.9}


@pytest.mark.parametrize(("psnr", "reason", "limit"), [(61.0, "too_weak", 45.0), (3.0, "too_strong", 12.0)])
def test_the_score_whose_change_changes_the_verdict_decided_and_its_limit_is_found(psnr, reason, limit):
    scores = {"strength.psnr": psnr, "strength.ssim": 0.98, "strength.area": 0.5, "alignment.shift_px": 3.0}
    row = {"stage": "strength", "reason": reason, "scores": scores, "recipe": ""}
    found = deciding(row, {"strength": STRENGTH}, TYPICAL)
    assert list(found) == ["strength.psnr"]
    assert found["strength.psnr"].value == psnr
    assert found["strength.psnr"].limit == pytest.approx(limit, abs=1e-9)
    kept = {"psnr": found["strength.psnr"].limit, "ssim": 0.98, "area": 0.5}
    assert STRENGTH.judge(kept).keep  # the limit itself would have been kept


def test_a_limit_on_the_far_side_of_what_is_typical_is_found():
    bands = load("strength").model_validate({"measured": False, "area": (0.09, 0.38)})
    scores = {"strength.psnr": 20.9, "strength.ssim": 0.93, "strength.area": 0.48}
    row = {"stage": "strength", "reason": "too_strong", "scores": scores, "recipe": ""}
    for typical in (0.02, 0.479, 0.77, 0.99):  # of all levels together
        found = deciding(row, {"strength": bands}, {**TYPICAL, "strength.area": typical})
        assert found == {"strength.area": Decided(value=0.48, limit=pytest.approx(0.38))}


def test_all_scores_of_an_unknown_filter_are_told_without_a_limit():
    row = {"stage": "aesthetic", "reason": "ugly", "scores": {"aesthetic.score": 1.0, "strength.psnr": 2.0}}
    assert deciding(row, {}, {}) == {"aesthetic.score": Decided(value=1.0)}


def test_two_scores_that_each_suffice_have_no_one_limit():
    scores = {"strength.psnr": 61.0, "strength.ssim": 1.0, "strength.area": 0.5}
    row = {"stage": "strength", "reason": "too_weak", "scores": scores, "recipe": ""}
    found = deciding(row, {"strength": STRENGTH}, TYPICAL)
    assert {name: by.limit for name, by in found.items()} == dict.fromkeys(scores)


def test_filters_are_read_from_published_settings_and_foreign_options_are_left_out():
    found = judges_of({"filters": {"strength": {"measured": False}, "alignment": {"gone": 1}, "unknown": {"a": 1}}})
    assert list(found) == ["strength"]


def test_medians_are_those_of_each_score():
    assert medians([{"a": 1.0}, {"a": 5.0, "b": 2.0}, {"a": 3.0}]) == {"a": 3.0, "b": 2.0}


def test_explain_tells_the_score_that_decided_and_its_limit(tmp_path, capsys):
    root = make_dataset(tmp_path / "dataset")
    [key] = [row["key"] for row in Dataset(root).rows("pairs") if row["reason"] == "too_weak"][:1]
    assert run(["explain", str(root), key]) == 0
    assert "decided by   strength.psnr 61, kept up to 45" in capsys.readouterr().out
