"""The restorer equals diffusers' Flux transformer, and is what its params say."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import hashlib
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from torch.utils.flop_counter import FlopCounterMode

from tests.small_restorer import COLUMNS, ROWS, TEXT, random, small_inputs, small_model, small_params
from training.encoders import prompts
from training.network import maths, packing, params
from training.network.model import build, initialise, neighbourhoods
from training.weights.checkpoints import native_shapes
from training.weights.layouts import entries, pieces

RENAMED = {  # Step1X-Edit for diffusers -> mainline Flux
    "time_embed.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_embed.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vec_embed.in_layer": "time_text_embed.text_embedder.linear_1",
    "vec_embed.out_layer": "time_text_embed.text_embedder.linear_2",
}


def flux_of(shape):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: install the `test` extra")
    flux = diffusers.FluxTransformer2DModel(
        in_channels=shape.channels,
        num_layers=shape.double_blocks,
        num_single_layers=shape.single_blocks,
        attention_head_dim=shape.hidden // shape.heads,
        num_attention_heads=shape.heads,
        joint_attention_dim=shape.context,
        pooled_projection_dim=shape.pooled,
        axes_dims_rope=shape.rope_axes,
    )
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in flux.parameters():
            weight.normal_(std=0.2, generator=generator)
    return flux.eval()


def flux_name(name):
    module, _, leaf = name.rpartition(".")
    return f"{RENAMED.get(module, module)}.{leaf}"


def flux_output(flux, model, target, reference, sigma, prompt, mask, ids):
    text, pooled = model.connector(prompt, sigma, mask)
    out = flux(
        hidden_states=torch.cat([target, reference], dim=1),
        encoder_hidden_states=text,
        pooled_projections=pooled,
        timestep=sigma,
        txt_ids=ids[:TEXT],
        img_ids=ids[TEXT:],
        return_dict=False,
    )[0]
    return out[:, : target.shape[1]]


@torch.no_grad()
def test_our_weights_in_diffusers_give_the_same_velocity():
    shape = small_params()
    model, flux, inputs = small_model(shape), flux_of(shape), small_inputs(shape)
    state = model.state_dict()
    table = entries("diffusers", native_shapes(shape), shape)
    theirs = {flux_name(name): torch.cat([state[e.native][rows] for rows in e.rows]) for name, e in table.items()}
    flux.load_state_dict({name: tensor for name, tensor in theirs.items() if not name.startswith("connector.")})
    expected = flux_output(flux, model, *inputs)
    assert expected.abs().mean() > 0.1
    assert (model(*inputs) - expected).abs().max() <= 1e-5


@torch.no_grad()
def test_weights_of_diffusers_in_ours_give_the_same_velocity():
    shape = small_params()
    model, flux, inputs = small_model(shape), flux_of(shape), small_inputs(shape)
    theirs, own = flux.state_dict(), model.state_dict()
    for name, tensor in own.items():
        if not name.startswith("connector."):
            found = [theirs[flux_name(p.name)][p.at] for p in pieces("diffusers", name, tuple(tensor.shape), shape)]
            own[name] = torch.cat(found)
    model.load_state_dict(own)
    assert (model(*inputs) - flux_output(flux, model, *inputs)).abs().max() <= 1e-5


def test_the_core_needs_only_torch_numpy_einops_and_safetensors():
    heavy = ["pydantic", "PIL", "cv2", "scipy", "diffusers", "transformers", "click", "prefect", "ray", "pyarrow"]
    core = ["weights.checkpoints", "encoders.qwen", "encoders.latents", "encoders.prompts", "flow", "network.model"]
    code = f"import sys; sys.modules |= dict.fromkeys({heavy}); import {', '.join(f'training.{name}' for name in core)}"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True, timeout=120)


def test_base_has_the_published_size_and_names():
    model = build(params.base())
    state = model.state_dict()
    assert len(state) == 816
    assert sum(tensor.numel() for tensor in state.values()) == 12_427_800_384
    assert all(tensor.is_meta for tensor in state.values())
    published = {
        "double_blocks.18.img_attn.qkv.weight": (9216, 3072),
        "double_blocks.0.txt_attn.norm.key_norm.scale": (128,),
        "double_blocks.0.txt_mod.lin.weight": (18432, 3072),
        "single_blocks.37.linear1.weight": (21504, 3072),
        "single_blocks.37.linear2.weight": (3072, 15360),
        "single_blocks.0.norm.query_norm.scale": (128,),
        "connector.S.individual_token_refiner.blocks.1.self_attn_qkv.weight": (12288, 4096),
        "connector.S.t_embedder.mlp.2.weight": (4096, 4096),
        "connector.global_proj_out.weight": (768, 3584),
        "final_layer.adaLN_modulation.1.weight": (6144, 3072),
        "time_in.in_layer.weight": (3072, 256),
        "vector_in.in_layer.weight": (3072, 768),
        "img_in.weight": (3072, 64),
        "txt_in.weight": (3072, 4096),
    }
    assert {name: tuple(state[name].shape) for name in published} == published


def test_a_forward_pass_of_base_costs_what_was_counted():
    """169.2 TFLOP at 1024 squared with a reference: 2 x 4096 image tokens and 640 of text."""
    shape = params.base()
    model = build(shape)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        image, prompt = torch.zeros(1, 4096, 64), torch.zeros(1, 640, 3584)
        ids = packing.positions(shape, text=640, rows=64, columns=64, device="meta")
        out = model(image, image, torch.zeros(1), prompt, torch.ones(1, 640), ids)
    assert out.shape == (1, 4096, 64)
    assert counter.get_total_flops() / 1e12 == pytest.approx(169.2, abs=0.1)


def test_tiny_is_the_same_class_with_less_than_two_million_parameters():
    model = build(params.tiny())
    assert type(model) is type(build(small_params()))
    assert 1.5e6 < sum(weight.numel() for weight in model.parameters()) < 2e6


def test_a_neighbourhood_is_the_patch_three_times_as_wide():
    image = random(1, 3, 8, 12)
    ids = packing.positions(params.tiny(), text=0, rows=2, columns=3)
    near = neighbourhoods(packing.patchify(image, 4), ids)
    padded = np.pad(image[0].numpy(), ((0, 0), (4, 4), (4, 4)))
    window = padded[:, 4 : 4 + 12, 4 : 4 + 12]  # around the token of row 1 and column 1
    grid = near[0, 4].reshape(3, 3, 3, 4, 4)  # row and column of the neighbour, channel, row and column within it
    found = grid.permute(2, 0, 3, 1, 4).reshape(3, 12, 12)
    np.testing.assert_array_equal(found[:, :8], window[:, :8])
    np.testing.assert_array_equal(found[:, 8:], found[:, 4:8])  # below the last row the last is repeated


def test_rows_of_a_prompt_add_up_but_those_that_are_padding():
    rows = random(2, 3, 4)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    torch.testing.assert_close(maths.masked_sum(rows, mask), torch.stack([rows[0, :2].sum(dim=0), rows[1].sum(dim=0)]))


@torch.no_grad()
def test_untrained_tiny_points_at_the_reference():
    shape = params.tiny()
    model = build(shape, "cpu")
    initialise(model, seed=0)
    target, reference, sigma, prompt, mask, ids = small_inputs(shape)
    velocity = model(target, reference, sigma, prompt, mask, ids)
    torch.testing.assert_close(target - sigma[:, None, None] * velocity, reference)


def test_initial_weights_are_a_function_of_the_seed():
    first, again, other = (build(params.tiny(), "cpu") for _ in range(3))
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        initialise(model, seed)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.reference_in.weight, other.reference_in.weight)


@torch.no_grad()
@pytest.mark.parametrize("ids", params.REFERENCE_IDS)
def test_reference_convention_changes_the_velocity(ids):
    here, elsewhere = small_params(), small_params(reference_ids=ids)
    inputs = small_inputs(here)
    same = torch.equal(small_model(here)(*inputs), small_model(here)(*inputs[:-1], small_inputs(elsewhere)[-1]))
    assert same == (ids == "v1.1")


@pytest.mark.parametrize(
    ("ids", "first", "last"),
    [("v1.0", (0, 0, 0), (0, 1, 2)), ("v1.1", (1, 1, 1), (1, 2, 3)), ("realrestorer", (1, 0, 0), (1, 1, 2))],
)
def test_positions_follow_the_convention(ids, first, last):
    found = packing.positions(small_params(reference_ids=ids), text=TEXT, rows=ROWS, columns=COLUMNS)
    tokens = ROWS * COLUMNS
    assert found.shape == (TEXT + 2 * tokens, 3)
    assert not found[:TEXT].any()
    assert tuple(found[TEXT].tolist()) == (0, 0, 0)
    assert tuple(found[TEXT + tokens - 1].tolist()) == (0, ROWS - 1, COLUMNS - 1)
    assert tuple(found[-tokens].tolist()) == first
    assert tuple(found[-1].tolist()) == last


def test_an_added_reference_has_no_positions_of_its_own():
    assert len(packing.positions(params.tiny(), text=4, rows=3, columns=3)) == 4 + 9


def test_patches_are_ordered_channel_row_column():
    image = torch.arange(2 * 4 * 6, dtype=torch.float32).reshape(1, 2, 4, 6)
    tokens = packing.patchify(image, 2)
    assert tokens[0, 1].tolist() == [2, 3, 8, 9, 26, 27, 32, 33]
    assert torch.equal(packing.unpatchify(tokens, 2, rows=2), image)


def test_sides_that_patches_do_not_fill_are_refused():
    with pytest.raises(ValueError, match=r"multiples of 2, got 5 by 4"):
        packing.patchify(torch.zeros(1, 3, 5, 4), 2)


@torch.no_grad()
def test_padded_text_is_not_inert():
    shape = small_params()
    model = small_model(shape)
    target, reference, sigma, prompt, mask, ids = small_inputs(shape)
    trimmed = model(target, reference, sigma, prompt[:, :3], mask[:, :3], ids[2:])
    assert (model(target, reference, sigma, prompt, mask, ids) - trimmed)[1].abs().max() > 1e-3


@torch.no_grad()
def test_samples_of_a_batch_do_not_mix():
    shape = small_params()
    model, inputs = small_model(shape), small_inputs(shape)
    alone = model(*(tensor[1:] for tensor in inputs[:-1]), inputs[-1])
    assert (model(*inputs)[1:] - alone).abs().max() < 1e-5


def test_gradients_reach_every_parameter_but_the_mask_token():
    shape = small_params(scaled=True, guidance=True, mask_token=True)
    model = small_model(shape)
    model(*small_inputs(shape)).square().mean().backward()
    untouched = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert untouched == ["mask_token"]


def test_params_survive_json():
    for preset in (params.base(), params.tiny(), small_params(scaled=True)):
        assert params.from_json(params.to_json(preset)) == preset


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden": 33}, "hidden .33. must be divisible by heads"),
        ({"rope_axes": (4, 6, 8)}, "rope_axes must be even and sum to 16"),
        ({"rope_axes": (5, 5, 6)}, "rope_axes must be even"),
        ({"double_blocks": 10**6}, "blocks must be within"),
        ({"reference_ids": "v9"}, "reference_ids must be one of"),
        ({"predicts": "noise"}, "predicts 'noise'"),
        ({"context": 40}, "context is the connector's 32 wide, got 40"),
        ({"connector": None}, "without a connector context is pooled"),
        ({"reference": "filtered"}, "tokens of a filtered reference are 3 x 2n x 2n pixels, got 8 channels"),
        ({"reference": "filtered", "channels": 27}, "got 27 channels"),
        ({"reference": "filtered", "channels": 12}, "a filtered reference needs a glance: context must be 64"),
    ],
)
def test_params_that_do_not_fit_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(small_params(), **changes)


def test_frozen_prompts_are_box_and_muller_on_the_hash():
    digest = hashlib.shake_256(b"haze").digest(16 * 4 * 8)
    words = [int.from_bytes(digest[8 * n : 8 * n + 8], "little") for n in range(2 * 4 * 8)]
    radius, angle = ((words[5 + offset] >> 11) / 2**53 for offset in (0, 4 * 8))
    expected = math.sqrt(-2 * math.log(radius)) * math.cos(2 * math.pi * angle)
    assert float(prompts.frozen(["haze"], width=8)[0][0, 0, 5]) == pytest.approx(expected, abs=1e-6)


def test_frozen_prompts_are_normal_and_a_function_of_the_text():
    first, mask = prompts.frozen(["Please remove noise from the image.", "Please dehaze the image"], width=64)
    again, _ = prompts.frozen(["Please dehaze the image"], width=64)
    assert first.shape == (2, 4, 64)
    assert mask.all()
    assert torch.equal(first[1], again[0])
    assert not torch.equal(first[0], first[1])
    many, _ = prompts.frozen([str(number) for number in range(400)], width=64)
    assert abs(float(many.mean())) < 0.02
    assert abs(float(many.std()) - 1) < 0.02
