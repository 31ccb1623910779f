"""Repeated pairs are decoded once, come in the plan's order, and every decibel counts alike."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from training.data.examples import Pair, distance
from training.data.repeats import Repeated, remembering
from training.loop.losses import HARM, LEAST, SPARED, UNSEEN, Missed, logarithmic


class Counting:
    """A source that notes what it is asked for."""

    def __init__(self):
        self.asked = []

    def pair(self, position):
        self.asked.append(position)
        image = np.full((2, 2, 3), position, np.uint8)
        return Pair(key=str(position), task="haze", instruction="", clean=image, degraded=image)


def test_places_of_a_batch_take_turns_with_new_pairs():
    source = Counting()
    repeated = Repeated(source, batch=2, repeats=4)
    batches = [[int(repeated.pair(2 * step + place).key) for place in range(2)] for step in range(9)]
    assert batches == [[0, 1], [0, 1], [0, 3], [0, 3], [2, 3], [2, 3], [2, 5], [2, 5], [4, 5]]
    assert source.asked == [0, 1, 3, 2, 5, 4]


@pytest.mark.parametrize(("batch", "repeats"), [(16, 4), (16, 16), (6, 4), (3, 5)])
def test_each_pair_is_decoded_once_and_no_step_decodes_much_more_than_another(batch, repeats):
    source, asked = Counting(), []
    repeated = Repeated(source, batch=batch, repeats=repeats)
    for step in range(5 * repeats):
        before = len(source.asked)
        for place in range(batch):
            repeated.pair(batch * step + place)
        asked.append(len(source.asked) - before)
    assert len(set(source.asked)) == len(source.asked)
    assert max(asked[1:]) <= -(-batch // repeats)


def test_a_position_far_ahead_gives_the_same_pair_as_in_order():
    in_order, jumped = (Repeated(Counting(), batch=3, repeats=2) for _ in range(2))
    keys = [in_order.pair(position).key for position in range(40)]
    assert jumped.pair(39).key == keys[39]


def test_an_image_that_comes_again_is_not_looked_at_again():
    looked = []
    look = remembering(lambda image, prompt: looked.append(prompt) or (image, prompt), 2)
    first, second = np.zeros((1, 1, 3)), np.zeros((1, 1, 3))
    assert look(first, "a")[0] is look(first, "a")[0] is first
    assert look(second, "a")[0] is second
    assert looked == ["a", "a"]
    look(first, "b")  # the third answer pushes out the first
    look(first, "a")
    assert looked == ["a", "a", "b", "a"]


def missed(errors, distance, reference, sigma=1.0):
    """Return what was missed of black images by these errors of velocity, (B, T, C), in tokens of four pixels."""
    count = len(reference)
    return Missed(
        velocity_BTC=errors,
        clean_BTC=torch.zeros_like(reference),
        reference_BTC=reference,
        distance_B=torch.as_tensor(distance).expand(count),
        sigma_B=torch.as_tensor(sigma).expand(count),
        planes=3,
    )


def test_halving_an_error_counts_the_same_for_haze_and_for_a_faint_moire():
    reference = torch.stack([torch.full((4, 12), 0.6), torch.full((4, 12), 0.02)])
    distance = torch.tensor([0.36, 0.0004])
    whole, half = (logarithmic(missed(share**0.5 * reference, distance, reference)) for share in (1.0, 0.5))
    expected = torch.log((1.0 + SPARED + LEAST / distance) / (0.5 + SPARED + LEAST / distance))
    torch.testing.assert_close(whole - half, expected)
    assert (whole - half).min() > 0.45


def test_an_error_counts_by_what_the_whole_pair_lacks_not_by_what_was_cut():
    reference = torch.full((2, 4, 12), 0.02)
    errors = torch.full((2, 4, 12), 0.01, requires_grad=True)
    logarithmic(missed(errors, torch.tensor([1e-4, 1e-1]), reference)).sum().backward()
    gradients = errors.grad.abs().amax(dim=(1, 2))
    assert gradients[0] > 40 * gradients[1]


def test_harm_to_the_tone_of_what_was_cut_counts_besides():
    reference = torch.full((3, 4, 12), 0.1)
    errors = torch.tensor([0.07, 0.1, 0.2])[:, None, None].expand(3, 4, 12)
    plain = torch.log(errors.square().mean(dim=(1, 2)) + SPARED * 0.01 + LEAST)
    harm = logarithmic(missed(errors, 0.01, reference)) - plain
    torch.testing.assert_close(harm, HARM * torch.tensor([0.0, 0.0, math.log(4)]), atol=1e-3, rtol=1e-2)


def test_harm_to_detail_does_not_count_besides():
    """Errors that cancel within each plane of a token leave its tone as it was."""
    reference = torch.zeros(1, 4, 12)
    detail = 0.2 * torch.tensor([1.0, -1.0] * 6).expand(1, 4, 12)
    colour = 0.2 * torch.tensor([1.0] * 4 + [-1.0] * 4 + [1.0] * 4).expand(1, 4, 12)
    of_detail, of_colour = (logarithmic(missed(errors, 0.01, reference)) for errors in (detail, colour))
    torch.testing.assert_close(of_detail, torch.log(torch.tensor([0.04 + SPARED * 0.01 + LEAST])))
    torch.testing.assert_close(of_colour - of_detail, HARM * torch.log(torch.tensor([(0.04 + UNSEEN) / UNSEEN])))


def test_the_distance_is_that_of_the_whole_images_within_minus_1_and_1():
    clean = np.zeros((8, 12, 3), np.uint8)
    pair = Pair(key="a", task="rain", instruction="", clean=clean, degraded=clean + np.uint8(51))
    assert distance(pair) == pytest.approx(0.4**2)


def test_the_logarithm_is_of_the_error_of_the_clean_image():
    """The error of a velocity is that of the clean image over sigma."""
    reference = torch.full((2, 4, 12), 0.1)
    errors = torch.tensor([0.1, 0.2])[:, None, None].expand(2, 4, 12)
    found = logarithmic(missed(errors, 0.01, reference, torch.tensor([1.0, 0.5])))
    torch.testing.assert_close(found[0], found[1])
