"""The watermark filter: OWLv2's boxes are those of the library's own pipeline, and a second opinion decides of them."""

import numpy as np
import pytest
from skimage import data

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from filters import load  # noqa: E402
from filters._contract import Sample  # noqa: E402
from filters._owl import open_owl, open_prepare  # noqa: E402
from filters.watermark import QUERIES, UNREADABLE, opinion_of  # noqa: E402
from storage.errors import SettingsError, ShardError  # noqa: E402
from tests.tiny_owl import save  # noqa: E402
from tests.vlm_server import said, serve  # noqa: E402

IMAGES = [data.astronaut(), data.coffee(), np.ascontiguousarray(data.chelsea()[:, :200])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("owl") / "tiny")


@pytest.fixture(scope="module")
def theirs(folder):
    """What the library's own pipeline finds, boxes in fractions of the image."""
    from PIL import Image

    pipeline = transformers.pipeline("zero-shot-object-detection", model=str(folder))
    return [pipeline(Image.fromarray(one), candidate_labels=list(QUERIES), threshold=0.0) for one in IMAGES]


def detect(folder, images, **options):
    found = open_owl(str(folder), QUERIES, **{"device": "cpu", "dtype": "float32", "batch": 2, **options})
    return found([open_prepare(str(folder))(image) for image in images])


def test_the_likeliest_box_is_that_of_the_librarys_pipeline(folder, theirs):
    found = detect(folder, IMAGES)
    best = [max(boxes, key=lambda box: box["score"]) for boxes in theirs]
    assert [one.score for one in found] == pytest.approx([box["score"] for box in best], abs=1e-4)
    assert len({round(one.score, 3) for one in found}) == 3


def test_the_area_is_that_of_the_box_inside_the_image(folder, theirs):
    for one, boxes, image in zip(detect(folder, IMAGES), theirs, IMAGES, strict=True):
        box = max(boxes, key=lambda box: box["score"])["box"]
        inside = np.zeros(image.shape[:2], bool)
        inside[max(0, box["ymin"]) : max(0, box["ymax"]), max(0, box["xmin"]) : max(0, box["xmax"])] = True
        assert one.area == pytest.approx(inside.mean(), abs=0.01)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.1)])
def test_batches_change_no_box(folder, dtype, tolerance):
    alone = [detect(folder, [image])[0].score for image in IMAGES]
    assert [one.score for one in detect(folder, IMAGES, batch=3, dtype=dtype)] == pytest.approx(alone, abs=tolerance)


def test_a_checkpoint_without_its_processor_ends_in_a_sentence(tmp_path):
    save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        (tmp_path / name).unlink()
    with pytest.raises(SettingsError, match="lacks the files of OWLv2's processor"):
        detect(tmp_path, IMAGES)


def test_weights_of_another_model_end_in_a_sentence(tmp_path):
    from safetensors.torch import load_file, save_file

    save(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({name: value for name, value in state.items() if "box_head" not in name}, tmp_path / "model.safetensors")
    with pytest.raises(ShardError, match=r"Owlv2ForObjectDetection; expected but not found: box_head"):
        detect(tmp_path, IMAGES)


@pytest.mark.parametrize(
    ("answer", "opinion"),
    [("Yes", 1), (" yes.\n", 1), ("**No**", 0), ("NO!", 0), ("Yes, there is", UNREADABLE), ("", UNREADABLE)],
)
def test_only_a_plain_yes_or_no_is_an_opinion(answer, opinion):
    assert opinion_of(answer) == opinion


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ({"detected": 0.2}, ""),
        ({"detected": 0.4}, "watermark"),
        ({"detected": 0.4, "opinion": 0.0}, ""),
        ({"detected": 0.2, "opinion": 1.0}, "watermark"),
        ({"detected": 0.4, "opinion": UNREADABLE}, "watermark"),
        ({"detected": 0.2, "opinion": UNREADABLE}, ""),
    ],
)
def test_a_readable_second_opinion_decides(scores, reason):
    assert load("watermark")().judge({"area": 0.1, **scores}).reason == reason


@pytest.mark.parametrize(("answer", "opinion"), [("Yes.", 1.0), ("No", 0.0), ("I cannot tell", UNREADABLE)])
def test_a_server_is_asked_about_doubtful_images_only(folder, answer, opinion):
    low, middle, _ = sorted(one.score for one in detect(folder, IMAGES))
    samples = [Sample(key=str(index), clean=image) for index, image in enumerate(IMAGES)]
    with serve(lambda number, body: said(answer)) as running:
        second = {"url": running.url, "model": "any"}
        options = {"weights": str(folder), "second": second, "ask_above": (low + middle) / 2}
        found = load("watermark").model_validate(options).open("cpu")(samples)
    assert [one.get("opinion") for one in found] == [opinion if one["detected"] > low + 1e-6 else None for one in found]
    assert len(running.bodies) == 2
