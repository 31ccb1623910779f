"""Weights: references are found or told in one sentence, identities follow content, loading is strict."""

import json
import os

import pytest

from storage.errors import SettingsError, ShardError
from storage.weights import check_safetensors, identity, load_pretrained, locate

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tiny():
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=16, patch_size=8))


@pytest.fixture
def folder(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_checkpoint_comes_back_as_it_was_frozen(tiny, folder):
    loaded = load_pretrained(type(tiny), str(folder))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in tiny.state_dict().items())


@pytest.mark.parametrize("reference", ["", "no/such/folder", "owner/model", "owner/model@main", "../owner@" + "0" * 39])
def test_a_reference_that_leads_nowhere_is_told_without_asking_the_network(reference, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    with pytest.raises(SettingsError, match="40-digit commit"):
        locate(reference)


def test_a_truncated_file_is_named(tiny, folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ShardError, match=r"model\.safetensors is not a whole"):
        load_pretrained(type(tiny), str(folder))


def test_a_pickle_is_not_read(tiny, folder):
    (folder / "model.safetensors").unlink()
    torch.save(tiny.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(SettingsError, match="pairforge convert"):
        load_pretrained(type(tiny), str(folder))


def test_missing_unexpected_and_misshapen_keys_are_named(tiny, folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    first, second = sorted(weights)[:2]
    weights["surplus"] = weights.pop(first)
    weights[second] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ShardError) as caught:
        load_pretrained(type(tiny), str(folder))
    assert all(name in str(caught.value) for name in (first.removeprefix("vision_model."), "surplus", "another shape"))


def test_an_index_that_names_an_absent_file_is_an_error(folder):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ShardError, match="00001-of-00002"):
        check_safetensors(folder)


def test_an_identity_follows_content_and_reads_files_once(folder, tmp_path):
    notes = tmp_path / "notes.json"
    before = identity(str(folder), notes=notes)
    stat = (folder / "model.safetensors").stat()
    assert identity(str(folder), notes=notes) == before == identity(str(folder))
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    os.utime(folder / "model.safetensors", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert identity(str(folder), notes=notes) == before  # size, time and inode are those that were noted
    os.utime(folder / "model.safetensors", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert identity(str(folder), notes=notes) != before
