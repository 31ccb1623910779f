"""The local transport on a tiny Qwen3-VL checkpoint: the model is given what the library itself would give it."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import json
import os
import pickle
from dataclasses import replace
from functools import cache

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `models` extra")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: install the `models` extra")
pytest.importorskip("torchvision", reason="torchvision is not installed: install PairForge's `models` extra")

import PIL.Image
from skimage import data

from filters import load
from filters._contract import Sample
from filters._vlm import Vlm, open_vlm
from filters._vlm_patches import open_patches
from filters._vlm_questions import MAX_TOKENS, SYSTEM, Question
from filters.severity_vlm import grades
from storage.errors import SettingsError, ShardError
from storage.records import Recipe, Step
from tests.tiny_qwen3_vl import save_tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("qwen3-vl"))


@pytest.fixture(scope="module")
def local(checkpoint):
    return open_vlm(Vlm(weights=str(checkpoint), batch=2))


def questions():
    face, cat = data.astronaut()[:96, :128], data.chelsea()[:120, :80]
    return [
        Question(images=(face,), prompt="Haze?"),
        Question(images=(cat,), prompt="A longer question about rain."),
        Question(images=(face, cat), prompt="Which?"),
    ]


@cache
def by_the_library(folder, number):
    """Return what transformers itself makes of the question, and what its model answers greedily."""
    question = questions()[number]
    processor = transformers.AutoProcessor.from_pretrained(folder)
    content = [{"type": "image", "image": PIL.Image.fromarray(image)} for image in question.images]
    messages = [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
        {"role": "user", "content": [*content, {"type": "text", "text": question.prompt}]},
    ]
    inputs = processor.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        ids = model.generate(
            **inputs, max_new_tokens=MAX_TOKENS, do_sample=False, temperature=None, top_p=None, top_k=None
        )
    return inputs, processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_a_batch_is_laid_out_as_the_librarys_processor_does_it(local, checkpoint):
    processor = transformers.AutoProcessor.from_pretrained(checkpoint)
    processor.tokenizer.padding_side = "left"
    images = [PIL.Image.fromarray(image) for question in questions() for image in question.images]
    texts = [local._chat(question) for question in questions()]
    theirs, ours = processor(text=texts, images=images, padding=True, return_tensors="pt"), local.inputs(questions())
    assert set(ours) == set(theirs)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)


def test_patches_that_were_made_elsewhere_are_not_made_again(local, checkpoint):
    cut = open_patches(str(checkpoint))
    ready = [replace(one, patches=tuple(map(cut, one.images))) for one in pickle.loads(pickle.dumps(questions()))]
    blank = [replace(one, images=tuple(image * 0 for image in one.images)) for one in ready]  # looked at by nobody
    theirs, ours = local.inputs(questions()), local.inputs(blank)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)
    assert local(blank) == local(questions())


def test_grades_are_asked_with_patches_that_were_made_without_the_weights(local, checkpoint):
    face, cat = (image[:96, :128].copy() for image in (data.astronaut(), data.chelsea()))
    steps = tuple(Step(degradation=name, params={}, inputs={}) for name in ("haze", "noise"))
    recipe = Recipe(name="haze_noise", severity=0.5, steps=steps, digest="")
    prepare, asked = load("severity_vlm")(weights=str(checkpoint)).prepare(), []
    wanted = pickle.loads(pickle.dumps([prepare(Sample(key="a", clean=face, degraded=cat, recipe=recipe))]))
    grades(lambda questions: asked.extend(questions) or ["5"] * len(questions), wanted)
    assert [len(question.patches) for question in asked] == [1] * 4
    theirs, ours = (
        local.inputs([replace(one, patches=kept) for one, kept in zip(asked, some, strict=True)])
        for some in ([()] * 4, [one.patches for one in asked])
    )
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)


@pytest.mark.parametrize("number", range(3))
def test_the_model_is_given_what_the_librarys_processor_gives(number, local, checkpoint):
    theirs, _ = by_the_library(checkpoint, number)
    ours = local.inputs([questions()[number]])
    assert set(ours) == set(theirs)
    assert "mm_token_type_ids" in ours  # without them image positions are silently wrong
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)


def test_answers_are_the_librarys_greedy_ones_whatever_the_batch(local, checkpoint):
    assert local(questions()) == [by_the_library(checkpoint, number)[1].strip() for number in range(3)]


def test_the_picture_and_the_prompt_change_the_answer(local):
    face, other = questions()[0], questions()[1]
    answers = local(
        [face, Question(images=other.images, prompt=face.prompt), Question(images=face.images, prompt="Rain?")]
    )
    assert len(set(answers)) == 3


def test_answers_are_noted_as_they_come(local):
    noted = []
    answers = local(questions(), lambda number, answer: noted.append((number, answer)))
    assert noted == list(enumerate(answers))


def test_the_identity_is_that_of_the_bytes(checkpoint, tmp_path):
    copy = save_tiny(tmp_path / "copy")
    assert Vlm(weights=str(copy)).identity() == Vlm(weights=str(checkpoint)).identity()
    (copy / "chat_template.jinja").write_text("other")
    assert Vlm(weights=str(copy)).identity() != Vlm(weights=str(checkpoint)).identity()


def test_weights_are_hashed_once_for_all_starts_and_anew_when_a_file_changes(tmp_path):
    vlm = Vlm(weights=str(save_tiny(tmp_path / "model")), answers=str(tmp_path / "answers"))
    file = tmp_path / "model" / "model.safetensors"
    before, stat = vlm.identity(), file.stat()
    assert before == Vlm(weights=vlm.weights).identity()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert vlm.identity() == before  # nobody read it again: size, time and inode are those that were noted
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert vlm.identity() == Vlm(weights=vlm.weights).identity() != before


def without_processor(folder):
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)


def cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def of_another_model(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_size"] = 48
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "error", "told"),
    [
        (without_processor, SettingsError, "processor"),
        (cut, ShardError, "model.safetensors"),
        (of_another_model, ShardError, "another shape"),
    ],
)
def test_a_checkpoint_that_is_not_whole_ends_in_one_sentence(damage, error, told, tmp_path):
    folder = save_tiny(tmp_path)
    damage(folder)
    with pytest.raises(error, match=told) as raised:
        open_vlm(Vlm(weights=str(folder)))
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_checkpoint_that_is_not_there_ends_in_one_sentence(tmp_path):
    with pytest.raises(SettingsError, match="nowhere"):
        open_vlm(Vlm(weights=str(tmp_path / "nowhere")))


def test_a_server_and_weights_exclude_each_other():
    with pytest.raises(ValueError, match="exclude each other"):
        Vlm(url="http://127.0.0.1/v1", weights="folder")
