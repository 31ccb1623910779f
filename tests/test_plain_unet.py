"""The plain U-Net that the embedded restorer is measured against: as large, fed the same, in its place."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from flows.training_settings import read_training
from storage.samples import decode_image
from tests.benchmarks import train_unet
from tests.benchmarks.plain_unet import PlainUNet, count, load_unet, sized
from tests.small_dataset import drawn
from tests.small_training import dataset, settings, train
from training.encoders.latents import PixelLatents
from training.encoders.prompts import GlancingPrompts
from training.loop.validation import strip
from training.network import params
from training.network.model import build
from training.restoring.restorer import sampling_of
from training.restoring.tiles import Restorer, restore


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unet")
    dataset(folder)
    (folder / "train.json").write_text(json.dumps(settings(folder, "restorer", data={"repeats": 2})))
    return folder


def placed(model):
    return Restorer(model=model, latents=PixelLatents(8), prompts=GlancingPrompts())


@pytest.mark.parametrize("hidden", [96, 192])
def test_it_has_the_restorers_number_of_parameters(hidden):
    shape = replace(params.tiny(), hidden=hidden, rope_axes=(hidden // 2 - 16, 8, 8))
    wanted = count(build(shape, "meta"))
    assert count(sized(shape, 320, wanted)) == pytest.approx(wanted, rel=train_unet.CLOSE)


def test_untrained_it_changes_nothing():
    image = drawn(0, (70, 90))
    found = restore(placed(PlainUNet(params.tiny(), (8, 12, 16, 20), 320)), image, "x", sampling_of(params.tiny()))
    assert np.array_equal(found, image)


def test_it_is_fed_the_crops_of_the_restorer(root):
    options = read_training(root / "train.json")
    _, batches = train_unet.fed(options)
    first = next(batches)
    batches.close()
    train(json.loads((root / "train.json").read_text()) | {"steps": 1})
    shown = decode_image((root / "restorer/samples/batch-000000.png").read_bytes())
    assert np.array_equal(strip(first.examples[:9]), shown)


@pytest.mark.parametrize("loss", train_unet.LOSSES)
def test_steps_lower_its_loss_and_what_it_learnt_is_read_back(root, loss, capsys):
    out = root / f"{loss}.safetensors"
    train_unet.main(
        [str(root / "train.json"), "-o", str(out), "--steps", "20", "--loss", loss, "--warmup", "2", "--average", "0.5"]
    )
    told = json.loads(capsys.readouterr().out)
    assert told["steps"] == 20
    assert told["last_loss"] < told["first_loss"]
    image = drawn(1, (30, 50))
    found = restore(placed(load_unet(out)), image, "Remove the haze.", sampling_of(params.tiny()))
    assert not np.array_equal(found, image)
