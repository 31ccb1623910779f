"""`pairforge restore`: what is written where, what is said, and which mistakes end in one sentence."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import json

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from degradations.pairs.recipes import draw
from degradations.pairs.render import render
from flows.__main__ import run
from storage.records import Scene
from tasks.decode import decode
from tests.small_restorer import small_model
from training.network import params
from training.network.model import build, initialise
from training.weights import checkpoints


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Return weights that change nothing."""
    model = build(params.tiny(), "cpu")
    initialise(model, seed=0)
    file = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    checkpoints.save(model, checkpoints.Target(path=file))
    return file


@pytest.fixture
def photograph(tmp_path):
    """Return a JPEG that stands on its side, as cameras write them."""
    picture = Image.fromarray(skimage.data.astronaut()[:90, :141])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "photo.jpg", quality=95, exif=exif)
    return tmp_path / "photo.jpg"


def pixels(file):
    return cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)


def test_weights_that_change_nothing_write_the_upright_photograph(photograph, weights, tmp_path, capsys):
    out = tmp_path / "out.png"
    assert run(["restore", str(photograph), "--task", "haze", "--weights", str(weights), "-o", str(out)]) == 0
    assert pixels(out).shape == (141, 90, 3)
    assert np.array_equal(pixels(out), decode(photograph.read_bytes()).image)
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}: haze, 90 x 141, ")
    assert "restoring photo.jpg, haze" in said.err


def test_another_seed_gives_other_pixels_and_the_same_seed_the_same(photograph, tmp_path):
    model = small_model(params.tiny(), std=0.05)
    checkpoints.save(model, checkpoints.Target(path=tmp_path / "random.safetensors"))
    command = ["restore", str(photograph), "--task", "rain", "--weights", str(tmp_path / "random.safetensors")]
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run([*command, "--seed", seed, "-o", str(tmp_path / f"{name}.png")]) == 0
    first, again, other = (pixels(tmp_path / f"{name}.png") for name in "abc")
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_auto_names_the_degradation_and_its_probability(weights, tmp_path, capsys):
    scene = Scene(key="x", image=skimage.data.chelsea()[:256, :256])
    noisy = render(scene, draw("noise", 0.95, scene, seed=1)).degraded
    cv2.imwrite(str(tmp_path / "noisy.png"), cv2.cvtColor(noisy, cv2.COLOR_RGB2BGR))
    arguments = ["restore", str(tmp_path / "noisy.png"), "--weights", str(weights), "-o", str(tmp_path / "out.png")]
    assert run([*arguments, "--json"]) == 0
    [item] = json.loads(capsys.readouterr().out)["restored"]
    assert item["task"] == "noise"
    assert item["probability"] > 0.5


def test_a_folder_keeps_its_shape_and_broken_files_are_told(photograph, weights, tmp_path, capsys):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "one.jpg").write_bytes(photograph.read_bytes())
    (folder / "two.JPG").write_bytes(photograph.read_bytes())
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (folder / "notes.txt").write_text("not a photograph")
    out, page = tmp_path / "out", tmp_path / "page.html"
    arguments = ["restore", str(folder), "--task", "blur", "--weights", str(weights), "-o", str(out)]
    assert run([*arguments, "--compare", str(page), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert sorted(file.relative_to(out).as_posix() for file in out.rglob("*.png")) == ["deep/one.png", "two.png"]
    assert list(result["failed"]) == [str(folder / "broken.png")]
    assert page.read_text(encoding="utf-8").count('class="compare large"') == 2


def test_the_page_escapes_names_and_loads_nothing(photograph, weights, tmp_path):
    hostile = photograph.rename(tmp_path / "<img onerror=alert(1)>.jpg")
    page = tmp_path / "page.html"
    arguments = ["restore", str(hostile), "--task", "blur", "--weights", str(weights), "-o", str(tmp_path / "o.png")]
    assert run([*arguments, "--compare", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "<img onerror" not in text
    assert "&lt;img onerror=alert(1)&gt;.jpg" in text
    assert "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{photo}", "-o", "{dir}/o.png"], "restore needs weights, named by --weights: train the small"),
        (["{photo}", "-o", "{dir}/o.png", "--weights", "{dir}/none"], "none does not exist; restore needs weights"),
        (["{photo}", "-o", "{dir}/o.png", "--weights", "{photo}"], "is not a whole safetensors file"),
        (["{photo}", "-o", "{photo}", "--weights", "{weights}"], "would be overwritten; name another place with -o"),
        (["{photo}", "-o", "{dir}/o.gif", "--weights", "{weights}"], "must end in .png, .webp or .jpg"),
        (["{dir}/none.jpg", "-o", "{dir}/o.png", "--weights", "{weights}"], "none.jpg does not exist"),
        (["{weights}", "-o", "{dir}/o.png", "--weights", "{weights}"], "cannot be used (not_an_image)"),
        (
            ["{photo}", "-o", "{dir}/o.png", "--task", "dirt", "--weights", "{weights}"],
            "'dirt' is none; there",
        ),
        (["{photo}", "-o", "{dir}/o.png", "--weights", "{weights}", "--dtype", "bf16"], "bf16 is too coarse"),
        (
            ["{photo}", "-o", "{dir}/o.png", "--weights", "{weights}", "--tile", "16"],
            "overlap must be within",
        ),
        (["{photo}", "-o", "{dir}/o.png", "--weights", "{weights}", "--compare", "x.txt"], "must end in .html"),
        (["{empty}", "-o", "{dir}/out", "--weights", "{weights}"], "holds no photograph"),
    ],
)
def test_mistakes_end_in_one_sentence(photograph, weights, tmp_path, capsys, arguments, sentence):
    (tmp_path / "empty").mkdir()
    known = {"photo": photograph, "weights": weights, "dir": tmp_path, "empty": tmp_path / "empty"}
    assert run(["restore", *(argument.format(**known) for argument in arguments)]) in (1, 2)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ")
    assert sentence in said


def test_a_transformer_alone_is_no_bundle(photograph, tmp_path, capsys):
    checkpoints.save(small_model(), checkpoints.Target(path=tmp_path / "bundle", layout="bundle"))
    arguments = ["restore", str(photograph), "-o", str(tmp_path / "o.png"), "--weights", str(tmp_path / "bundle")]
    assert run(arguments) == 2
    assert "holds a transformer without text_encoder, processor and vae" in capsys.readouterr().err
