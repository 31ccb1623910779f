"""LPIPS through the public loader: the package's own arithmetic on the user's AlexNet, whose file is checked."""

from pathlib import Path

import numpy as np
import pytest
from skimage import data

from storage.errors import ShardError

torch = pytest.importorskip("torch")
pytest.importorskip("lpips")
safetensors_torch = pytest.importorskip("safetensors.torch")

from filters import load  # noqa: E402
from filters._contract import Sample  # noqa: E402
from filters._lpips import open_lpips  # noqa: E402

SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}


def alexnet():
    """The convolutions of torchvision's AlexNet, at random, named as in its published checkpoint."""
    torch.manual_seed(0)
    weights = {f"features.{n}.weight": torch.randn(s) / np.sqrt(np.prod(s[1:])) for n, s in SHAPES.items()}
    return weights | {f"features.{n}.bias": torch.randn(s[0]) * 0.1 for n, s in SHAPES.items()}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("lpips") / "alexnet.safetensors"
    safetensors_torch.save_file(alexnet() | {"classifier.6.bias": torch.zeros(1000)}, path)
    return path


@pytest.fixture(scope="module")
def distance(file):
    return open_lpips(file)


def crop(image):
    return np.ascontiguousarray(image[100:228, 100:260])


def test_equal_images_are_no_distance_apart(distance):
    assert distance(crop(data.astronaut()), crop(data.astronaut())) == 0


def test_distance_is_symmetric_and_grows_with_harm(distance):
    clean = crop(data.astronaut())
    noise = np.random.default_rng(0).normal(size=clean.shape)
    harmed = [np.clip(clean + sigma * noise, 0, 255).astype(np.uint8) for sigma in (4, 12, 36)]
    found = [distance(clean, image) for image in harmed]
    assert found == sorted(found)
    assert found[0] > 0
    assert distance(harmed[2], clean) == pytest.approx(found[2], rel=1e-5)


LAYERS = [(0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)]  # name, stride, padding
POOLED = {3, 6}  # preceded by max pooling


def activations(image, weights):
    """The unit-normalised activations of the five layers, for an image scaled as the package scales it."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    planes = ((torch.from_numpy((image / 127.5 - 1).astype(np.float32)) - shift) / scale).permute(2, 0, 1)[None]
    for layer, stride, padding in LAYERS:
        planes = torch.nn.functional.max_pool2d(planes, 3, 2) if layer in POOLED else planes
        kernel, bias = weights[f"features.{layer}.weight"], weights[f"features.{layer}.bias"]
        planes = torch.nn.functional.conv2d(planes, kernel, bias, stride, padding).relu()
        yield planes / (planes.norm(dim=1, keepdim=True) + 1e-10)


def test_distance_is_that_of_the_paper_on_the_same_network(distance):
    """Equation 1: squared differences of unit activations, weighed by channel, averaged over the plane."""
    import lpips

    fitted = torch.load(Path(lpips.__file__).parent / "weights/v0.1/alex.pth", map_location="cpu", weights_only=True)
    one, other = crop(data.astronaut()), crop(data.coffee())
    pairs = enumerate(zip(activations(one, alexnet()), activations(other, alexnet()), strict=True))
    terms = [(fitted[f"lin{index}.model.1.weight"] * (a - b) ** 2).sum(1).mean() for index, (a, b) in pairs]
    assert distance(one, other) == pytest.approx(float(sum(terms)), abs=1e-4)


def test_the_filter_scores_the_distance_of_a_pair(file, distance):
    one, other = crop(data.astronaut()), crop(data.coffee())
    measure = load("lpips")(weights=str(file)).open("cpu")
    (scores,) = measure([Sample(key="a", clean=one, degraded=other)])
    assert scores == {"distance": distance(one, other)}


@pytest.mark.parametrize(("found", "reason"), [(0.05, "looks_alike"), (0.3, ""), (0.9, "looks_unrelated")])
def test_the_filter_drops_what_lies_outside_its_limits(found, reason):
    limits = load("lpips")(min_distance=0.1, max_distance=0.8)
    assert limits.judge({"distance": found}).reason == reason
    assert load("lpips")().judge({"distance": found}).reason == ""


def test_images_of_two_sizes_are_refused(distance):
    with pytest.raises(ValueError, match="one size"):
        distance(crop(data.astronaut()), crop(data.astronaut())[1:])


def _without(weights):
    return {name: value for name, value in weights.items() if name != "features.3.bias"}


def _misshapen(weights):
    return weights | {"features.6.weight": torch.zeros(384, 64, 3, 3)}


@pytest.mark.parametrize(
    ("change", "said"),
    [(_without, "not found: features.3.bias"), (_misshapen, "another shape: features.6.weight")],
)
def test_another_networks_checkpoint_ends_in_a_sentence(tmp_path, change, said):
    path = tmp_path / "other.safetensors"
    safetensors_torch.save_file(change(alexnet()), path)
    with pytest.raises(ShardError, match=said):
        open_lpips(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04cos\nsystem\n.", b"\xff" * 400])
def test_what_is_no_checkpoint_ends_in_a_sentence(tmp_path, content):
    path = tmp_path / "alexnet.safetensors"
    path.write_bytes(content)
    with pytest.raises(ShardError, match=f"{path} is not a whole safetensors file"):
        open_lpips(path)
