"""Checkpoints travel between the formats unchanged, and a broken one ends in one sentence."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import json
import pickle
import sys
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from safetensors.torch import load_file, save_file

from flows.__main__ import run
from storage.errors import PairForgeError, SettingsError, ShardError
from tests.small_restorer import small_inputs, small_model, small_params
from training.network import params
from training.network.model import build, initialise
from training.weights import checkpoints
from training.weights.checkpoints import METADATA_KEY, Target, native_shapes, opened
from training.weights.layouts import LAYOUTS, entries


def stored(path, layout="native", model=None, **options):
    checkpoints.save(model or small_model(), Target(path=path, layout=layout, **options))
    return path


def converted(source, path, layout, **options):
    with opened(source) as checkpoint:
        checkpoints.convert(checkpoint, Target(path=path, layout=layout, **options))
    return path


def the_file(folder):
    return folder / "transformer" / "diffusion_pytorch_model.safetensors"


def same(first, second):
    mine, theirs = first.state_dict(), second.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_saved_is_loaded(tmp_path, layout):
    model = small_model()
    found = checkpoints.load(stored(tmp_path / "x", layout, model))
    assert same(found, model)
    assert found.params == model.params


@torch.no_grad()
@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", LAYOUTS)
def test_weights_travel_both_ways(tmp_path, first, second):
    model = small_model()
    there = converted(stored(tmp_path / "a", first, model), tmp_path / "b", second)
    back = checkpoints.load(converted(there, tmp_path / "c", first))
    assert same(back, model)
    inputs = small_inputs(model.params)
    assert torch.equal(back(*inputs), model(*inputs))


@pytest.mark.parametrize("changes", [{"scaled": True}, {"guidance": True}, {"mask_token": True}])
@pytest.mark.parametrize("layout", ["native", "bundle"])
def test_optional_tensors_travel_too(tmp_path, changes, layout):
    model = small_model(small_params(**changes))
    assert same(checkpoints.load(stored(tmp_path / "x", layout, model)), model)


def test_tiny_is_a_native_file(tmp_path):
    model = build(params.tiny(), "cpu")
    initialise(model, seed=0)
    found = checkpoints.load(stored(tmp_path / "tiny.safetensors", model=model))
    assert same(found, model)
    assert found.params == params.tiny()


@pytest.mark.parametrize(
    ("layout", "changes", "sentence"),
    [
        ("bundle", {"predicts": "residual"}, "holds only the published form"),
        ("diffusers", {"predicts": "residual"}, "holds only the published form"),
        ("diffusers", {"guidance": True}, "no place for a guidance embedding"),
        ("diffusers", {"scaled": True, "mask_token": True}, "no place for a mask token and a scale factor of v1.0"),
    ],
)
def test_a_format_that_cannot_hold_the_model_is_refused(tmp_path, layout, changes, sentence):
    with pytest.raises(SettingsError, match=sentence):
        stored(tmp_path / "x", layout, small_model(small_params(**changes)))
    assert not list(tmp_path.iterdir())


def test_large_checkpoints_are_split_into_parts(tmp_path):
    folder = stored(tmp_path / "x", "bundle", part_bytes=50_000) / "transformer"
    index = json.loads((folder / "diffusion_pytorch_model.safetensors.index.json").read_text())
    parts = sorted(folder.glob("*.safetensors"))
    assert parts[0].name == f"diffusion_pytorch_model-00001-of-{len(parts):05d}.safetensors"
    assert len(parts) > 3
    assert all(file.stat().st_size < 80_000 for file in parts)
    assert set(index["weight_map"].values()) == {file.name for file in parts}
    assert index["metadata"]["total_size"] == 4 * sum(p.numel() for p in small_model().parameters())
    assert same(checkpoints.load(folder.parent), small_model())


def test_other_readers_read_our_files(tmp_path):
    model = small_model()
    found = load_file(stored(tmp_path / "x.safetensors", model=model))
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("wrapper", ["module.", "model.", "module.model."])
def test_wrappers_before_names_are_stripped(tmp_path, wrapper):
    model = small_model()
    save_file({wrapper + name: tensor for name, tensor in model.state_dict().items()}, tmp_path / "x.safetensors")
    assert same(checkpoints.load(tmp_path / "x.safetensors", params=model.params), model)


def test_number_types_are_kept_or_chosen(tmp_path):
    half = small_model().bfloat16()
    path = stored(tmp_path / "x.safetensors", model=half)
    assert checkpoints.load(path).img_in.weight.dtype == torch.bfloat16
    assert checkpoints.load(path, dtype=torch.float32).img_in.weight.dtype == torch.float32
    wide = converted(path, tmp_path / "wide", "bundle", dtype=torch.float32)
    assert {tensor.dtype for tensor in load_file(the_file(wide)).values()} == {torch.float32}


def test_reference_ids_are_stored_and_can_be_replaced(tmp_path):
    path = stored(tmp_path / "x", "diffusers", small_model(small_params(reference_ids="realrestorer")))
    assert checkpoints.load(path).params.reference_ids == "realrestorer"
    assert checkpoints.load(path, reference_ids="v1.1").params.reference_ids == "v1.1"


def published(*, scaled=False, **changes):
    known = params.base()
    return replace(known, connector=replace(known.connector, scaled=scaled), **changes)


@pytest.mark.parametrize(
    ("layout", "changes", "ids"),
    [
        ("native", {"scaled": True}, "v1.0"),
        ("native", {}, "v1.1"),
        ("diffusers", {}, "v1.1"),
        ("bundle", {}, "realrestorer"),
        ("bundle", {"guidance": True, "mask_token": True}, "realrestorer"),
    ],
)
def test_the_version_is_read_off_the_names(tmp_path, layout, changes, ids):
    known = published(**changes)
    names = {name: name for name in entries(layout, native_shapes(known), known)}
    assert checkpoints._layout(tmp_path, names) == layout
    found = checkpoints._params(tmp_path, layout, names, {})
    assert found == published(**changes, reference_ids=ids)


# Twenty ways to be broken


def rewritten(path, change, metadata=True):
    """Save the small model with its tensors changed, under its own params."""
    state = small_model().state_dict()
    change(state)
    save_file(state, path, {checkpoints.METADATA_KEY: params.to_json(small_params())} if metadata else None)
    return path


def cut(path, keep):
    data = stored(path).read_bytes()
    path.write_bytes(data[: keep(len(data))])
    return path


def text_file(path, text):
    path.write_bytes(text)
    return path


def in_parts(tmp_path):
    folder = stored(tmp_path / "x", "bundle", part_bytes=50_000) / "transformer"
    return folder, folder / "diffusion_pytorch_model.safetensors.index.json"


def without_a_part(tmp_path):
    folder, _ = in_parts(tmp_path)
    sorted(folder.glob("*.safetensors"))[1].unlink()
    return folder


def with_index(tmp_path, text):
    folder, index = in_parts(tmp_path)
    index.write_text(text)
    return folder


def twice(tmp_path):
    (tmp_path / "both").mkdir()
    for name in ("a", "b"):
        stored(tmp_path / "both" / f"{name}.safetensors")
    return tmp_path / "both"


def pickled(path, data=None):
    torch.save({"img_in.weight": torch.zeros(2)}, path) if data is None else path.write_bytes(data)
    return path


def folder_of_pickles(tmp_path):
    (tmp_path / "old").mkdir()
    pickled(tmp_path / "old" / "pytorch_model.bin")
    return tmp_path / "old"


def header_of(path, change):
    """Change the JSON header of a good file, keeping its data."""
    data = stored(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = change(data[8 : 8 + length].decode()).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return path


class Poison:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def drop(state):
    del state["img_in.weight"], state["txt_in.bias"]
    state["text_token_mapping.weight"] = torch.zeros(3)


def exchange(state):
    state.clear()
    state["a"] = torch.ones(1)


def spoil(state):
    state["img_in.bias"][3] = float("nan")


BROKEN = {
    "empty": (lambda p: text_file(p / "x.safetensors", b""), "not a whole safetensors file"),
    "header cut": (lambda p: cut(p / "x.safetensors", lambda n: 100), "not a whole safetensors file"),
    "data cut": (lambda p: cut(p / "x.safetensors", lambda n: n - 1), "not a whole safetensors file"),
    "half": (lambda p: cut(p / "x.safetensors", lambda n: n // 2), "not a whole safetensors file"),
    "a web page": (lambda p: text_file(p / "x.safetensors", b"<html>404</html>"), "not a whole safetensors file"),
    "lfs pointer": (lambda p: text_file(p / "x.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), "LFS"),
    "torch pickle": (lambda p: pickled(p / "x.pt"), "is a pickle, which is never read"),
    "pickle in disguise": (
        lambda p: pickled(p / "x.safetensors", pickle.dumps(Poison())),
        "is a pickle, which is never read",
    ),
    "folder of pickles": (folder_of_pickles, "holds no .safetensors file; pytorch_model.bin is a pickle"),
    "empty folder": (lambda p: p, "holds no .safetensors file"),
    "another model": (
        lambda p: rewritten(
            p / "x.safetensors", lambda s: [s.pop(name) for name in list(s)] and s.update(a=torch.ones(1))
        ),
        "expected tensors such as double_blocks.* found 1 others, such as a",
    ),
    "tensors missing": (
        lambda p: rewritten(p / "x.safetensors", drop),
        "lacks 2 of the 128 tensors expected, such as img_in.weight and holds 1 .* such as text_token_mapping",
    ),
    "wrong shape": (
        lambda p: rewritten(p / "x.safetensors", lambda s: s.update({"img_in.weight": torch.zeros(8, 32)})),
        r"img_in.weight is \(8, 32\), expected \(32, 8\)",
    ),
    "not the base": (
        lambda p: rewritten(p / "x.safetensors", lambda s: None, metadata=False),
        "lacks 688 of the 816 tensors expected",
    ),
    "whole numbers": (
        lambda p: rewritten(
            p / "x.safetensors", lambda s: s.update({"img_in.bias": torch.zeros(32, dtype=torch.int64)})
        ),
        "img_in.bias is I64, expected one of F64, F32, BF16, F16",
    ),
    "not a number": (lambda p: rewritten(p / "x.safetensors", spoil), "img_in.bias holds values that are not finite"),
    "unknown params": (
        lambda p: header_of(p / "x.safetensors", lambda t: t.replace("mlp_ratio", "strength")),
        "carries params that cannot be read",
    ),
    "params of another kind": (
        lambda p: header_of(p / "x.safetensors", lambda t: t.replace(r"\"heads\": 2", r"\"heads\": \"2\"")),
        "carries params that cannot be read",
    ),
    "params beyond reason": (
        lambda p: header_of(
            p / "x.safetensors", lambda t: t.replace(r"single_blocks\": 3", r"single_blocks\": 3000000")
        ),
        "carries params that cannot be read: blocks must be within",
    ),
    "part missing": (without_a_part, "of which diffusion_pytorch_model-00002.* is missing"),
    "index is no json": (lambda p: with_index(p, "{"), "is not an index of safetensors files"),
    "index leads out": (
        lambda p: with_index(p, '{"weight_map": {"a": "../../secret.safetensors"}}'),
        "names '../../secret.safetensors', expected files beside it",
    ),
    "index lists nothing": (lambda p: with_index(p, '{"weight_map": {}}'), "names 'no file'"),
    "tensors twice": (twice, "lies both in .*a.safetensors and in .*b.safetensors"),
    "two wrappers": (
        lambda p: rewritten(p / "x.safetensors", lambda s: s.update({"module.img_in.bias": torch.zeros(32)})),
        "holds img_in.bias twice, as .*img_in.bias and as .*img_in.bias",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_ends_in_one_sentence(tmp_path, name):
    make, sentence = BROKEN[name]
    path = make(tmp_path)
    with pytest.raises(ShardError, match=sentence) as caught:
        checkpoints.load(path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_nothing_at_the_path_is_wrong_use(tmp_path):
    with pytest.raises(SettingsError, match=r"does not exist; name a \.safetensors file or a folder"):
        checkpoints.load(tmp_path / "nowhere")


def test_an_interrupted_conversion_publishes_nothing(tmp_path):
    source = rewritten(tmp_path / "x.safetensors", spoil)
    for layout in LAYOUTS:
        with pytest.raises(PairForgeError):
            converted(source, tmp_path / "made", layout)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_convert_writes_what_it_was_asked_for(tmp_path, capsys):
    source, model = stored(tmp_path / "x.safetensors"), small_model()
    assert run(["convert", str(source), str(tmp_path / "b"), "--to", "bundle", "--dtype", "bf16", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["found"], told["format"]) == ("native", "bundle")
    assert told["parameters"] == sum(weight.numel() for weight in model.parameters())
    assert same(checkpoints.load(tmp_path / "b"), model.bfloat16())


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["nowhere", "b", "--to", "native"], 2, "does not exist"),
        (["x.safetensors", "x.safetensors", "--to", "native"], 2, "exists; name another place"),
        (["x.safetensors", "b", "--to", "pickle"], 2, "is not one of"),
        (["broken.safetensors", "b", "--to", "bundle"], 1, "not a whole safetensors file"),
    ],
)
def test_convert_says_what_is_wrong(tmp_path, capsys, monkeypatch, arguments, status, sentence):
    monkeypatch.chdir(tmp_path)
    stored(tmp_path / "x.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"12345678{}")
    assert run(["convert", *arguments]) == status
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert sentence in said


def test_convert_without_torch_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run(["convert", str(tmp_path / "x"), str(tmp_path / "y"), "--to", "native"]) == 2
    assert capsys.readouterr().err == "error: convert needs torch: install PairForge with its `train` extra\n"


def test_small_restorers_of_an_earlier_version_are_refused_in_a_sentence(tmp_path):
    said = json.loads(params.to_json(params.tiny())) | {"reference": "added", "channels": 48}
    tensors = {name: torch.zeros(shape) for name, shape in native_shapes(params.tiny()).items()}
    save_file(tensors, tmp_path / "old.safetensors", {METADATA_KEY: json.dumps(said)})
    with pytest.raises(ShardError, match="a small restorer of an earlier version, which this one cannot run: train it"):
        checkpoints.load(tmp_path / "old.safetensors")


@pytest.mark.parametrize(("tensor", "dim"), [("reference_in.weight", 1), ("final_layer.linear.weight", 0)])
def test_small_restorers_with_other_filters_are_refused_in_a_sentence(tmp_path, tensor, dim):
    tensors = {name: torch.zeros(shape) for name, shape in native_shapes(params.tiny()).items()}
    tensors[tensor] = tensors[tensor].narrow(dim, 0, 150).contiguous()
    save_file(tensors, tmp_path / "old.safetensors", {METADATA_KEY: params.to_json(params.tiny())})
    with pytest.raises(ShardError, match="a small restorer of an earlier version, with other filters: train"):
        checkpoints.load(tmp_path / "old.safetensors")
