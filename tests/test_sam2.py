"""SAM-2 segments by random checkpoints of both formats, as by their libraries."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
import skimage.data

from storage.errors import SettingsError, ShardError
from tasks.annotators import open_annotator, sam2
from tasks.annotators._sam2_models import _configuration, open_model, open_pixels
from tasks.pickles import convert_pickle

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")
transformers = pytest.importorskip("transformers")

PHOTOGRAPH = skimage.data.astronaut()[:240, :320]
# Thresholds that a part of the masks of each random checkpoint meets.
PACKAGE = sam2.Options(points_per_side=3, iou=0.5, stability=0.77, points_per_batch=5)
FOLDER = sam2.Options(points_per_side=3, iou=0.5, stability=0.55, points_per_batch=5)


@pytest.fixture(scope="module")
def package_file(tmp_path_factory):
    """SAM-2.1 tiny with random weights as published: a .pt with the state dict under "model", converted."""
    from sam2.build_sam import build_sam2

    folder = tmp_path_factory.mktemp("package")
    torch.manual_seed(0)
    model = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", None, device="cpu", apply_postprocessing=False)
    for head in model.sam_mask_decoder.output_hypernetworks_mlps:
        head.layers[-1].weight.data *= 60  # so that logits are about as large as a trained model's
    torch.save({"model": model.state_dict()}, folder / "sam2.1_hiera_tiny.pt")
    convert_pickle(folder / "sam2.1_hiera_tiny.pt", folder / "sam2.1_hiera_tiny.safetensors")
    (folder / "sam2.1_hiera_tiny.pt").unlink()
    return folder / "sam2.1_hiera_tiny.safetensors"


def small_parts():
    backbone = {"hidden_size": 8, "blocks_per_stage": [1, 2, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64]}
    backbone |= {
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "global_attention_blocks": [4],
        "image_size": [128, 128],
    }
    vision = {"backbone_config": {"model_type": "sam2_hiera_det_model", **backbone}, "fpn_hidden_size": 32}
    vision |= {"backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]]}
    decoder = {"hidden_size": 32, "mlp_dim": 32, "iou_head_hidden_dim": 32, "num_attention_heads": 2}
    prompt = {"hidden_size": 32, "image_size": 128}
    return {"vision_config": vision, "prompt_encoder_config": prompt, "mask_decoder_config": decoder}


def processor():
    return transformers.Sam2ImageProcessor(size={"height": 128, "width": 128}, mask_size={"height": 32, "width": 32})


def saved(model, path):
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)  # so that logits are about as large as a trained model's
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small Sam2Model with random weights as `save_pretrained` writes it."""
    path = tmp_path_factory.mktemp("transformers")
    processor().save_pretrained(path)
    return saved(transformers.Sam2Model(transformers.Sam2Config(**small_parts())), path)


@pytest.fixture
def video_folder(tmp_path):
    """The same within a small video model, with its own processors: the form in which SAM-2.1 is on the hub."""
    width = {"memory_attention_hidden_size": 32, "memory_attention_feed_forward_hidden_size": 32}
    width |= {"memory_attention_num_layers": 1, "memory_encoder_hidden_size": 32, "memory_encoder_output_channels": 16}
    width |= {"mask_downsampler_embed_dim": 32, "memory_fuser_embed_dim": 32, "memory_fuser_intermediate_dim": 32}
    frames = transformers.Sam2VideoVideoProcessor(size={"height": 128, "width": 128})
    transformers.Sam2VideoProcessor(image_processor=processor(), video_processor=frames).save_pretrained(tmp_path)
    config = transformers.Sam2VideoConfig(**small_parts(), image_size=128, **width)
    return saved(transformers.Sam2VideoModel(config), tmp_path)


def published_masks(file):
    """Return the masks that Meta's own generator makes of the photograph."""
    from safetensors.torch import load_file
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
    from sam2.build_sam import build_sam2

    model = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", None, device="cpu", apply_postprocessing=False)
    model.load_state_dict(load_file(file))
    generator = SAM2AutomaticMaskGenerator(
        model,
        points_per_side=3,
        pred_iou_thresh=PACKAGE.iou,
        stability_score_thresh=PACKAGE.stability,
        box_nms_thresh=1.0,
    )
    return [(item["segmentation"], item["stability_score"]) for item in generator.generate(PHOTOGRAPH)]


def our_masks(weights, options, image=PHOTOGRAPH):
    model, pixels = open_model(weights, "cpu"), open_pixels(weights)
    with torch.inference_mode():
        found = sam2.masks_of(model, model.embed([pixels(image)])[0], image.shape[:2], options)
    bits = [np.zeros(image.shape[:2], bool) for _ in found]
    for canvas, item in zip(bits, found, strict=True):
        canvas[item.box.row :, item.box.column :][: item.box.height, : item.box.width] = item.bits
    return [(canvas, item.stability) for canvas, item in zip(bits, found, strict=True)]


def assert_same_masks(ours, theirs):
    assert 3 < len(ours) == len(theirs) < 27
    for (bits, _), expected in zip(ours, theirs, strict=True):
        assert np.mean(bits != expected) < 1e-4  # a pixel whose logit is 0 within rounding


@pytest.fixture
def with_duplicates(monkeypatch):
    """Keep masks with like boxes, for random networks make no others; the fake's tests cover their suppression."""
    monkeypatch.setattr(sam2, "SAME_BOX", 1.0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the package compiles its transforms by TorchScript
@pytest.mark.usefixtures("with_duplicates")
def test_masks_of_a_converted_checkpoint_are_those_of_the_sam2_package(package_file):
    ours, theirs = our_masks(package_file, PACKAGE), published_masks(package_file)
    assert_same_masks(ours, [bits for bits, _ in theirs])
    assert np.allclose([stability for _, stability in ours], [stability for _, stability in theirs], atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_logits_are_those_of_the_sam2_package(package_file):
    from safetensors.torch import load_file
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    model = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", None, device="cpu", apply_postprocessing=False)
    model.load_state_dict(load_file(package_file))
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(PHOTOGRAPH)
    point = np.array([[0.3, 0.6]], np.float32)
    _, expected, low = predictor.predict(point * PHOTOGRAPH.shape[1::-1], np.ones(1))
    ours, pixels = open_model(package_file, "cpu"), open_pixels(package_file)
    with torch.inference_mode():
        logits, scores = ours.masks(ours.embed([pixels(PHOTOGRAPH)])[0], torch.from_numpy(point))
    assert np.abs(scores[0].numpy() - expected).max() < 1e-4
    assert np.abs(logits[0].clamp(-32, 32).numpy() - low).max() < 1e-4 * np.abs(low).max()


@pytest.mark.usefixtures("with_duplicates")
def test_masks_are_those_of_the_transformers_pipeline(folder):
    import PIL.Image

    square = PHOTOGRAPH[:, :240]  # of others the pipeline lays its points over a part only
    generate = transformers.pipeline("mask-generation", model=str(folder), device="cpu")
    found = generate(
        PIL.Image.fromarray(square),
        points_per_crop=3,
        pred_iou_thresh=FOLDER.iou,
        stability_score_thresh=FOLDER.stability,
        crops_nms_thresh=1.0,
    )
    assert_same_masks(our_masks(folder, FOLDER, square), [np.asarray(bits) for bits in found["masks"]])


@pytest.mark.parametrize("format_name", ["folder", pytest.param("package_file", marks=pytest.mark.slow)])
def test_the_annotator_makes_labels_of_the_size_of_the_image(format_name, request):
    weights = request.getfixturevalue(format_name)
    annotator = open_annotator("sam2", weights=str(weights), options=FOLDER)
    labels = annotator.annotate(PHOTOGRAPH)
    assert (annotator.kind, labels.dtype, labels.shape) == ("segments", np.uint8, PHOTOGRAPH.shape[:2])
    assert len(np.unique(labels)) > 1
    assert annotator.backend.startswith("sam2-1:")
    together = annotator.annotate_all([PHOTOGRAPH, PHOTOGRAPH[:100]])
    assert np.mean(together[0] != labels) < 1e-3


SEVERAL = [PHOTOGRAPH, PHOTOGRAPH[:100], PHOTOGRAPH[::-1].copy(), PHOTOGRAPH[:, :77], skimage.data.cat()]


@pytest.mark.parametrize("format_name", ["folder", pytest.param("package_file", marks=pytest.mark.slow)])
def test_what_the_encoder_says_of_a_batch_is_what_it_says_of_each_image(format_name, request):
    weights = request.getfixturevalue(format_name)
    model, pixels = open_model(weights, "cpu"), open_pixels(weights)
    images = SEVERAL if format_name == "folder" else SEVERAL[:3]
    with torch.inference_mode():
        together = model.embed([pixels(image) for image in images])
        alone = [model.embed([pixels(image)])[0] for image in images]
    for batched, single in zip(together, alone, strict=True):
        for one, other in zip(batched, single, strict=True):
            assert one.shape == other.shape
            assert (one - other).abs().max() <= 1e-4 * other.abs().max()


@pytest.mark.parametrize("tile", [2048, 150])
def test_a_batch_of_images_has_the_labels_of_each_alone(folder, tile):
    annotator = open_annotator("sam2", weights=str(folder), options=FOLDER.model_copy(update={"tile": tile}))
    together, alone = annotator.annotate_all(SEVERAL), [annotator.annotate(image) for image in SEVERAL]
    assert [len(np.unique(labels)) > 1 for labels in alone].count(True) >= 4
    for batched, single in zip(together, alone, strict=True):
        assert np.mean(batched != single) < 1e-3  # pixels whose logit is 0 within rounding


@pytest.mark.parametrize("format_name", ["folder", "package_file"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the package compiles its transforms by TorchScript
def test_an_image_is_prepared_as_its_library_does_it(format_name, request):
    weights = request.getfixturevalue(format_name)
    ours = open_pixels(weights)(PHOTOGRAPH)
    if format_name == "folder":
        theirs = processor()(images=[PHOTOGRAPH], return_tensors="pt")["pixel_values"][0].numpy()
    else:
        from sam2.utils.transforms import SAM2Transforms

        theirs = SAM2Transforms(resolution=1024, mask_threshold=0.0)(PHOTOGRAPH).numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-4


def test_the_image_model_is_read_out_of_a_published_video_model(video_folder):
    from safetensors.torch import load_file

    inner = open_model(video_folder, "cpu")._model.state_dict()
    stored = load_file(video_folder / "model.safetensors")
    assert any(name.startswith("memory_") for name in stored)
    assert all(torch.equal(value, stored[name]) for name, value in inner.items() if name in stored)
    assert len(np.unique(open_annotator("sam2", weights=str(video_folder), options=FOLDER).annotate(PHOTOGRAPH))) > 1


def test_nothing_is_asked_of_the_network(folder, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    open_annotator("sam2", weights=str(folder))


@pytest.mark.parametrize(
    "change", [{"dtype": "bf16"}, pytest.param({"compile": True}, marks=pytest.mark.slow)], ids=["bf16", "compiled"]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
def test_faster_ways_find_nearly_the_same(change, folder):
    [exact], [fast] = (
        open_annotator("sam2", weights=str(folder), options=options).annotate_all([PHOTOGRAPH])
        for options in (FOLDER, FOLDER.model_copy(update=change))
    )
    areas = [np.sort(np.bincount(labels.ravel(), minlength=255))[::-1] / labels.size for labels in (exact, fast)]
    assert np.abs(areas[0] - areas[1]).max() < 0.1


@pytest.mark.slow
def test_the_sam2_package_computes_in_bf16_too(package_file):
    [labels] = open_annotator(
        "sam2", weights=str(package_file), options=PACKAGE.model_copy(update={"dtype": "bf16"})
    ).annotate_all([PHOTOGRAPH])
    assert len(np.unique(labels)) > 1


@pytest.mark.parametrize("size", ["t", "s", "b+", "l"])
@pytest.mark.parametrize("version", ["sam2", "sam2.1"])
def test_the_configuration_is_told_by_the_names(version, size, tmp_path, monkeypatch):
    from sam2.build_sam import build_sam2

    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))  # sam2 takes numbers out of one
    name = f"configs/{version}/{version}_hiera_{size}.yaml"
    with torch.device("meta"):
        state = build_sam2(name, None, device="meta", apply_postprocessing=False).state_dict()
    assert _configuration(tmp_path, state) == name


def rewritten(source, target, change):
    from safetensors.torch import load_file, save_file

    state = load_file(source)
    change(state)
    save_file(state, target, metadata={"format": "pt"})


def test_a_checkpoint_of_the_package_that_does_not_fit_names_file_and_keys(package_file, tmp_path):
    def change(state):
        state["surplus.weight"] = state.pop("no_mem_embed")
        state["no_mem_pos_enc"] = torch.zeros(3)

    rewritten(package_file, tmp_path / "x.safetensors", change)
    with pytest.raises(ShardError) as caught:
        open_annotator("sam2", weights=str(tmp_path / "x.safetensors"))
    for part in ("x.safetensors", "not found: no_mem_embed", "not expected: surplus.weight", "shape: no_mem_pos_enc"):
        assert part in str(caught.value)


def test_another_model_is_no_sam2(tmp_path):
    from safetensors.torch import save_file

    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ShardError, match=r"x\.safetensors is no SAM-2 state dict: expected .* found 0 .* conv\.weight"):
        open_annotator("sam2", weights=str(tmp_path / "x.safetensors"))


def test_a_truncated_checkpoint_of_the_package_is_named(package_file, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(package_file.read_bytes()[:-1000])
    with pytest.raises(ShardError, match=r"x\.safetensors is not a whole safetensors file"):
        open_annotator("sam2", weights=str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda path: (path / "model.safetensors").unlink(), SettingsError, r"no \.safetensors"),
        (lambda path: (path / "preprocessor_config.json").unlink(), ShardError, "preprocessor_config"),
        (lambda path: (path / "model.safetensors").write_bytes(b"12345678{}"), ShardError, "not a whole"),
        (
            lambda path: rewritten(
                path / "model.safetensors", path / "model.safetensors", lambda state: state.pop("no_memory_embedding")
            ),
            ShardError,
            "expected but not found: no_memory_embedding",
        ),
        (
            lambda path: (path / "config.json").write_text(
                json.dumps(json.loads((path / "config.json").read_text()) | {"model_type": "bert"})
            ),
            SettingsError,
            "is of a 'bert' model",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_told_in_one_sentence(folder, tmp_path, spoil, error, message):
    copy = shutil.copytree(folder, tmp_path / "copy")
    spoil(copy)
    with pytest.raises(error, match=message) as caught:
        open_annotator("sam2", weights=str(copy))
    assert str(copy) in str(caught.value)


def test_a_place_where_nothing_is_is_told():
    with pytest.raises(SettingsError, match="no file or folder"):
        open_annotator("sam2", weights="nowhere/at/all")
