"""A restored image has the input's size, no moved pixel and no seams, and its seed fixes it."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from tests.small_restorer import small_model, small_params
from training.encoders.latents import PixelLatents
from training.encoders.prompts import FrozenPrompts, GlancingPrompts
from training.flow import Guidance
from training.network import params
from training.network.glance import PLACE
from training.network.model import build, initialise
from training.restoring.tiles import Restorer, Sampling, _ramp, _starts, restore

SAMPLING = Sampling(steps=2, guidance=None, tile=32, overlap=8, batch=3)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def untrained():
    model = build(params.tiny(), "cpu")
    initialise(model, seed=0)
    return Restorer(model=model, latents=PixelLatents(8), prompts=FrozenPrompts(model.params.prompt_width))


@pytest.fixture(scope="module")
def random():
    """Return a restorer that changes everything, with the reference among its tokens and a connector."""
    model = small_model(small_params(channels=12), std=0.1)
    return Restorer(model=model, latents=PixelLatents(2), prompts=FrozenPrompts(model.params.prompt_width))


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (32, 32), (33, 47), (61, 40), (90, 129)])
@pytest.mark.parametrize("guidance", [None, Guidance()])
def test_a_restorer_that_changes_nothing_returns_every_pixel(untrained, size, guidance):
    image = picture(*size)
    sampling = Sampling(steps=2, guidance=guidance, tile=32, overlap=8, batch=3)
    assert np.array_equal(restore(untrained, image, "Please dehaze the image", sampling), image)


def test_the_seed_fixes_the_result(random):
    image = picture(20, 26)
    first, again, other = (
        restore(random, image, "x", Sampling(steps=2, seed=seed, tile=16, overlap=4)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_number_of_tiles_at_once_changes_nothing(random):
    image = picture(40, 40)
    one, many = (restore(random, image, "x", Sampling(steps=2, tile=16, overlap=4, batch=n)) for n in (1, 5))
    assert np.abs(one.astype(int) - many).max() <= 1  # sums in another order


def test_prompt_and_guidance_count(random):
    image = picture(16, 16)
    plain = restore(random, image, "x", Sampling(steps=2, guidance=None))
    assert not np.array_equal(plain, restore(random, image, "y", Sampling(steps=2, guidance=None)))
    assert not np.array_equal(plain, restore(random, image, "x", Sampling(steps=2)))


def test_tiles_blend_without_a_step():
    """Tiles that are black and white in turn become a ramp, not a step."""
    starts, ramp = _starts(100, 32, 8, 4), _ramp(32, 8)
    assert starts[-1] == 68
    total, weights = np.zeros(100), np.zeros(100)
    for number, start in enumerate(starts):
        total[start : start + 32] += ramp * (number % 2)
        weights[start : start + 32] += ramp
    assert weights.min() > 0
    assert np.abs(np.diff(total / weights)).max() < 1 / 8


class Placing(torch.nn.Module):
    """Restores every tile to the colour (row, column, row) of its place."""

    def __init__(self):
        super().__init__()
        self.params, self.img_in = params.tiny(), torch.nn.Linear(1, 1)

    def forward(self, target_BTC, reference_BTC, sigma_B, prompt_BSE, mask_BS, ids_L3):
        row, column = (prompt_BSE[:, -1, PLACE] / 2).T
        pixel = torch.stack([row, column, row], dim=1)
        return (target_BTC - pixel.repeat_interleave(64, dim=1)[:, None]) / sigma_B[:, None, None]


@pytest.mark.parametrize("guidance", [None, Guidance()])
def test_a_glance_is_told_where_each_tile_lies(guidance):
    restorer = Restorer(model=Placing(), latents=PixelLatents(8), prompts=GlancingPrompts())
    sampling = Sampling(steps=1, guidance=guidance, tile=16, overlap=0, batch=3)
    found = restore(restorer, picture(32, 64), "x", sampling)
    corners = found[::16, ::16].astype(int)
    np.testing.assert_allclose(corners[..., 0], [[64] * 4, [191] * 4], atol=1)
    np.testing.assert_allclose(corners[..., 1], [[32, 96, 159, 223]] * 2, atol=1)
    assert np.array_equal(found, corners.repeat(16, 0).repeat(16, 1))


def test_progress_counts_tiles(untrained):
    seen = []
    restore(untrained, picture(60, 60), "x", SAMPLING, lambda done, of: seen.append((done, of)))
    assert seen == [(3, 9), (6, 9), (9, 9)]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"overlap": 32}, "overlap must be within 0 and tile, got 32 of 32"),
        ({"overlap": -1}, "overlap must be within 0 and tile, got -1 of 32"),
        ({"batch": 0}, "steps and batch must be at least 1, got 28 and 0"),
        ({"steps": 0}, "steps and batch must be at least 1, got 0 and 1"),
    ],
)
def test_sampling_that_does_not_advance_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        Sampling(**({"tile": 32, "overlap": 8} | changes))
