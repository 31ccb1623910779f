"""A restorer is opened from one small file or a whole bundle, and fits a card without restoring differently."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: install the `test` extra")
pytest.importorskip("transformers", reason="transformers is not installed: install the `test` extra")

from storage.errors import SettingsError
from tests.small_restorer import small_model, small_params
from tests.test_training_encoders import PREFIX, language_model, tokenizer
from tests.test_training_latents import SMALL
from training.encoders.prompts import GlancingPrompts
from training.flow import Guidance
from training.network import params
from training.network.model import build, initialise
from training.network.params import ConnectorParams
from training.restoring.offload import Memory, memory_for
from training.restoring.restorer import Placing, load, sampling_of
from training.restoring.tiles import Sampling, restore
from training.weights import checkpoints

SAMPLING = Sampling(steps=2, tile=32, overlap=8, batch=2)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Return a bundle as RealRestorer's: transformer, autoencoder, language model, tokenizer."""
    root = tmp_path_factory.mktemp("bundle") / "restorer"
    connector = ConnectorParams(width=32, hidden=32, heads=2, blocks=2, scaled=False)
    model = small_model(small_params(channels=16, connector=connector), std=0.1)
    checkpoints.save(model, checkpoints.Target(path=root, layout="bundle"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        diffusers.AutoencoderKL(**SMALL).save_pretrained(root / "vae")
    words = tokenizer()
    language_model(words).save_pretrained(root / "text_encoder")
    words.save_pretrained(root / "processor")
    return root


def opened(bundle, memory):
    return load(bundle, Placing(dtype="fp32", memory=memory, prefix=PREFIX))


def picture():
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def expected(bundle):
    return restore(opened(bundle, Memory()), picture(), "Please dehaze the image", SAMPLING)


def test_a_bundle_restores_every_pixel_of_any_size(expected):
    assert expected.shape == picture().shape
    assert not np.array_equal(expected, picture())


@pytest.mark.parametrize("gigabytes", [32, 24])
def test_a_smaller_card_restores_the_same(bundle, expected, gigabytes):
    found = restore(opened(bundle, memory_for(gigabytes)), picture(), "Please dehaze the image", SAMPLING)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_eight_bits_restore_nearly_the_same(bundle, expected):
    pytest.importorskip("torchao", reason="torchao is not installed: install PairForge's `train` extra")
    found = restore(opened(bundle, memory_for(16)), picture(), "Please dehaze the image", SAMPLING)
    assert np.abs(found.astype(int) - expected).mean() < 2


def test_a_bundle_without_its_prefix_is_refused(bundle):
    with pytest.raises(SettingsError, match="needs the text it was trained with before the image"):
        load(bundle, Placing())


def test_streamed_blocks_are_not_compiled(bundle):
    with pytest.raises(SettingsError, match="cannot be compiled; leave out --compile"):
        load(bundle, Placing(memory=memory_for(24), compiled=True, prefix=PREFIX))


def test_the_small_restorer_needs_nothing_else(tmp_path):
    model = build(params.tiny(), "cpu")
    initialise(model, seed=0)
    checkpoints.save(model, checkpoints.Target(path=tmp_path / "model.safetensors"))
    for place in (tmp_path, tmp_path / "model.safetensors"):
        restorer = load(place, Placing())
        assert isinstance(restorer.prompts, GlancingPrompts)
        assert np.array_equal(restore(restorer, picture(), "x", sampling_of(model.params)), picture())


def test_the_large_restorer_is_sampled_as_released():
    assert sampling_of(params.base()) == Sampling(steps=28, guidance=Guidance(scale=3.0), tile=1024, overlap=128)
    assert sampling_of(params.tiny()) == replace(Sampling(), steps=1, guidance=None, tile=64, overlap=16, batch=16)
