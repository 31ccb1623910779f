"""`pairforge doctor` tells which model backends are usable, and why not."""

import importlib.util
import json

import pytest

import filters
from flows import checks_models
from flows.__main__ import run
from flows.settings import parse_settings
from tests.test_doctor import dead_port  # noqa: F401  (a fixture)


def settings_with(tmp_path, **tables):
    content = {"seed": 1, "output": str(tmp_path / "out"), "source": {"folder": str(tmp_path)}, **tables}
    return parse_settings(content, origin="test", base=tmp_path)


def states(found):
    return {item.name: item.state for item in found}


def test_every_filter_with_a_model_is_named():
    found = states(checks_models.backends())
    needy = {f"filter {name}" for name in filters.names() if filters.load(name).needs_weights}
    assert needy
    assert needy <= set(found)
    assert set(found.values()) == {"ok"}


def test_a_backend_without_its_library_is_told_with_what_installs_it(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else real(name))
    (found,) = [item for item in checks_models.backends() if item.name == "filter watermark"]
    assert found.state == "info"
    assert "transformers not installed" in found.found
    assert "[models]" in found.fix


def test_weights_that_are_absent_cut_off_or_pickled_fail(tmp_path):
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "model.safetensors").write_bytes(b"\xff" * 20)
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "model.pt").write_bytes(b"")
    for folder, said in (("absent", "no file or folder"), ("cut", "not a whole"), ("pickled", "pairforge convert")):
        settings = settings_with(tmp_path, annotate={"depth": "midas", "depth_weights": folder})
        (found,) = checks_models.named(settings)
        assert (found.name, found.state) == ("annotate.depth_weights", "fail")
        assert said in found.found


def test_weights_that_are_whole_are_told_with_their_size(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    import numpy as np

    (tmp_path / "owl").mkdir()
    save_file({"a": np.zeros(10, np.float32)}, tmp_path / "owl" / "model.safetensors")
    (tmp_path / "owl" / "config.json").write_text('{"model_type": "owlv2"}')
    (found,) = checks_models.named(settings_with(tmp_path, filters={"watermark": {"weights": "owl"}}))
    assert (found.name, found.state) == ("filters.watermark.weights", "ok")


def test_a_server_that_does_not_listen_fails(tmp_path, dead_port):  # noqa: F811
    url = f"http://127.0.0.1:{dead_port}/v1"
    settings = settings_with(tmp_path, filters={"severity_vlm": {"url": url}})
    (found,) = checks_models.named(settings)
    assert (found.name, found.state) == ("filters.severity_vlm.url", "fail")


def test_the_command_looks_at_the_models_of_a_settings_file(tmp_path, capsys):
    file = tmp_path / "build.toml"
    models = '[annotate]\ndepth = "midas"\ndepth_weights = "none"\n'
    file.write_text(f'seed = 1\noutput = "out"\n[source]\nfolder = "{tmp_path}"\n{models}')
    assert run(["doctor", str(file), "--json"]) == 1
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert found["annotate.depth_weights"]["state"] == "fail"
