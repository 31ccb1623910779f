"""The augmentation handed to the trainer: a function of the seed, the same for one picture and for a batch."""

import pickle

import numpy as np
import pytest
import torch

from degradations.batched.web import wear
from tasks.augment import WebStyle
from tests.scenes import photograph

IMAGE = photograph("astronaut", 120)
ALWAYS = {"probability": 1.0, "severity": (0.0, 1.0)}


def as_batch(count):
    one = torch.from_numpy(IMAGE.transpose(2, 0, 1).copy()).float() / 255
    return one.repeat(count, 1, 1, 1)


def test_same_seed_gives_the_same_picture_and_another_seed_another():
    augment = WebStyle(probability=1.0)
    np.testing.assert_array_equal(augment(IMAGE, 3), augment(IMAGE, 3))
    assert not np.array_equal(augment(IMAGE, 3), augment(IMAGE, 4))


def test_a_batch_is_the_pictures_one_by_one():
    augment, seeds = WebStyle(probability=0.5), list(range(6))
    worn = augment(as_batch(6), seeds)
    expected = np.stack([augment(IMAGE, seed) for seed in seeds]).transpose(0, 3, 1, 2)
    assert worn.dtype == torch.float32
    np.testing.assert_array_equal(np.rint(worn.numpy() * 255), expected)


def test_a_device_does_the_same_within_a_code():
    drawn = [WebStyle(**ALWAYS).draw(seed, IMAGE.shape) for seed in range(4)]
    on_device = wear(as_batch(4), [passes for passes, _ in drawn], [last for _, last in drawn])
    on_cpu = WebStyle(**ALWAYS)(as_batch(4), range(4))
    assert float((on_device - on_cpu).abs().max()) * 255 < 1.01


def test_all_that_is_drawn_has_a_batched_form():
    """Nothing falls back to NumPy on a device: ringing kernels, which need SciPy, are of another form of wear."""
    drawn = [WebStyle(**ALWAYS).draw(seed, shape) for seed in range(400) for shape in (IMAGE.shape, (700, 900, 3))]
    steps = [step for passes, _ in drawn for step in passes]
    assert len(steps) == 800
    assert all(step.cutoff == 0 for step in steps)
    assert {last for _, last in drawn} == {"bilinear", "bicubic"}
    assert {step.interpolation for step in steps} == {"area", "bilinear", "bicubic"}
    assert any(step.noise for step in steps)
    assert any(step.sigma for step in steps)


def test_pictures_that_are_spared_stay_as_they_are():
    np.testing.assert_array_equal(WebStyle(probability=0.0)(IMAGE, 1), IMAGE)
    spared = [not WebStyle(probability=0.3, severity=(0.5, 1.0)).draw(seed, IMAGE.shape)[0] for seed in range(2000)]
    assert np.mean(spared) == pytest.approx(0.7, abs=0.04)


def test_harm_grows_with_the_interval_of_severities():
    def error(low, high):
        augment = WebStyle(probability=1.0, severity=(low, high))
        return np.mean([np.square(augment(IMAGE, seed).astype(float) - IMAGE).mean() for seed in range(12)])

    assert 0 == error(0.0, 0.0) < error(0.1, 0.2) < error(0.4, 0.6) < error(0.9, 1.0)


def test_arguments_stay_untouched_and_the_callable_can_be_sent_to_a_worker():
    augment = pickle.loads(pickle.dumps(WebStyle(probability=1.0)))
    images = as_batch(2)
    augment(images, [1, 2])
    assert torch.equal(images, as_batch(2))


@pytest.mark.parametrize("given", [{"probability": 1.2}, {"probability": 0.5, "severity": (0.7, 0.2)}])
def test_odd_options_are_refused(given):
    with pytest.raises(ValueError, match="got"):
        WebStyle(**given)


def test_a_seed_is_asked_for_each_sample():
    with pytest.raises(ValueError, match="a seed for each"):
        WebStyle(probability=1.0)(as_batch(2), [1])
