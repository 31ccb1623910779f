"""Models that are not named, not there or others are told in one sentence before anything is begun."""

import json

import numpy as np
import pytest

pytest.importorskip("safetensors")

from safetensors.numpy import save_file

from flows.__main__ import run
from flows.checks_models import named
from flows.named_models import check_models, named_models
from flows.settings import parse_settings, read_settings
from flows.work import Units
from storage.errors import PairForgeError
from tests.builds import build_here, settings_for, write_photographs


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of OWLv2 as far as its config and a whole file of weights tell, and a broken one."""
    for name in ("owl", "broken"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": "owlv2"}))
        save_file({"a": np.zeros(4, np.float32)}, tmp_path / name / "model.safetensors")
    file = tmp_path / "broken" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    return tmp_path


WRONG = [
    ({"filters": {"clip": {}}}, r"filters\.clip\.weights", r"not set.*name a folder or hub-id@revision, or remove"),
    ({"filters": {"watermark": {}}}, r"filters\.watermark\.weights", r"not set.*remove \[filters\.watermark\]"),
    ({"filters": {"severity_vlm": {}}}, r"filters\.severity_vlm\.url", r"not set.*server's url or a folder as weights"),
    (
        {"filters": {"watermark": {"weights": "owl", "second": {}}}},
        r"filters\.watermark\.second\.url",
        r"not set.*server's url",
    ),
    ({"filters": {"clip": {"weights": "nowhere"}}}, r"filters\.clip\.weights", r"no file or folder here"),
    ({"filters": {"clip": {"weights": "openai/clip@main"}}}, r"filters\.clip\.weights", r"40-digit commit"),
    ({"filters": {"clip": {"weights": "owl"}}}, r"filters\.clip\.weights", r"holds no open_clip_config\.json"),
    ({"filters": {"watermark": {"weights": "broken"}}}, r"filters\.watermark\.weights", r"not a whole safetensors"),
    (
        {"filters": {"severity_vlm": {"weights": "owl"}}},
        r"filters\.severity_vlm\.weights",
        r"'owlv2'.*expected qwen3_vl",
    ),
    ({"filters": {"skeleton": {"weights": "owl"}}}, r"filters\.skeleton\.weights", r"'owlv2'.*expected vitpose"),
    (
        {"annotate": {"depth": "midas", "depth_weights": "owl"}},
        r"annotate\.depth_weights",
        r"'owlv2'.*expected dpt or depth_anything",
    ),
]


def settings(folder, **tables):
    content = {"seed": 1, "output": str(folder / "out"), "source": {"folder": str(folder)}, **tables}
    return parse_settings(content, origin="build.toml", base=folder)


@pytest.mark.parametrize(("tables", "key", "said"), WRONG)
def test_a_wrong_model_is_told_by_doctor_and_before_anything_is_begun(folder, tables, key, said):
    chosen = settings(folder, **tables)
    with pytest.raises(PairForgeError, match=rf"{key}.*{said}") as caught:
        check_models(chosen)
    assert "\n" not in str(caught.value)
    failed = [item for item in named(chosen) if item.state == "fail"]
    assert len(failed) == 1
    assert caught.match(failed[0].name)
    assert failed[0].fix


def test_plan_and_build_tell_it_in_one_line_and_do_nothing(folder, capsys):
    photographs = write_photographs(folder / "photographs", count=1)
    file = folder / "build.toml"
    file.write_text(f'seed = 1\noutput = "out"\n[source]\nfolder = "{photographs}"\n[filters.clip]\n')
    for command in (["plan", str(file)], ["plan", str(file), "--json"]):
        assert run(command) == 2
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert told == [
            "error: filters.clip.weights is not set: name a folder or hub-id@revision, or remove [filters.clip]"
        ]
    with pytest.raises(PairForgeError, match=r"filters\.clip\.weights is not set"):
        build_here(read_settings(file))
    assert not (folder / "out" / ".work" / "crawl").exists()


def test_both_models_of_a_filter_are_known_by_their_bytes_and_not_by_their_place(folder):
    other = folder / "elsewhere" / "people"
    other.mkdir(parents=True)
    save_file({"b": np.zeros(4, np.float32)}, other / "model.safetensors")
    (folder / "owl" / "config.json").write_text(json.dumps({"model_type": "vitpose"}))
    chosen = settings(folder, filters={"skeleton": {"weights": "owl", "detector": "elsewhere/people"}})
    assert named_models(chosen)["filters.skeleton.detector"] == str(other)
    assert "elsewhere" not in json.dumps(chosen.published())
    models = Units(chosen, lambda stage, units: None, None).models
    assert models["filters.skeleton.detector"].startswith("people:")
    save_file({"b": np.ones(4, np.float32)}, other / "model.safetensors")
    again = Units(chosen, lambda stage, units: None, None).models
    assert again["filters.skeleton.detector"] != models["filters.skeleton.detector"]
    assert again["filters.skeleton.weights"] == models["filters.skeleton.weights"]


def test_settings_without_models_are_in_order(tmp_path):
    check_models(settings_for(tmp_path, tmp_path / "out"))
