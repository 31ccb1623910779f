"""What the loop comes to on one batch, and what its validation scores."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")
safetensors_torch = pytest.importorskip("safetensors.torch")

from flows.training_settings import parse_training
from storage.errors import SettingsError
from tests.small_dataset import make_dataset
from tests.small_training import dataset, lines, settings, train, weights
from tests.test_lpips import alexnet
from training.data.examples import read_pair
from training.data.index import read_index
from training.loop.validation import psnr
from training.restoring.restorer import Placing, load, sampling_of
from training.restoring.tiles import restore


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    dataset(folder)
    return folder


def test_the_loop_overfits_one_batch(tmp_path):
    """The photograph is as large as the crops, so every step sees the same five pairs, whole; only the noise is new."""
    make_dataset(tmp_path / "dataset", names=("haze",), photographs=1, shape=(16, 16))
    content = settings(
        tmp_path,
        "overfit",
        steps=160,
        batch=5,
        weighting="logarithmic",
        data={"dropout": 0.0, "repeats": 64},
        optimizer={"learning_rate": 5e-3, "average": 0.0},
        levels={"kind": "power", "power": 0.05},
        run={"rhythm": {"log": 20, "checkpoint": 0, "validate": 0}},
    )
    restorer = load(train(content).weights, Placing())
    index = read_index([tmp_path / "dataset"], "train", ())
    for pair in (read_pair(index, record) for record in index.records):
        image = restore(restorer, pair.degraded, pair.instruction, sampling_of(restorer.model.params))
        assert psnr(image, pair.clean) > psnr(pair.degraded, pair.clean) + 15


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Write AlexNet at random."""
    file = tmp_path_factory.mktemp("lpips") / "alexnet.safetensors"
    safetensors_torch.save_file(alexnet(), file)
    return file


def small(root, name, **run):
    rhythm = {"log": 1, "checkpoint": 0, "validate": 2}
    return settings(root, name, steps=4, data={"size": 32}, run={"rhythm": rhythm, **run})


def test_validation_scores_lpips_where_its_weights_are_named(root, network):
    pytest.importorskip("lpips", reason="lpips is not installed: install PairForge's `models` extra")
    train(small(root, "scored", lpips=str(network)))
    train(small(root, "plain"))
    first, *_, last = (line for line in lines(root / "scored") if "val/lpips" in line)
    assert first["val/lpips"] > 0
    assert first["val/lpips_gain"] == pytest.approx(0, abs=1e-6)  # untrained, it changes nothing
    assert last["val/lpips_gain"] != 0
    for task in ("blur", "haze", "noise"):
        before = first[f"val/lpips/{task}"] + first[f"val/lpips_gain/{task}"]
        assert last[f"val/lpips/{task}"] + last[f"val/lpips_gain/{task}"] == pytest.approx(before)
    one, other = (weights(root / name / "model.safetensors") for name in ("scored", "plain"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not any("lpips" in name for line in lines(root / "plain") for name in line)


def test_lpips_of_images_too_small_for_it_is_refused_before_anything_runs(root, network):
    content = small(root, "refused", lpips=str(network)) | {"data": {"train": ["x"], "size": 16}}
    with pytest.raises(SettingsError, match=r"run\.lpips needs images of 32 pixels, data\.size is 16"):
        parse_training(content, origin="a test", base=root)


def test_lpips_weights_that_are_not_there_are_named(root):
    with pytest.raises(SettingsError, match=r"nowhere\.safetensors"):
        train(small(root, "absent", lpips="nowhere.safetensors"))
