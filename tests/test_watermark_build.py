"""In a build, the vision-language model is asked of watermarks only on what all other filters keep."""

import cv2
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from filters import load
from flows.dataset import Dataset
from tests.builds import build_here, settings_for, write_photographs
from tests.tiny_owl import save
from tests.vlm_server import said, serve


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two photographs, one of them a second time but blurred."""
    folder = write_photographs(tmp_path_factory.mktemp("photographs"), count=2)
    sharp = cv2.imread(str(sorted(folder.iterdir())[0]))
    cv2.imwrite(str(folder / "blurred.png"), cv2.GaussianBlur(sharp[::-1], (0, 0), 6))
    return folder


@pytest.fixture(scope="module")
def owl(tmp_path_factory):
    return str(save(tmp_path_factory.mktemp("owl") / "tiny"))


def test_only_survivors_are_shown_to_the_second_model_and_its_no_keeps_them(photographs, owl, tmp_path):
    with serve(lambda number, body: said("No")) as running:
        second = {"url": running.url, "model": "any"}
        table = {"weights": owl, "max_detected": 0.0, "ask_above": 0.0, "second": second}
        mixture = {"variants": 1, "weights": {"noise": 1}}
        build_here(settings_for(photographs, tmp_path / "set", mixture=mixture, filters={"watermark": table}))
    rows = {row["uri"].split("/")[-1]: row for row in Dataset(tmp_path / "set").rows("images")}
    assert rows["blurred.png"]["reason"] not in ("", "watermark")
    assert not [score for score in rows["blurred.png"]["scores"] if score.startswith("watermark.")]
    others = [row for name, row in rows.items() if name != "blurred.png"]
    assert [(row["status"], row["scores"]["watermark.opinion"]) for row in others] == [("kept", 0.0)] * 2
    assert len(running.bodies) == 2


def test_with_a_second_model_the_filter_comes_last_and_without_beside_the_others():
    watermark = load("watermark")
    assert watermark.model_validate({"weights": "w", "second": {"url": "http://a/v1"}}).is_last()
    assert not watermark.model_validate({"weights": "w"}).is_last()
