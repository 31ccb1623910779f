"""What is trained, how it is laid out, and what it is forecast to cost."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from tests.small_restorer import small_inputs, small_model, small_params
from training.loop import forecast, states
from training.loop.forecast import Tokens
from training.loop.optimizers import Optimization
from training.loop.sharding import Layout, freeze_first, laid_out
from training.loop.states import State
from training.network.params import base
from training.weights.checkpoints import load
from training.weights.export import export
from training.weights.lora import adapt

FULL = Tokens(text=640, target=4096)


def gradients(model):
    inputs = small_inputs(model.params)
    model(*inputs).square().mean().backward()
    return {name: weight.grad for name, weight in states.names(model).items()}


@pytest.mark.parametrize("checkpointed", [1, 5])
def test_recomputed_blocks_change_no_gradient(checkpointed):
    plain, recomputed = small_model(), small_model()
    laid_out(recomputed, Layout(checkpointed=checkpointed), sharded=False)
    expected, found = gradients(plain), gradients(recomputed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected if expected[name] is not None)


@pytest.mark.filterwarnings("ignore")  # the compiler's own, of many kinds
def test_compiled_blocks_are_one_graph_each_and_change_no_gradient():
    plain, compiled = small_model(), small_model()
    # Without code generation, which takes minutes on a CPU; capturing, and recomputation within it, are the same.
    laid_out(compiled, Layout(checkpointed=2, compiled=True, backend="aot_eager"), sharded=False)
    expected, found = gradients(plain), gradients(compiled)
    for name in expected:
        if expected[name] is not None:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)


def test_recomputed_blocks_save_less():
    saved = []
    for checkpointed in (0, 2, 5):
        model = small_model()
        laid_out(model, Layout(checkpointed=checkpointed), sharded=False)
        sizes = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(*small_inputs(model.params))
        saved.append(sum(sizes.values()))
    assert saved[0] > saved[1] > saved[2]


def test_the_first_quarter_of_single_blocks_is_frozen():
    model = small_model(small_params(single_blocks=9))
    assert freeze_first(model, 0.25) == 2
    frozen = {name.split(".")[1] for name, weight in model.named_parameters() if not weight.requires_grad}
    assert frozen == {"0", "1"}
    assert int(0.25 * base().single_blocks) == 9  # of the full model: 1.27 B of 12.4 B parameters


def test_adapters_begin_as_nothing_and_are_all_that_is_trained():
    pytest.importorskip("peft", reason="peft is not installed: install PairForge's `train` extra")
    plain, adapted = small_model(), small_model()
    adapt(adapted, rank=2, alpha=4, seed=0)
    inputs = small_inputs(plain.params)
    torch.testing.assert_close(adapted(*inputs), plain(*inputs))
    trained = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert all("lora_" in name for name in trained)
    assert {name.split(".lora_")[0] for name in trained} >= {"double_blocks.0.img_attn.qkv", "single_blocks.2.linear2"}


def test_an_adapted_model_is_exported_as_a_plain_one(tmp_path):
    pytest.importorskip("peft", reason="peft is not installed: install PairForge's `train` extra")
    model = small_model()
    adapt(model, rank=2, alpha=4, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.1, generator=generator)
    state = State(weights=states.names(model), optimizer=None, average=None, step=1, memory={})
    export(model, state, tmp_path / "model.safetensors")
    inputs = small_inputs(model.params)
    plain = load(tmp_path / "model.safetensors")
    torch.testing.assert_close(plain(*inputs), model(*inputs), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain(*inputs), small_model()(*inputs), atol=1e-2)


@pytest.mark.parametrize(
    ("target", "reference", "expected"), [(4096, "tokens", 169.2), (2304, "tokens", 87.6), (1024, "tokens", 40.3)]
)
def test_forward_operations_are_those_that_were_counted(target, reference, expected):
    params = dataclasses.replace(base(), reference=reference)
    assert forecast.forward_flops(params, Tokens(text=640, target=target)) / 1e12 == pytest.approx(expected, rel=0.005)


def test_a_step_costs_three_forward_passes_and_one_more_recomputed():
    assert forecast.useful_flops(base(), FULL, batch=1) / 1e12 == pytest.approx(507.7, rel=0.01)
    assert forecast.step_flops(base(), FULL, batch=1, checkpointed=57) / 1e12 == pytest.approx(677, rel=0.01)


@pytest.mark.parametrize(
    ("weights", "kept", "total", "per_gpu"),
    [("fp32", "fp32", 185, 23.1), ("fp32", "8bit", 116, 14.6), ("bf16-stochastic", "8bit", 93, 11.7)],
)
def test_state_memory_is_that_of_the_table(weights, kept, total, per_gpu):
    optimization = Optimization(learning_rate=1e-5, weights=weights, states=kept)
    count = 12_428_000_000
    assert forecast.state_bytes(optimization, count, count) / 2**30 == pytest.approx(total, rel=0.01)
    assert forecast.state_bytes(optimization, count, count) / 8 / 2**30 == pytest.approx(per_gpu, rel=0.02)


@pytest.mark.parametrize(("checkpointed", "gigabytes"), [(0, 79), (57, 3.1 + 1.4), (56, 3.1 + 1.4 + 1.3)])
def test_activation_memory_is_that_which_was_measured(checkpointed, gigabytes):
    found = forecast.activation_bytes(base(), FULL, samples=1, checkpointed=checkpointed, width=2)
    assert found / 1e9 == pytest.approx(gigabytes, rel=0.03)


def test_a_forecast_of_the_full_model_reads_no_weights():
    made = forecast.forecast(
        base(), Optimization(learning_rate=1e-5), FULL, batch=16, micro=1, world=8, checkpointed=29, width=2
    )
    assert made.parameters == pytest.approx(12.428e9, rel=1e-3)
    assert made.useful / 1e15 == pytest.approx(8.12, rel=0.01)
    assert "12,4" in made.lines()[0]
