"""The large restorer end to end, in its published formats with tiny weights: a bundle trains, converts and restores."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import json
import math
import shutil

import cv2
import numpy as np
import pytest
import skimage.data

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: install the `test` extra")
pytest.importorskip("transformers", reason="transformers is not installed: install the `test` extra")

from flows.__main__ import run
from tests.small_restorer import small_model, small_params
from tests.small_training import dataset, lines, settings, train, weights
from tests.test_training_encoders import PREFIX, language_model, tokenizer
from training.encoders.latents import FLUX_VAE
from training.encoders.qwen import load_qwen
from training.network import packing
from training.network.params import ConnectorParams
from training.weights import checkpoints

# Flux's autoencoder, narrow: four levels and 16 latent channels, so 16 pixels a side and 64 channels to a token.
NARROW = FLUX_VAE | {"block_out_channels": (4, 4, 8, 8), "norm_num_groups": 2, "layers_per_block": 1}
PROMPT = "Please dehaze the image"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Write transformer, autoencoder, language model and tokenizer as RealRestorer's bundle has them."""
    root = tmp_path_factory.mktemp("bundle") / "restorer"
    connector = ConnectorParams(width=32, hidden=32, heads=2, blocks=2, scaled=False)
    model = small_model(small_params(channels=64, connector=connector), std=0.1)
    checkpoints.save(model, checkpoints.Target(path=root, layout="bundle"))
    with torch.random.fork_rng():
        torch.manual_seed(0)  # diffusers draws from the global generator
        diffusers.AutoencoderKL(**NARROW).save_pretrained(root / "vae")
    words = tokenizer()
    language_model(words).save_pretrained(root / "text_encoder")
    words.save_pretrained(root / "processor")
    (root.parent / "prefix.txt").write_text(PREFIX)
    return root


@pytest.fixture(scope="module")
def photograph(bundle):
    file = bundle.parent / "photo.png"
    cv2.imwrite(str(file), skimage.data.astronaut()[40:80, 200:248, ::-1])
    return file


def restored(bundle, photograph, *options):
    """Run `pairforge restore` and return the picture, RGB."""
    out = bundle.parent / "out.png"
    arguments = [
        str(photograph),
        "-o",
        str(out),
        "--weights",
        str(bundle),
        "--prefix",
        str(bundle.parent / "prefix.txt"),
    ]
    assert run(["restore", *arguments, "--task", "haze", "--dtype", "fp32", *options]) == 0
    return cv2.imread(str(out))[..., ::-1].astype(int)


@torch.no_grad()
def as_released(bundle, image, *, seed, steps):
    """Return `image` restored step by step as released, with diffusers' autoencoder and schedule."""
    vae = diffusers.AutoencoderKL.from_pretrained(bundle / "vae")
    model = checkpoints.load(bundle).eval()
    rows, columns = (side // 16 for side in image.shape[:2])
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents = (vae.encode(pixels).latent_dist.mode() - 0.1159) * 0.3611
    reference = packed(latents)
    x = packed_noise(seed, rows, columns)
    encoder = load_qwen(bundle, PREFIX, dtype=torch.float32)
    ids = packing.positions(model.params, text=640, rows=rows, columns=columns)
    schedule = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    mu = 0.5 + (rows * columns - 256) * (1.15 - 0.5) / (4096 - 256)
    schedule.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=mu)
    for level in schedule.timesteps:
        sigma = level[None] / 1000
        with_prompt, without = (
            model(x, reference, sigma, *encoder.encode([image], [text]), ids) for text in (PROMPT, "")
        )
        difference = with_prompt - without
        if sigma > 0.93:
            difference = difference / difference.norm(dim=-1, keepdim=True).pow(0.4).clamp(min=1)
        x = schedule.step(without + 3.0 * difference, level, x, return_dict=False)[0]
    found = x.reshape(1, rows, columns, 16, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(1, 16, 2 * rows, 2 * columns)
    out = vae.decode(found / 0.3611 + 0.1159).sample.clamp(-1, 1)
    return ((out[0].permute(1, 2, 0) + 1) * 127.5).round().int().numpy()


def packed(latents):
    """Return tokens of 2 x 2 latent pixels, channels first."""
    _, channels, height, width = latents.shape
    cut = latents.reshape(1, channels, height // 2, 2, width // 2, 2)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(1, height * width // 4, 4 * channels)


def packed_noise(seed, rows, columns):
    field = torch.randn(64, rows, columns, generator=torch.Generator().manual_seed(seed))
    return field.permute(1, 2, 0).reshape(1, rows * columns, 64)


def test_the_command_restores_as_the_released_pipeline(bundle, photograph, capsys):
    found = restored(bundle, photograph, "--seed", "3", "--json")
    printed = capsys.readouterr()
    told = json.loads(printed.out)["sampling"]
    assert "LOAD REPORT" not in printed.err
    assert (told["steps"], told["guidance"]["scale"], told["seed"]) == (28, 3.0, 3)
    image = np.ascontiguousarray(cv2.imread(str(photograph))[..., ::-1])
    whole = np.pad(image, ((0, 8), (0, 0), (0, 0)), mode="symmetric")  # ours fills up to whole tokens
    expected = as_released(bundle, whole, seed=3, steps=28)[:40]
    assert found.shape == image.shape
    assert np.abs(expected - image).mean() > 5  # random weights: it restores nothing, but changes much
    assert np.abs(found - expected).max() <= 1


TILED = ("--steps", "2", "--tile", "32", "--overlap", "16", "--seed", "3", "--batch", "2")


@pytest.fixture(scope="module")
def in_tiles(bundle, photograph):
    return restored(bundle, photograph, *TILED)


@pytest.mark.parametrize(("gigabytes", "least"), [(32, 1), (24, 1), (16, 40)])
def test_a_smaller_card_restores_the_same_in_tiles(bundle, photograph, in_tiles, gigabytes, least):
    found = restored(bundle, photograph, *TILED, "--memory", str(gigabytes))
    assert found.shape == (40, 48, 3)
    assert np.abs(found - in_tiles).max() <= least


def stage(bundle, name):
    """Return the settings of a stage as RealRestorer's second, on the bundle."""
    content = {
        "steps": 3,
        "batch": 4,
        "micro": 2,
        "weighting": "none",
        "data": {"size": 32, "square": False, "scale": "cover", "chinese": 0.5, "augmented": 0.5, "dropout": 0.25},
        "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.01, "average": 0.0},
        "levels": {"kind": "shifted-logit-normal"},
        "validation": {"pairs": 1, "samples": 1, "steps": 2, "guidance": 3.0},
        "run": {"rhythm": {"log": 1, "checkpoint": 0, "validate": 3}},
    }
    model = {"weights": str(bundle), "encoders": str(bundle), "prefix": str(bundle.parent / "prefix.txt")}
    return settings(bundle.parent, name, **content) | {"model": {**model, "frozen": 0.34, "checkpointed": 2}}


@pytest.fixture(scope="module")
def trained(bundle):
    dataset(bundle.parent)
    return train(stage(bundle, "sft")).weights


def test_a_bundle_trains_on_latents_and_the_language_models_rows(bundle, trained):
    numbers = lines(trained.parent)
    assert all(math.isfinite(value) for line in numbers for value in line.values())
    assert {"val/loss/haze", "val/psnr/noise"} <= numbers[0].keys()
    before = {name.removeprefix("inner_model."): tensor for name, tensor in weights(bundle / "transformer").items()}
    after = weights(trained)
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert {"double_blocks", "single_blocks", "connector", "img_in", "final_layer"} <= changed
    frozen = [name for name in after if name.startswith("single_blocks.0.")]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)


def test_what_was_trained_becomes_a_bundle_that_restores(bundle, trained, photograph, tmp_path):
    target = tmp_path / "restorer"
    assert run(["convert", str(trained), str(target), "--to", "bundle"]) == 0
    for part in ("vae", "text_encoder", "processor"):
        shutil.copytree(bundle / part, target / part)
    (tmp_path / "prefix.txt").write_text(PREFIX)
    options = ("--steps", "2", "--seed", "3")
    found = restored(target, photograph, *options)
    assert np.abs(found - restored(bundle, photograph, *options)).max() > 0
