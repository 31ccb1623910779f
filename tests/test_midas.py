"""Depth by a network: as transformers' own pipeline on the same checkpoint, and what is made of it."""

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from flows.settings import parse_settings
from storage import samples
from storage.errors import SettingsError, ShardError
from storage.ledger import read_table
from storage.shards import read_member
from tasks import annotate
from tasks.annotators import midas, open_annotator
from tasks.annotators.midas import Estimator, Options, inverse_depth
from tasks.retries import Retries
from tests.test_clean import Bucket, png

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PHOTOGRAPH = skimage.data.astronaut()[:120, :160]
VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 64}
NECK = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16}


def dpt():
    return transformers.DPTConfig(**VIT, **NECK, backbone_out_indices=[0, 1, 2, 3])


def hybrid():
    neck = {"neck_hidden_sizes": [32, 64, 16, 16], "fusion_hidden_size": 16, "reassemble_factors": [1, 1, 1, 0.5]}
    backbone = {"model_type": "bit", "global_padding": "same", "layer_type": "bottleneck", "depths": [1, 1, 1]}
    backbone |= {
        "hidden_sizes": [32, 64, 128, 128],
        "embedding_size": 32,
        "num_groups": 8,
        "embedding_dynamic_padding": True,
    }
    backbone |= {"out_features": ["stage1", "stage2", "stage3"]}
    sizes = {"backbone_featmap_shape": [1, 128, 4, 4], "backbone_out_indices": [0, 1, 2, 3]}
    return transformers.DPTConfig(**VIT, **neck, **sizes, is_hybrid=True, backbone_config=backbone)


def beit():
    backbone = transformers.BeitConfig(
        **VIT,
        use_relative_position_bias=True,
        reshape_hidden_states=False,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return transformers.DPTConfig(backbone_config=backbone, **NECK)


def depth_anything():
    backbone = transformers.Dinov2Config(
        **{**VIT, "image_size": 56, "patch_size": 14},
        reshape_hidden_states=False,
        apply_layernorm=True,
        out_indices=[1, 2, 3, 4],
    )
    return transformers.DepthAnythingConfig(backbone_config=backbone, reassemble_hidden_size=16, **NECK)


CONFIGS = {"dpt": dpt, "hybrid": hybrid, "beit": beit, "depth_anything": depth_anything}
KEEPING = {"depth_anything": {"size": {"height": 56, "width": 56}, "keep_aspect_ratio": True, "ensure_multiple_of": 14}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small checkpoint of each kind with random weights, as `save_pretrained` writes it, made when asked for."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            torch.manual_seed(0)
            config = CONFIGS[name]()
            model = getattr(transformers, midas.KINDS[config.model_type])(config)
            _strengthen(model)
            model.save_pretrained(made[name])
            sizes = KEEPING.get(name, {"size": {"height": 64, "width": 64}})
            transformers.DPTImageProcessor(**sizes).save_pretrained(made[name])
        return made[name]

    return make


def _strengthen(model):
    """Give a random network predictions that are positive and vary, as a trained one's do."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
        if name.startswith("head.") and name.endswith("bias"):
            parameter.data += 1


@pytest.fixture
def folder(folders):
    return folders("dpt")


def disparity(folder, images, **options):
    """Return what the network at `folder` predicts of each image, prepared in another process as far as can be told."""
    prepare = midas.open_prepare(str(folder), Options())
    prepared = pickle.loads(pickle.dumps([prepare(image) for image in images]))
    return Estimator("cpu", str(folder), Options(**options)).disparity(prepared)


@pytest.mark.parametrize("name", CONFIGS)
def test_prediction_is_that_of_the_transformers_pipeline(name, folders):
    import PIL.Image

    pipeline = transformers.pipeline("depth-estimation", model=str(folders(name)), device="cpu")
    expected = pipeline(PIL.Image.fromarray(PHOTOGRAPH))["predicted_depth"].numpy()
    [found] = disparity(folders(name), [PHOTOGRAPH])
    assert found.shape == PHOTOGRAPH.shape[:2]
    assert np.ptp(expected) > 0.01 * np.abs(expected).max() > 0
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["dpt", "depth_anything"])
def test_images_of_any_size_go_together_and_keep_their_order(name, folders):
    images = [PHOTOGRAPH, PHOTOGRAPH[:60], PHOTOGRAPH[::-1].copy(), PHOTOGRAPH[:, :40], PHOTOGRAPH[:8, :8]]
    for image, together in zip(images, disparity(folders(name), images), strict=True):
        [alone] = disparity(folders(name), [image])
        assert np.abs(alone - together).max() <= 1e-4 * np.abs(alone).max()


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_narrow_numbers_predict_nearly_the_same(dtype, folder):
    exact, narrow = (disparity(folder, [PHOTOGRAPH], dtype=kind)[0] for kind in ("fp32", dtype))
    assert narrow.dtype == np.float32
    assert np.abs(narrow - exact).max() < 0.05 * exact.max()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
def test_a_compiled_network_predicts_the_same(folder):
    exact, compiled = (disparity(folder, [PHOTOGRAPH], compile=is_compiled)[0] for is_compiled in (False, True))
    assert np.abs(compiled - exact).max() < 1e-3 * exact.max()


def test_scale_goes_and_the_zero_of_the_network_stays():
    disparity = np.linspace(0, 30, 10_000, dtype=np.float32).reshape(100, 100)
    depth = inverse_depth(disparity)
    assert np.allclose(depth, inverse_depth(7 * disparity), atol=1e-6)
    assert (depth.min(), depth.max(), depth.dtype) == (0, 1, np.float32)
    assert inverse_depth(disparity + 30).min() == pytest.approx(0.5, abs=0.01)  # a far wall is not the sky


def test_a_few_near_pixels_do_not_set_the_scale():
    disparity = np.full((100, 100), 2.0, np.float32)
    disparity[:50] = 1
    disparity[0, :12] = 500
    assert np.allclose(np.unique(inverse_depth(disparity)), [0.5, 1])


def test_a_flat_scene_stays_flat_and_an_empty_one_far():
    assert np.ptp(inverse_depth(np.full((40, 40), 3.0, np.float32))) == 0
    assert not inverse_depth(np.zeros((40, 40), np.float32)).any()


def test_what_is_not_finite_is_an_error():
    with pytest.raises(ShardError, match="not finite"):
        inverse_depth(np.full((40, 40), np.inf, np.float32))


def test_the_annotator_makes_inverse_depth_in_range(folder):
    annotator = open_annotator("midas", weights=str(folder), options=Options(batch=2))
    depth = annotator.annotate(PHOTOGRAPH)
    assert (annotator.kind, depth.dtype, depth.shape) == ("depth", np.float32, PHOTOGRAPH.shape[:2])
    assert 0 <= depth.min() < depth.max() <= 1
    assert annotator.backend.startswith("midas-1:")
    found = annotator.annotate_all([PHOTOGRAPH] * 3)
    assert len(found) == 3
    assert all(np.abs(item - depth).max() <= 2 / 4095 for item in found)


def test_another_checkpoint_has_another_name(folders):
    names = {open_annotator("midas", weights=str(folders(name))).backend for name in ("dpt", "beit")}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda state: state.pop("head.head.0.bias"), ShardError, "expected but not found: head.head.0.bias"),
        (lambda state: state.update(surplus=torch.zeros(1)), ShardError, "found but not expected: surplus"),
        (lambda state: state.update({"head.head.0.bias": torch.zeros(3)}), ShardError, "shape: head.head.0.bias"),
    ],
)
def test_keys_that_do_not_fit_are_named(folder, tmp_path, change, error, message):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folder, tmp_path / "copy")
    state = load_file(copy / "model.safetensors")
    change(state)
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(error) as caught:
        open_annotator("midas", weights=str(copy))
    assert str(copy) in str(caught.value)
    assert message in str(caught.value)


def test_what_the_network_never_uses_may_be_absent(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folder, tmp_path / "copy")
    state = load_file(copy / "model.safetensors")
    unused = [name for name in state if name.startswith("neck.fusion_stage.layers.0.residual_layer1.")]
    assert len(unused) == 4
    save_file({name: state[name] for name in state if name not in unused}, copy / "model.safetensors", {"format": "pt"})
    first, second = (disparity(path, [PHOTOGRAPH])[0] for path in (folder, copy))
    assert np.array_equal(first, second)


def test_an_index_that_older_checkpoints_hold_is_ignored(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folders("beit"), tmp_path / "copy")
    state = load_file(copy / "model.safetensors")
    place = "backbone.encoder.layer.0.attention.attention.relative_position_bias.relative_position_index"
    save_file({**state, place: torch.zeros(17, 17, dtype=torch.int64)}, copy / "model.safetensors", {"format": "pt"})
    open_annotator("midas", weights=str(copy))


@pytest.mark.parametrize("name", ["dpt", "depth_anything"])
def test_nothing_is_asked_of_the_network(name, folders, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    open_annotator("midas", weights=str(folders(name)))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda path: (path / "config.json").unlink(), SettingsError, "holds no config.json"),
        (lambda path: (path / "config.json").write_text("[1]"), ShardError, "config.json is not the configuration"),
        (lambda path: (path / "config.json").write_text('{"model_type": "bert"}'), SettingsError, "'bert' model"),
        (
            lambda path: (path / "config.json").write_text(
                json.dumps({"model_type": "depth_anything", "depth_estimation_type": "metric"})
            ),
            SettingsError,
            "metric model",
        ),
        (lambda path: (path / "preprocessor_config.json").unlink(), SettingsError, "preprocessor_config.json"),
        (lambda path: (path / "model.safetensors").unlink(), SettingsError, "holds no .safetensors"),
        (
            lambda path: (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:-9]),
            ShardError,
            "model.safetensors is not a whole safetensors file",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_told_in_one_sentence(folder, tmp_path, spoil, error, message):
    copy = shutil.copytree(folder, tmp_path / "copy")
    spoil(copy)
    with pytest.raises(error) as caught:
        open_annotator("midas", weights=str(copy))
    assert str(copy) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"depth": "midas"}, "depth_weights"),
        ({"depth_weights": "somewhere"}, "needs no weights"),
        ({"midas": {"batch": 4}}, "no annotation is made by midas"),
        ({"depth": "midas", "depth_weights": "x", "midas": {"bach": 4}}, "did you mean batch"),
        ({"depth": "midas", "depth_weights": "x", "midas": {"dtype": "int8"}}, "annotate.midas.dtype"),
        ({"segments": "sam2", "segments_weights": "x", "sam2": {"iou": 2}}, "annotate.sam2.iou"),
    ],
)
def test_settings_that_would_be_ignored_or_fail_are_refused(table, message, tmp_path):
    content = {"seed": 1, "output": "out", "source": {"folder": "in"}, "annotate": table}
    with pytest.raises(SettingsError) as caught:
        parse_settings(content, origin="build.toml", base=tmp_path)
    assert message in str(caught.value)


@pytest.fixture
def shard(tmp_path):
    """A work shard of five clean photographs, with one that has no file of its own left to read."""
    bucket = Bucket(tmp_path)
    for index in range(5):
        part = skimage.data.astronaut()[40 * index : 40 * index + 160, 100 : 340 - 20 * (index % 2)]
        bucket.add(f"{index}.png", png(np.ascontiguousarray(part)))
    bucket.clean()
    return bucket.shard("annotate", "annotate/b0", (str(tmp_path / "clean/b0"),), ())


class Counting:
    """A runner whose depth annotator counts how many images it was given at a time."""

    def __init__(self, weights, *, batch):
        options = annotate.Options(depth="midas", depth_weights=weights, midas=Options(batch=batch))
        self.runner, self.groups = annotate.open(options, "cpu"), []
        self.alive = self.runner._annotators["depth"]
        self.predict_by(lambda prepared: self.groups.append(len(prepared)) or self.alive.predict(prepared))

    def predict_by(self, predict):
        self.runner._annotators["depth"] = dataclasses.replace(self.alive, predict=predict)


def depths(shard):
    rows = {row["key"]: row for row in read_table(Path(shard.output + ".parquet"))}
    return {
        key: samples.decode_depth(read_member(Path(shard.output + ".tar"), row["depth_offset"], row["depth_size"]))
        for key, row in rows.items()
    }


def test_a_work_shard_is_annotated_in_batches(folder, shard):
    single, batched = (Counting(str(folder), batch=batch) for batch in (1, 2))
    assert single.runner.run(shard).kept == 5
    expected = depths(shard)
    assert batched.runner.run(shard).kept == 5
    assert (single.groups, batched.groups) == ([1] * 5, [2, 2, 1])
    assert depths(shard).keys() == expected.keys()
    assert all(np.abs(depth - expected[key]).max() <= 2 / 4095 for key, depth in depths(shard).items())


def died(images):
    raise KeyboardInterrupt


def test_after_a_death_images_go_one_by_one_so_that_the_right_one_is_blamed(folder, shard):
    counting, retries = Counting(str(folder), batch=4), Retries()
    alive = counting.runner._annotators["depth"].predict
    counting.predict_by(died)
    with pytest.raises(KeyboardInterrupt):
        counting.runner.run(shard)
    retries.died(shard, RuntimeError("the worker is gone"))
    counting.predict_by(alive)
    counting.runner.run(shard)
    assert counting.groups == [1] * 5
    counting.runner.run(shard)
    assert counting.groups[5:] == [4, 1]


def test_an_interrupted_shard_is_done_again_in_the_same_batches(folder, shard):
    counting = Counting(str(folder), batch=4)
    alive = counting.runner._annotators["depth"].predict
    counting.predict_by(died)
    with pytest.raises(KeyboardInterrupt):
        counting.runner.run(shard)
    counting.predict_by(alive)
    counting.runner.run(shard)
    assert counting.groups == [4, 1]
