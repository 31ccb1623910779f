"""CLIP: the loader reads what open_clip publishes and nothing else; scores and embeddings are open_clip's own."""

import json
import logging
from copy import deepcopy

import numpy as np
import pytest
from skimage import data

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from filters import load  # noqa: E402
from filters._clip import Model, open_clip_model, open_pixels  # noqa: E402
from filters._contract import Sample  # noqa: E402
from filters.clip import CHOICES, TYPES  # noqa: E402
from storage.errors import SettingsError, ShardError  # noqa: E402
from tests import tiny_clip  # noqa: E402

IMAGES = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_clip.save(tmp_path_factory.mktemp("clip") / "tiny")


def by_open_clip(folder):
    """Return what open_clip's own encoders make of the images and the prompts, and the scale."""
    from PIL import Image

    handlers = logging.getLogger().handlers[:]
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    logging.getLogger().handlers[:] = handlers
    with torch.inference_mode():
        images = torch.stack([transform(Image.fromarray(one)) for one in IMAGES])
        return {
            "images": model.encode_image(images, normalize=True).numpy(),
            "texts": model.encode_text(tokenizer(list(TYPES.values())), normalize=True).numpy(),
            "scale": float(model.logit_scale.exp()),
        }


@pytest.fixture(scope="module")
def theirs(folder):
    return by_open_clip(folder)


def scores_of(name, folder, samples, **options):
    return load(name)(weights=str(folder), **options).open("cpu")(samples)


def clean(images):
    return [Sample(key=str(index), clean=image) for index, image in enumerate(images)]


def embedded(clip, folder):
    pixels = open_pixels(Model(weights=str(folder)))
    return clip.images([pixels(image) for image in IMAGES])


def test_embeddings_are_those_of_open_clip(folder, theirs):
    clip = open_clip_model(Model(weights=str(folder)), "cpu")
    assert np.abs(embedded(clip, folder) - theirs["images"]).max() < 1e-4
    assert np.abs(clip.texts(list(TYPES.values())) - theirs["texts"]).max() < 1e-4
    assert clip.scale == pytest.approx(theirs["scale"])


def test_a_model_of_timm_with_a_tokenizer_of_transformers_embeds_as_in_open_clip(tmp_path):
    folder = tiny_clip.save_siglip_like(tmp_path)
    expected, clip = by_open_clip(folder), open_clip_model(Model(weights=str(folder)), "cpu")
    assert np.abs(embedded(clip, folder) - expected["images"]).max() < 1e-4
    assert np.abs(clip.texts(list(TYPES.values())) - expected["texts"]).max() < 1e-4
    assert np.ptp(expected["images"] @ expected["images"].T) > 1e-3


def test_types_are_scored_by_the_cosine_with_their_prompt(folder, theirs):
    found = scores_of("clip", folder, clean(IMAGES))
    cosines = theirs["images"] @ theirs["texts"].T
    ours = [[one.scores[f"like_{name}"] for name in TYPES] for one in found]
    assert np.abs(np.array(ours) - cosines).max() < 1e-4
    assert np.ptp(cosines) > 0.05


def test_probabilities_are_softmaxes_over_the_choice(folder):
    clip = open_clip_model(Model(weights=str(folder)), "cpu")
    logits = clip.scale * embedded(clip, folder) @ clip.texts(CHOICES["photograph"]).T
    expected = torch.from_numpy(logits).softmax(1)[:, 0].numpy()
    found = [one.scores["photograph"] for one in scores_of("clip", folder, clean(IMAGES))]
    assert found == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_stored_embedding_is_the_images(folder, theirs):
    found = scores_of("clip", folder, clean(IMAGES))
    stored = np.stack([np.frombuffer(one.embedding, "<f2") for one in found]).astype(np.float32)
    assert np.abs(stored - theirs["images"]).max() < 1e-3


@pytest.mark.parametrize(
    ("batch", "dtype", "tolerance"), [(1, "float32", 1e-5), (3, "float32", 1e-5), (4, "bfloat16", 0.05)]
)
def test_batch_and_precision_change_little(folder, theirs, batch, dtype, tolerance):
    clip = open_clip_model(Model(weights=str(folder), batch=batch, dtype=dtype), "cpu")
    assert np.abs(embedded(clip, folder) - theirs["images"]).max() < tolerance
    assert clip.scale == pytest.approx(theirs["scale"])


SEEN = {"photograph": 0.9, "quality": 0.6, "portrait": 0.1} | {f"is_{name}": 0.2 for name in TYPES}


@pytest.mark.parametrize(
    ("options", "scores", "reason"),
    [
        ({}, {}, ""),
        ({}, {"photograph": 0.4}, "not_a_photograph"),
        ({"min_quality": 0.7}, {}, "poor_quality"),
        ({"wanted": "haze"}, {}, "not_haze"),
        ({"wanted": "haze"}, {"is_haze": 0.6}, ""),
        ({"wanted": "haze", "max_degraded": 0.5}, {"is_haze": 0.6}, ""),
        ({"max_degraded": 0.5}, {"is_low_light": 0.6, "is_rain": 0.55}, "shows_low_light"),
    ],
)
def test_clip_judges_by_what_is_likelier(options, scores, reason):
    assert load("clip")(**options).judge(SEEN | scores).reason == reason


def test_equal_images_are_entirely_similar_and_others_less(folder, theirs):
    pairs = [Sample(key="a", clean=IMAGES[0], degraded=IMAGES[0]), Sample(key="b", clean=IMAGES[0], degraded=IMAGES[1])]
    same, other = (one["similarity"] for one in scores_of("pair_similarity", folder, pairs))
    assert same == pytest.approx(1)
    assert other == pytest.approx(float(theirs["images"][0] @ theirs["images"][1]), abs=1e-4)


@pytest.mark.parametrize(("similarity", "reason"), [(0.79, "other_content"), (0.81, "")])
def test_pairs_of_other_content_are_dropped(similarity, reason):
    assert load("pair_similarity")(min_similarity=0.8).judge({"similarity": similarity}).reason == reason


def _lacking(state):
    return {name: value for name, value in state.items() if name != "text_projection"}


def _extra(state):
    return state | {"visual.extra": torch.zeros(1)}


def _misshapen(state):
    return state | {"positional_embedding": torch.zeros(50, 32)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_lacking, "not found: text_projection"),
        (_extra, "not expected: visual.extra"),
        (_misshapen, "shape: positional_embedding"),
    ],
)
def test_weights_of_another_model_end_in_a_sentence(tmp_path, change, said):
    tiny_clip.save(tmp_path, change(tiny_clip.weights()))
    with pytest.raises(ShardError, match=rf"open_clip_model.safetensors does not hold .*{said}"):
        open_clip_model(Model(weights=str(tmp_path)), "cpu")


def test_truncated_weights_end_in_a_sentence(tmp_path, folder):
    tiny_clip.save(tmp_path)
    file = tmp_path / "open_clip_model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ShardError, match="not a whole safetensors file"):
        open_clip_model(Model(weights=str(tmp_path)), "cpu")


def test_pickled_weights_are_never_read(tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps(tiny_clip.CONFIG))
    torch.save(tiny_clip.weights(), tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(SettingsError, match=r"no .safetensors; `pairforge convert`"):
        open_clip_model(Model(weights=str(tmp_path)), "cpu")


@pytest.mark.parametrize(
    ("where", "entry"),
    [
        ("text_cfg", {"hf_model_name": "someone/model"}),
        ("text_cfg", {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}),
        ("vision_cfg", {"timm_model_name": "hf-hub:someone/model"}),
    ],
)
def test_a_config_that_points_elsewhere_is_not_followed(tmp_path, where, entry):
    config = deepcopy(tiny_clip.CONFIG)
    config["model_cfg"][where] |= entry
    (tmp_path / "code.py").write_text("raise AssertionError('ran')")
    tiny_clip.save(tmp_path, config=config)
    with pytest.raises(SettingsError, match="elsewhere, which is not followed"):
        open_clip_model(Model(weights=str(tmp_path)), "cpu")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("{", "is not the config"),
        ("[]", "is not the config"),
        ('{"model_cfg": {"text_cfg": {}, "vision_cfg": []}}', "is not the config"),
        ('{"model_cfg": {"text_cfg": {}, "vision_cfg": {}, "embed_dim": "wide"}}', "describes no model"),
    ],
)
def test_a_config_that_is_none_ends_in_a_sentence(tmp_path, content, said):
    if content is not None:
        (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(SettingsError, match=said):
        open_clip_model(Model(weights=str(tmp_path)), "cpu")
