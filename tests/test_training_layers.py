"""The layers of the restorer equal slow, obvious float64 mathematics."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import cmath
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from tests.small_restorer import random, small_inputs, small_params
from training.network import maths
from training.network.connector import Connector, RefinerBlock, attention_mask
from training.network.layers import SingleBlock, modulate


def slow_softmax(scores):
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / sum(weights) for weight in weights]


def slow_attention(q, k, v, mask=None):
    """Loop over the queries of one head: q, k, v are (L, D) float64."""
    out = np.zeros_like(v)
    for row in range(len(q)):
        seen = [column for column in range(len(k)) if mask is None or mask[row, column]]
        weights = slow_softmax([float(q[row] @ k[column]) / math.sqrt(q.shape[1]) for column in seen])
        out[row] = sum(weight * v[column] for weight, column in zip(weights, seen, strict=True))
    return out


def slow_rotation(x, ids, axes, theta):
    """Turn neighbouring channels as complex numbers, one by one: x is (L, D) float64."""
    out = np.zeros_like(x)
    for token, position in enumerate(ids):
        channel = 0
        for axis, width in enumerate(axes):
            for pair in range(width // 2):
                angle = position[axis] / theta ** (2 * pair / width)
                turned = complex(x[token, channel], x[token, channel + 1]) * cmath.exp(1j * angle)
                out[token, channel : channel + 2] = turned.real, turned.imag
                channel += 2
    return out


def slow_norm(x, epsilon=1e-6):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)


def slow_linear(layer, x):
    return x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()


def slow_silu(x):
    return x / (1 + np.exp(-x))


def slow_gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def slow_rms(x, scale):
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * scale.detach().double().numpy()


def test_attention_is_the_softmax_of_scaled_products():
    q, k, v = (random(1, 2, 6, 4, seed=seed) for seed in range(3))
    mask = attention_mask(torch.tensor([[True, True, True, False, True, False]]))
    expected = [slow_attention(*(x[0, head].numpy() for x in (q, k, v)), mask[0, 0]) for head in range(2)]
    np.testing.assert_allclose(maths.attention(q, k, v, mask)[0], np.concatenate(expected, axis=1), atol=1e-12)


def test_padded_tokens_look_only_at_the_first():
    mask = attention_mask(torch.tensor([[True, True, False]]))[0, 0]
    assert mask.tolist() == [[True, True, False], [True, True, False], [True, False, False]]


def test_attention_of_a_small_training_is_that_of_any_other():
    """In bfloat16 on a CPU, with gradients and few tokens, it is computed by plain products."""
    q, k, v = (random(2, 3, 40, 16).bfloat16() for _ in range(3))
    expected = maths.attention(q, k, v)
    found = maths.attention(q.requires_grad_(), k, v)
    torch.testing.assert_close(found.float(), expected.float(), atol=0.02, rtol=0.02)


def test_rope_is_the_same_compiled():
    q, turns = random(1, 2, 6, 16).float(), maths.rope(torch.arange(18.0).reshape(6, 3), (4, 6, 6), 10_000)
    compiled = torch.compile(maths.apply_rope, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(q, turns), maths.apply_rope(q, turns), atol=1e-6, rtol=1e-6)


def test_rope_turns_pairs_by_their_angles():
    axes, theta = (4, 6, 6), 10_000
    ids = torch.tensor([[0.0, 0, 0], [1, 3, 2], [1, 250, 511]])
    x = random(1, 1, 3, 16)
    turned = maths.apply_rope(x.float(), maths.rope(ids, axes, theta))[0, 0]
    np.testing.assert_allclose(turned, slow_rotation(x[0, 0].numpy(), ids.numpy(), axes, theta), atol=2e-6)


def test_rope_makes_attention_depend_on_distance_alone():
    axes, theta = (4, 6, 6), 10_000
    q, k = random(1, 1, 1, 16), random(1, 1, 1, 16, seed=1)
    products = []
    for start in (0.0, 40.0):
        at, other = torch.tensor([[0.0, start, start]]), torch.tensor([[0.0, start + 3, start + 7]])
        turned = maths.apply_rope(q, maths.rope(at, axes, theta)), maths.apply_rope(k, maths.rope(other, axes, theta))
        products.append(float((turned[0] * turned[1]).sum()))
    assert products[0] == pytest.approx(products[1], abs=1e-5)


def test_sinusoids_are_cosines_then_sines():
    found = maths.sinusoids(torch.tensor([0.0, 0.037]), 8)
    angles = [37 / 10_000 ** (n / 4) for n in range(4)]
    expected = [[1.0] * 4 + [0.0] * 4, [*map(math.cos, angles), *map(math.sin, angles)]]
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_modulation_scales_and_shifts_the_normalised_token():
    x, shift, scale = random(2, 3, 8), random(2, 1, 8, seed=1), random(2, 1, 8, seed=2)
    expected = slow_norm(x.numpy()) * (1 + scale.numpy()) + shift.numpy()
    np.testing.assert_allclose(modulate(x, shift, scale), expected, atol=1e-12)


def test_single_block_is_its_equations():
    hidden, heads, ids = 16, 2, random(5, 3).abs() * 9
    block = SingleBlock(hidden, heads, 4).double()
    with torch.no_grad():
        block.norm.query_norm.scale.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0))
    x, vec = random(1, 5, hidden), random(1, hidden, seed=1)
    found = block(x, vec, maths.rope(ids, (2, 2, 4), 100.0))

    shift, scale, gate = np.split(slow_linear(block.modulation.lin, slow_silu(vec[0].numpy())), 3)
    fused = slow_linear(block.linear1, slow_norm(x[0].numpy()) * (1 + scale) + shift)
    q, k, v, mlp = np.split(fused, [hidden, 2 * hidden, 3 * hidden], axis=1)
    joint = []
    for head in range(heads):
        own = slice(head * 8, head * 8 + 8)
        turned_q = slow_rotation(slow_rms(q[:, own], block.norm.query_norm.scale), ids.numpy(), (2, 2, 4), 100.0)
        turned_k = slow_rotation(slow_rms(k[:, own], block.norm.key_norm.scale), ids.numpy(), (2, 2, 4), 100.0)
        joint.append(slow_attention(turned_q, turned_k, v[:, own]))
    expected = x[0].numpy() + gate * slow_linear(block.linear2, np.concatenate([*joint, slow_gelu(mlp)], axis=1))
    np.testing.assert_allclose(found[0].detach(), expected, atol=1e-6)  # rotation and RMS norm are float32 by design


def test_refiner_block_is_its_equations():
    block = RefinerBlock(8, 2).double()
    x, condition, valid = random(1, 4, 8), random(1, 8, seed=1), torch.tensor([[True, True, True, False]])
    mask = attention_mask(valid)
    found = block(x, condition, mask)

    gate1, gate2 = np.split(slow_linear(block.adaLN_modulation[1], slow_silu(condition[0].numpy())), 2)
    q, k, v = np.split(slow_linear(block.self_attn_qkv, slow_norm(x[0].numpy())), 3, axis=1)
    own = [slice(0, 4), slice(4, 8)]
    joint = np.concatenate([slow_attention(q[:, s], k[:, s], v[:, s], mask[0, 0]) for s in own], axis=1)
    middle = x[0].numpy() + gate1 * slow_linear(block.self_attn_proj, joint)
    inner = slow_silu(slow_linear(block.mlp.fc1, slow_norm(middle)))
    expected = middle + gate2 * slow_linear(block.mlp.fc2, inner)
    np.testing.assert_allclose(found[0].detach(), expected, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("scaled", [False, True])
def test_pooled_prompt_projects_the_mean_of_valid_rows(scaled):
    shape = small_params(scaled=scaled)
    connector = Connector(shape.connector, shape.pooled)
    _, _, sigma, prompt, mask, _ = small_inputs(shape)
    _, pooled = connector(prompt, sigma, mask)
    mean = prompt[1, :3].mean(dim=0) * (0.09 if scaled else 1.0)
    torch.testing.assert_close(pooled[1], connector.global_proj_out(mean), atol=1e-6, rtol=1e-5)
