"""Memory paths change where weights lie, not what comes out."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from tests.small_restorer import small_inputs, small_model
from training.restoring.offload import Memory, VisitingPrompts, memory_for, store_in_eight_bits, stream_blocks


class Hall(torch.nn.Module):
    """A language model that notes where it is moved."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.moves = []

    def to(self, device):
        self.moves.append(device)
        return self


class Reader:
    """A prompt encoder that notes where its model was when it read."""

    def __init__(self, fails=False):
        self.model, self.fails, self.read_at = Hall(), fails, []

    def encode(self, images, prompts):
        self.read_at.append(self.model.moves[-1])
        if self.fails:
            raise ValueError("no")
        return torch.zeros(len(images), 1, 4), torch.ones(len(images), 1)


@pytest.mark.parametrize(
    ("gigabytes", "memory"),
    [
        (80, Memory()),
        (48, Memory()),
        (32, Memory(encoder_visits=True)),
        (24, Memory(encoder_visits=True, blocks_visit=True, tiled_vae=True)),
        (16, Memory(encoder_visits=True, blocks_visit=True, tiled_vae=True, eight_bit=True)),
    ],
)
def test_smaller_cards_take_more_measures(gigabytes, memory):
    assert memory_for(gigabytes) == memory


@torch.no_grad()
def test_streamed_blocks_give_the_same_velocity():
    model, inputs = small_model(), small_inputs(small_model().params)
    expected = model(*inputs)
    stream_blocks(model, "cpu")
    for _ in range(2):
        assert torch.equal(model(*inputs), expected)


def test_a_streamed_block_has_its_weights_on_the_device_only_while_it_runs():
    model, seen = small_model(), []
    block = model.single_blocks[0]
    home = block.linear1.weight.data_ptr()
    stream_blocks(model, "meta")  # nothing can be computed there, but weights can lie there
    block.linear1.register_forward_hook(lambda *_: seen.append(block.linear1.weight.device.type))
    with torch.no_grad(), torch.device("meta"):
        tokens, rope = torch.zeros(1, 3, 32), torch.zeros(2, 3, 8)
        block(tokens, torch.zeros(1, 32), rope)
    assert seen == ["meta"]
    assert model.img_in.weight.device.type == "meta"
    assert block.linear1.weight.device.type == "cpu"
    assert block.linear1.weight.data_ptr() == home


@pytest.mark.parametrize("fails", [False, True])
def test_a_visiting_encoder_leaves_the_card_even_when_it_fails(fails):
    reader = Reader(fails)
    visiting = VisitingPrompts(reader, "meta")
    try:
        visiting.encode([np.zeros((2, 2, 3), np.uint8)], ["x"])
    except ValueError:
        assert fails
    assert reader.read_at == ["meta"]
    assert reader.model.moves == ["meta", "cpu"]


def test_eight_bits_keep_a_linear_layer_within_one_part_in_a_hundred():
    pytest.importorskip("torchao", reason="torchao is not installed: install PairForge's `train` extra")
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(256, 256))
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(generator=generator)
        x = torch.randn(8, 256, generator=generator)
        expected = model(x)
        store_in_eight_bits(model)
        error = (model(x) - expected).square().mean() / expected.square().mean()
    assert 0 < error < 1e-4
