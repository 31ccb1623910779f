"""The optimizer: rates, refusals, and weights in bfloat16 that learn all the same."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from torch import nn

from training.loop.averages import Average
from training.loop.optimizers import Optimization, clip, make_optimizer, rate, set_rate
from training.loop.stochastic import StochasticAdamW, rounded


def weight(value, dtype=torch.float32, size=4000):
    return nn.Parameter(torch.full((size,), value, dtype=dtype))


def moved(parameter, optimization, *, steps, gradient=1.0):
    """Return how far AdamW moves a weight, on average, under one gradient."""
    start = parameter.detach().double().mean()
    optimizer = make_optimizer([parameter], optimization, seed=0)
    for _ in range(steps):
        parameter.grad = torch.full_like(parameter, gradient, dtype=torch.float32)
        optimizer.step()
    return float(start - parameter.detach().double().mean())


@pytest.mark.parametrize(
    ("step", "constant", "cosine"),
    [(0, 1e-7, 1e-7), (49, 5e-6, 5e-6), (99, 1e-5, 1e-5), (100, 1e-5, 1e-5), (800, 1e-5, 5e-6), (1500, 1e-5, 0.0)],
)
def test_rates_warm_up_and_then_stay_or_fall(step, constant, cosine):
    for schedule, expected in (("constant", constant), ("cosine", cosine)):
        made = Optimization(learning_rate=1e-5, schedule=schedule, warmup=100)
        assert rate(made, step, 1500) == pytest.approx(expected, abs=1e-12)


def test_plain_bfloat16_is_refused_at_the_published_rate():
    with pytest.raises(ValueError, match="rounding swallows most of each step; choose bf16-stochastic or fp32"):
        Optimization(learning_rate=1e-5, weights="bf16")


@pytest.mark.parametrize("start", [0.02, 0.05])
def test_rounding_to_nearest_would_lose_most_of_the_update(start):
    kept = weight(start, torch.bfloat16)
    for _ in range(200):  # what the refused setting would do: unit steps of Adam
        kept.data = (kept.data.float() - 1e-5).bfloat16()
    assert float((start - kept.detach().float()).mean()) < 0.2 * 200e-5


@pytest.mark.parametrize("start", [0.02, 0.05, -0.3])
def test_stochastic_rounding_keeps_the_update(start):
    optimization = Optimization(learning_rate=1e-5, weights="bf16-stochastic")
    assert moved(weight(start, torch.bfloat16), optimization, steps=200) == pytest.approx(200e-5, rel=0.03)


def test_stochastic_rounding_is_right_on_average_and_never_off_by_more_than_one():
    exact = torch.linspace(-3, 3, 1001)
    many = torch.stack([rounded(exact, torch.Generator().manual_seed(seed)).float() for seed in range(500)])
    nearest = exact.bfloat16().float()
    distance = 2 ** (torch.floor(torch.log2(exact.abs().clamp_min(1e-9))) - 7)
    assert ((many - exact).abs() <= distance).all()
    assert ((many.mean(dim=0) - exact).abs() < distance / 8).all()
    assert torch.equal(rounded(nearest, torch.Generator()).float(), nearest)  # what needs no rounding keeps its value


def test_infinities_stay_infinite():
    values = torch.tensor([float("inf"), -float("inf")])
    assert rounded(values, torch.Generator()).float().tolist() == values.tolist()


def test_with_float32_weights_it_is_adamw():
    generator = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(50, generator=generator), torch.randn(7, 50, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    for parameter, optimizer in (
        (ours, StochasticAdamW([ours], seed=0, **options)),
        (theirs, torch.optim.AdamW([theirs], **options)),
    ):
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_chance_is_a_function_of_seed_and_step():
    found = [weight(0.02, torch.bfloat16, size=300) for _ in range(3)]
    for parameter, seed in zip(found, (1, 1, 2), strict=True):
        parameter.grad = torch.ones(300, dtype=torch.bfloat16)
        StochasticAdamW([parameter], seed=seed, lr=1e-5, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0).step()
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_gradients_of_bfloat16_weights_add_up_in_float32():
    parameter = weight(1.0, torch.bfloat16)
    make_optimizer([parameter], Optimization(learning_rate=1e-5, weights="bf16-stochastic"), seed=0)
    for scale in (1.0, 2**-10):  # in bfloat16 the second would vanish beside the first
        (parameter * scale).sum().backward()
    assert parameter.grad.dtype == torch.float32
    assert float(parameter.grad[0]) == 1 + 2**-10


def test_clipping_leaves_the_direction():
    a, b = weight(0.0, size=1), weight(0.0, size=1)
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert float(clip([a, b], 1.0)) == pytest.approx(5)
    assert [float(a.grad), float(b.grad)] == pytest.approx([0.6, 0.8], abs=1e-5)


def test_an_average_warms_up_and_then_decays():
    parameter = weight(0.0, size=1)
    average, expected = Average([("w", parameter)], 0.5), 0.0
    for step, value in enumerate([1.0, 1.0, 2.0, 0.0] * 5):
        parameter.data.fill_(value)
        average.update({"w": parameter}, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert float(average.tensors["w"]) == pytest.approx(expected)
    with average.swapped({"w": parameter}):
        assert parameter.item() == pytest.approx(expected)
    assert parameter.item() == 0.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torchao's and the compiler's own
def test_eight_bit_moments_learn_as_much():
    pytest.importorskip("torchao", reason="torchao is not installed: install PairForge's `train` extra")
    optimization = Optimization(learning_rate=1e-5, weights="bf16-stochastic", states="8bit")
    with torch.compiler.set_stance("force_eager"), torch.random.fork_rng():
        torch.manual_seed(0)
        moved_by = moved(weight(0.02, torch.bfloat16, size=8192), optimization, steps=20)
    assert moved_by == pytest.approx(20e-5, rel=0.15)


def made_orthogonal(matrix):
    """Return the nearest matrix with singular values of 1."""
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    return left @ right


def test_muon_moves_every_direction_of_a_matrix_alike():
    """Whatever the singular values of a gradient, those of the step lie about 1, scaled to the size of AdamW's."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(32, 48, generator=generator) @ torch.diag(torch.logspace(0, -1.5, 48))
    matrix = nn.Parameter(torch.zeros(32, 48))
    matrix.grad = gradient.clone()
    make_optimizer([matrix], Optimization(learning_rate=1e-2, kind="muon"), seed=0).step()
    values = torch.linalg.svdvals(matrix.detach()) / (1e-2 * 0.2 * 48**0.5)
    assert 0.5 < values.min() < values.max() < 1.4  # the quintic iteration ends about 1, not at it
    step, wanted = -matrix.detach().double().flatten(), made_orthogonal(gradient).flatten()
    assert torch.dot(step, wanted) / (step.norm() * wanted.norm()) > 0.95


def test_muon_leaves_vectors_to_adamw():
    matrix, ours, theirs = nn.Parameter(torch.ones(4, 4)), weight(1.0, size=4), weight(1.0, size=4)
    optimization = Optimization(learning_rate=1e-2, kind="muon", weight_decay=0.1)
    optimizers = [make_optimizer([matrix, ours], optimization, seed=0)]
    optimizers.append(make_optimizer([theirs], Optimization(learning_rate=1e-2, weight_decay=0.1), seed=0))
    for rate_now in (1e-2, 5e-3):
        for parameter in (matrix, ours, theirs):
            parameter.grad = torch.linspace(1, 2, parameter.numel()).view_as(parameter)
        for optimizer in optimizers:
            set_rate(optimizer, rate_now)
            optimizer.step()
    assert torch.equal(ours, theirs)
    assert set(optimizers[0].state) == {matrix, ours}


def test_muon_in_bfloat16_is_refused():
    with pytest.raises(ValueError, match="muon keeps weights and states in fp32"):
        Optimization(learning_rate=1e-2, kind="muon", states="8bit")
