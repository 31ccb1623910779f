"""The prompt encoder reads prompt and image as Qwen2.5-VL does, proved on a tiny one made here."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: install the `test` extra")

from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.models.qwen2_vl import Qwen2VLImageProcessorPil

from storage.errors import SettingsError, ShardError
from training.encoders.qwen import IMAGE, QwenPrompts, check_prefix, load_qwen

PREFIX = "Say it better.\nUser Prompt:"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", IMAGE, "<|video_pad|>"]
TEMPLATE = """<|im_start|>system
Be helpful.<|im_end|>
{% for message in messages %}<|im_start|>{{ message['role'] }}
{% for part in message['content'] %}{% if part['type'] == 'image' %}{% if add_vision_id %}Picture 1: {% endif %}\
<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def tokenizer():
    """Return one token for each byte, and the special ones."""
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={byte: number for number, byte in enumerate(bytes_)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<|endoftext|>", eos_token="<|im_end|>", chat_template=TEMPLATE
    )


def language_model(words):
    image, video, start, end = (words.convert_tokens_to_ids(SPECIAL[n]) for n in (5, 6, 3, 4))
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 32,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)  # transformers draws from the global generator
        return transformers.Qwen2_5_VLForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def parts():
    words = tokenizer()
    return language_model(words), words, Qwen2VLImageProcessorPil(min_pixels=4 * 28 * 28, max_pixels=9 * 28 * 28)


@pytest.fixture(scope="module")
def encoder(parts):
    model, words, images = parts
    return QwenPrompts(model.model, words, images, PREFIX, rows=64)


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (56, 84, 3), dtype=np.uint8)


def test_rows_start_at_the_picture_and_are_padded(encoder):
    hidden, mask = encoder.encode([picture()], ["Please dehaze"])
    # "Picture 1: ", <start>, 2 x 3 cells, <end>, the prompt, <im_end>, newline, <im_start>, "assistant", newline
    rows = 11 + 1 + 6 + 1 + 13 + 1 + 1 + 1 + 9 + 1
    assert hidden.shape == (1, 64, 32)
    assert int(mask.sum()) == rows
    assert mask[0, :rows].all()
    assert not hidden[0, rows:].any()


@torch.no_grad()
def test_hidden_states_are_the_last_of_the_whole_model(parts, encoder):
    model, words, images = parts
    text = TEMPLATE_TEXT.format(prefix=PREFIX, image=IMAGE * 6, prompt="Please dehaze")
    ids = torch.tensor([words(text)["input_ids"]])
    pixels = images(images=[picture()], return_tensors="pt")
    types = (ids == words.convert_tokens_to_ids(IMAGE)).long()
    out = model(input_ids=ids, mm_token_type_ids=types, output_hidden_states=True, **pixels).hidden_states[-1][0]
    hidden, mask = encoder.encode([picture()], ["Please dehaze"])
    start = len(words("<|im_start|>system\nBe helpful.<|im_end|>\n<|im_start|>user\n" + PREFIX)["input_ids"])
    torch.testing.assert_close(hidden[0][mask[0]], out[start:])


TEMPLATE_TEXT = (
    "<|im_start|>system\nBe helpful.<|im_end|>\n<|im_start|>user\n{prefix}Picture 1: <|vision_start|>{image}"
    "<|vision_end|>{prompt}<|im_end|>\n<|im_start|>assistant\n"
)


def test_picture_and_prompt_both_count(encoder):
    hidden, _ = encoder.encode([picture(), picture(1), picture()], ["a", "a", "b"])
    assert (hidden[0] - hidden[1]).abs().max() > 1e-3
    assert (hidden[0] - hidden[2]).abs().max() > 1e-3


def test_samples_of_a_batch_are_encoded_apart(encoder):
    hidden, mask = encoder.encode([picture(), picture(1)], ["longer than the other", ""])
    alone, its_mask = encoder.encode([picture(1)], [""])
    assert torch.equal(hidden[1:], alone)
    assert torch.equal(mask[1:], its_mask)


def test_rows_beyond_the_last_are_cut(encoder):
    _, mask = encoder.encode([picture()], ["x" * 200])
    assert mask.all()


def test_a_bundle_is_loaded(tmp_path, parts, encoder):
    model, words, _ = parts
    model.save_pretrained(tmp_path / "text_encoder")
    words.save_pretrained(tmp_path / "processor")
    loaded = load_qwen(tmp_path, PREFIX, dtype=torch.float32)
    assert loaded.dropped == encoder.dropped
    loaded.image_processor, loaded.rows = encoder.image_processor, encoder.rows
    torch.testing.assert_close(loaded.encode([picture()], ["a"]), encoder.encode([picture()], ["a"]))


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def drop(file):
    state = load_file(file)
    del state["model.norm.weight"]
    save_file(state, file, {"format": "pt"})


def pickle_it(file):
    torch.save(load_file(file), file.with_name("pytorch_model.bin"))
    file.unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (cut, "is not a whole Qwen2.5-VL"),
        (drop, "lacks 1 tensors, such as language_model.norm.weight"),
        (pickle_it, "is not a whole Qwen2.5-VL"),
    ],
)
def test_weights_that_are_not_whole_are_refused(tmp_path, parts, spoil, sentence):
    model, words, _ = parts
    model.save_pretrained(tmp_path / "text_encoder")
    words.save_pretrained(tmp_path / "processor")
    spoil(tmp_path / "text_encoder" / "model.safetensors")
    with pytest.raises(ShardError, match=sentence) as caught:
        load_qwen(tmp_path, PREFIX)
    assert "\n" not in str(caught.value)


def test_the_released_tokenizer_needs_the_released_prefix():
    check_prefix(217, 151_665)
    check_prefix(40, 263)
    with pytest.raises(SettingsError, match="come to 216 rows, expected 217"):
        check_prefix(216, 151_665)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="text_encoder is missing; name the root of a bundle"):
        load_qwen(tmp_path, PREFIX)
