"""What may be said in a benchmark's settings, and how a mistake is told."""

import re
import tomllib
from pathlib import Path

import pytest

from flows.__main__ import run
from flows.bench_settings import BenchSettings, GraderSettings, PictureSettings, RestoreSettings, read_bench
from tests.benches import EMBEDDED, bench, picture, save

pytest.importorskip("torch", reason="torch is not installed: install PairForge's `models` extra")
pytest.importorskip("lpips", reason="lpips is not installed: install PairForge's `models` extra")

RUN = (Path(__file__).parents[1] / "deploy/runs/bench.toml").read_text()
TABLES = {"": BenchSettings, "pictures": PictureSettings, "restore": RestoreSettings, "grader": GraderSettings}


@pytest.mark.parametrize("table", TABLES)
def test_the_run_in_version_control_says_every_key_and_its_default(table):
    every = tomllib.loads(re.sub(r"^#([a-z_]+ = |\[)", r"\1", RUN, flags=re.MULTILINE))
    said, fields = every.get(table, every), TABLES[table].model_fields
    assert set(fields) <= set(said)
    own = set(tomllib.loads(RUN).get(table, tomllib.loads(RUN)))
    shown = {key for key, field in fields.items() if key not in own and not field.is_required()} - {"steps", "restore"}
    assert {key: said[key] for key in shown} == {key: fields[key].default for key in shown}


def test_the_run_in_version_control_is_read(tmp_path):
    (tmp_path / "bench.toml").write_text(RUN)
    assert read_bench(tmp_path / "bench.toml").pictures.degraded.endswith("data/RealIR-Bench")


@pytest.mark.parametrize(
    ("text", "pictures", "told"),
    [
        (("", ""), {}, "no grader is named: set grader.url"),
        (("", '[grader]\nurl = "http://127.0.0.1:1/v1"\n'), {}, "lpips.weights is not set"),
        (("", '[grader]\nkid = "embedded"\n'), {}, "grader.kid is not a setting; did you mean kind?"),
        (("seeed = 3", ""), {}, "seeed is not a setting; did you mean seed?"),
        (("", ""), {"degraded": ""}, "needs pictures.degraded"),
        (('protocol = "foundir"', ""), {}, "needs pictures.clean"),
        (("", ""), {"restored": ""}, "name either pictures.restored"),
        (EMBEDDED, {"restored": "nowhere"}, "nowhere is no folder"),
        (EMBEDDED, {"restored": "empty"}, "empty holds no picture"),
        (EMBEDDED, {"restored": "other"}, "it holds x, wanted are a"),
        (EMBEDDED, {}, "nothing says what a is degraded by"),
        (EMBEDDED, {"index": "gone.tsv"}, "gone.tsv cannot be read"),
    ],
)
def test_a_mistake_ends_in_one_sentence_that_names_the_fix(text, pictures, told, tmp_path, capsys):
    for place in ("in/a", "out/a", "other/x"):
        save(tmp_path / f"{place}.png", picture(2))
    (tmp_path / "empty").mkdir()
    assert run(["evaluate", "--alone", bench(tmp_path, text, **pictures)]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in err
