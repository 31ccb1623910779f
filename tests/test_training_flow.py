"""Rectified flow: the schedule, the loss, guidance and the sampler."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import math

import numpy as np
import pytest
from scipy.ndimage import convolve1d

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from tests.small_restorer import small_inputs, small_model, small_params
from training import flow
from training.encoders import prompts
from training.flow import Guidance
from training.network import packing, params
from training.network.model import build, initialise


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [1, 2, 16, 28, 50])
@pytest.mark.parametrize("tokens", [64, 256, 1024, 4096, 6000])
def test_schedule_is_that_of_diffusers(steps, tokens):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: install the `test` extra")
    golden = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    golden.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=flow.mu(tokens))
    assert (golden.sigmas - flow.schedule(steps, tokens)).abs().max() <= 1.2e-7


def test_schedule_has_the_published_values():
    sigmas = flow.schedule(28, 4096)
    assert flow.mu(256) == pytest.approx(0.5)
    assert flow.mu(4096) == pytest.approx(1.15)
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert float(sigmas[14]) == pytest.approx(3.1581929 / (3.1581929 + 1), abs=1e-6)
    assert int((sigmas > flow.LIMIT_ABOVE).sum()) == 6
    assert int((flow.schedule(28, 1024) > flow.LIMIT_ABOVE).sum()) == 4


def test_a_schedule_without_steps_is_refused():
    with pytest.raises(ValueError, match="at least one step, got 0"):
        flow.schedule(0, 256)


def test_path_leads_from_clean_to_noise():
    clean, noise = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    at = flow.noisy(clean, noise, torch.tensor([0.0, 1.0]))
    assert torch.equal(at[0], clean[0])
    assert torch.equal(at[1], noise[1])


def test_loss_is_the_mean_squared_error_of_the_velocity():
    clean = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    noise = torch.tensor([[[0.5, 0.5], [0.5, 0.5]], [[1.0, 1.0], [1.0, 1.0]]])
    velocity = torch.tensor([[[0.0, -1.0], [-2.0, -3.0]], [[1.0, 1.0], [1.0, 0.0]]])
    assert flow.errors(velocity, clean, noise).tolist() == pytest.approx([0.25, 0.25], abs=1e-5)
    assert float(flow.loss(velocity, clean, noise)) == pytest.approx(0.25, abs=1e-5)
    assert float(flow.loss(velocity, clean, noise, torch.tensor([1.0, 3.0]))) == pytest.approx(0.5, abs=1e-5)


def test_loss_is_taken_in_float32():
    clean, noise = torch.full((1, 4, 4), 1.0), torch.full((1, 4, 4), 1.0 + 2**-7)
    exact = flow.loss(torch.zeros(1, 4, 4, dtype=torch.bfloat16), clean.bfloat16(), noise.bfloat16())
    assert exact.dtype == torch.float32
    assert float(exact) == pytest.approx(2**-14, abs=1e-9)


def test_relative_weights_give_the_relative_error_of_the_clean_image():
    clean, noise, reference, guess = (normal(3, 5, 4, seed=seed) for seed in range(4))
    sigma = torch.tensor([0.2, 0.5, 1.0])
    velocity = (flow.noisy(clean, noise, sigma) - guess) / sigma[:, None, None]
    weights = flow.relative_weights(clean, reference, sigma)
    expected = (guess - clean).square().mean(dim=(1, 2)) / ((reference - clean).square().mean(dim=(1, 2)) + 1e-3)
    torch.testing.assert_close(flow.errors(velocity, clean, noise) * weights, expected, rtol=1e-4, atol=1e-5)


def test_training_levels_are_those_of_the_public_recipe():
    generator = torch.Generator().manual_seed(0)
    levels = flow.shifted_logit_normal(200_000, 4096, uniform=0.0, generator=generator)
    assert float((levels < 0.25).float().mean()) == pytest.approx(0.012, abs=0.001)
    assert float(levels.median()) == pytest.approx(0.7595, abs=0.003)


def test_a_tenth_of_the_training_levels_is_uniform():
    generator = torch.Generator().manual_seed(0)
    levels = flow.shifted_logit_normal(200_000, 4096, uniform=0.1, generator=generator)
    assert float((levels < 0.25).float().mean()) == pytest.approx(0.9 * 0.012 + 0.1 * 0.25, abs=0.002)


@pytest.mark.parametrize(
    ("difference", "sigma", "expected"),
    [
        ((3.0, 4.0), 0.93, (9.0, 12.0)),  # not above the limit: plain guidance
        ((3.0, 4.0), 0.94, (9.0 / 5**0.4, 12.0 / 5**0.4)),
        ((0.3, 0.4), 0.94, (0.9, 1.2)),  # a norm below one is never amplified
        ((0.0, 0.0), 1.0, (0.0, 0.0)),
    ],
)
def test_guidance_has_its_golden_values(difference, sigma, expected):
    unconditional = torch.tensor([[[1.0, -1.0]]])
    found = flow.guided(unconditional + torch.tensor(difference), unconditional, sigma, Guidance())
    assert (found - unconditional)[0, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_guidance_is_limited_token_by_token():
    unconditional, conditional = torch.zeros(1, 2, 2), torch.tensor([[[0.6, 0.8], [30.0, 40.0]]])
    found = flow.guided(conditional, unconditional, 0.99, Guidance(scale=1.0))
    assert found.norm(dim=-1)[0].tolist() == pytest.approx([1.0, 50**0.6], rel=1e-5)


@torch.no_grad()
def test_guidance_in_one_batch_equals_two_passes():
    shape = small_params()
    model = small_model(shape)
    target, reference, _, prompt, mask, ids = small_inputs(shape)
    nothing, sigma = torch.zeros_like(prompt), torch.full((2,), 0.95)

    def both(x, sigma):
        twice = torch.cat([reference, reference]), sigma, torch.cat([prompt, nothing]), torch.cat([mask, mask])
        return model(x, *twice, ids)

    found = flow.classifier_free(both, Guidance())(target, sigma)
    apart = [model(target, reference, sigma, words, mask, ids) for words in (prompt, nothing)]
    torch.testing.assert_close(found, flow.guided(*apart, 0.95, Guidance()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 4, 28])
def test_euler_is_exact_on_a_straight_path(steps):
    clean, noise = normal(2, 6, 4), normal(2, 6, 4, seed=1)
    found = flow.sample(lambda x, sigma: noise - clean, noise, flow.schedule(steps, 256))
    torch.testing.assert_close(found, clean, atol=2e-6, rtol=1e-5)


def test_euler_converges_with_the_number_of_steps():
    start = torch.ones(1, 1, 1)
    errors = []
    for steps in (10, 20, 40):
        found = flow.sample(lambda x, sigma: x, start, torch.linspace(1, 0, steps + 1))
        errors.append(abs(float(found) - math.exp(-1)))
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.1)


def test_sampler_equals_the_steps_of_diffusers():
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: install the `test` extra")
    golden = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    golden.set_timesteps(sigmas=np.linspace(1, 1 / 28, 28), mu=flow.mu(1024))
    noise = normal(1, 3, 4)
    x = noise
    for level in golden.timesteps:
        x = golden.step(torch.tanh(3 * x) - level / 1000, level, x, return_dict=False)[0]
    found = flow.sample(lambda x, sigma: torch.tanh(3 * x) - sigma[:, None, None], noise, flow.schedule(28, 1024))
    torch.testing.assert_close(found, x, atol=1e-5, rtol=1e-4)


def test_tiny_overfits_one_batch():
    """Two prompts, one reference: only what they say tells whether it is to be darkened or to be smoothed."""
    shape = params.tiny()
    model = build(shape, "cpu")
    initialise(model, seed=0)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 16, 16, generator=generator) * 2 - 1
    across = convolve1d(image.numpy(), [0.25, 0.5, 0.25], axis=3, mode="nearest")
    smooth = torch.from_numpy(convolve1d(across, [0.25, 0.5, 0.25], axis=2, mode="nearest"))
    asked = torch.cat([0.4 * image - 0.3, smooth])
    clean, reference = (packing.patchify(images, shape.patch) for images in (asked, image.expand_as(asked)))
    shown = ((image[0].permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)
    prompt, mask = prompts.GlancingPrompts().encode([shown, shown], ["first", "second"])
    ids = packing.positions(shape, text=prompt.shape[1], rows=2, columns=2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(150):
        noise, sigma = torch.randn(clean.shape, generator=generator), torch.rand(2, generator=generator) ** 0.35
        velocity = model(flow.noisy(clean, noise, sigma), reference, sigma, prompt, mask, ids)
        optimiser.zero_grad()
        flow.loss(velocity, clean, noise, flow.relative_weights(clean, reference, sigma)).backward()
        optimiser.step()
    with torch.no_grad():
        noise = torch.randn(clean.shape, generator=generator)
        found = flow.sample(lambda x, sigma: model(x, reference, sigma, prompt, mask, ids), noise, flow.schedule(2, 4))
    errors, before = ((images - clean).square().mean(dim=(1, 2)) for images in (found, reference))
    assert (errors < before / 100).all()  # 20 dB
