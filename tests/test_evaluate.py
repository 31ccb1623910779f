"""`pairforge evaluate` from settings to results: what is measured, counted, kept, told and shown."""

import html
import json
import re

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from skimage import data

from filters._reference import psnr, ssim
from flows.__main__ import run
from flows.bench_page import PER_TASK, examples
from tests.benches import EMBEDDED, bench, photographs, picture, result, save
from tests.small_dataset import HOSTILE, make_dataset
from tests.vlm_server import Answer, graded, picture_in, prompt_in, said, serve
from training.benchmark.published import realir_table
from training.benchmark.scores import Outcome, fs

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `models` extra")
pytest.importorskip("lpips", reason="lpips is not installed: install PairForge's `models` extra")
safetensors_torch = pytest.importorskip("safetensors.torch")

SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
KEY = "canary-77ab"


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    generator = torch.Generator().manual_seed(0)
    weights = {f"features.{n}.weight": torch.randn(s, generator=generator) * 0.02 for n, s in SHAPES.items()}
    weights |= {f"features.{n}.bias": torch.zeros(s[0]) for n, s in SHAPES.items()}
    path = tmp_path_factory.mktemp("lpips") / "alexnet.safetensors"
    safetensors_torch.save_file(weights, path)
    return path


def by_brightness(number, body):
    return graded(int(np.clip(round(picture_in(body).mean() / 40), 1, 5)))


GRADES = {"rain/a": (1, 4), "rain/b": (3, 2), "rain/c": (2, 3), "haze/a": (2, 2), "haze/b": (4, 5)}


@pytest.fixture
def pictures(tmp_path):
    """Write inputs and outputs with the grades above, and one input without an output."""
    for name, (before, after) in GRADES.items():
        save(tmp_path / "in" / f"{name}.PNG", picture(before))
        save(tmp_path / "out" / f"{name}.png", picture(after))
    save(tmp_path / "in/haze/gone.png", picture(2))
    return tmp_path


def with_vlm(folder, url, alexnet, *, top="", more="", **pictures):
    tables = f'[grader]\nurl = "{url}"\n{more}\n[lpips]\nweights = "{alexnet}"\n'
    return bench(folder, (top, tables), **pictures)


def evaluated(folder, alexnet, replies=by_brightness, **options):
    """Run the benchmark with a server that replies so; return status, result and server."""
    with serve(replies) as running:
        status = run(["evaluate", "--alone", with_vlm(folder, running.url, alexnet, **options)])
    return status, result(folder), running


def values(scores):
    return {name: score["value"] for name, score in scores["scores"].items()}


def test_gains_missing_pictures_and_averages_by_hand(pictures, alexnet, capsys):
    status, found, _ = evaluated(pictures, alexnet)
    assert status == 0
    rain, haze = values(found["tasks"]["rain"]), values(found["tasks"]["haze"])
    assert rain["rs"] == pytest.approx((3 + 0 + 1) / 3)
    assert rain["rs_unclamped"] == pytest.approx((3 - 1 + 1) / 3)
    assert haze["rs"] == pytest.approx((0 + 1 + 0) / 3)  # the missing one counts
    lps = {item["name"]: item["values"].get("lps") for item in found["outcomes"]}
    mean = np.mean([lps["haze/a"], lps["haze/b"]])
    assert haze["lps"] == pytest.approx(mean)
    assert haze["fs_paper"] == pytest.approx(fs(mean, 1 / 3))
    assert haze["fs_code"] == pytest.approx(fs(lps["haze/b"], 1) / 3)
    average = values(found["average"])
    assert average["fs_paper"] == pytest.approx(fs((rain["lps"] + haze["lps"]) / 2, (rain["rs"] + haze["rs"]) / 2))
    assert found["unscored"] == [{"name": "haze/gone", "task": "haze", "reason": "missing"}]
    assert (found["pictures"], found["scored"], found["tasks"]["haze"]["coverage"]) == (6, 5, pytest.approx(2 / 3))
    assert "haze/gone: missing" in capsys.readouterr().out


def test_each_picture_is_asked_about_its_own_degradation_only(pictures, alexnet):
    _, _, running = evaluated(pictures, alexnet)
    asked = {("rain" if "rain" in prompt_in(body).split("\n")[0] else "haze") for body in running.bodies}
    assert asked == {"rain", "haze"}
    assert len(running.bodies) == len({json.dumps(body) for body in running.bodies})


def test_the_published_table_stands_beside(pictures, alexnet, capsys):
    _, found, _ = evaluated(pictures, alexnet)
    assert found["published"]["RealRestorer"]["average"] == list(realir_table()["RealRestorer"]["average"])
    assert re.search(r"RealRestorer +0\.445 +1\.312 +0\.146", capsys.readouterr().out)


def test_a_second_run_asks_nothing_and_writes_the_same_bytes(pictures, alexnet):
    evaluated(pictures, alexnet)
    before = {name: (pictures / "scores" / name).read_bytes() for name in ("bench.json", "bench.html")}
    _, _, running = evaluated(pictures, alexnet, replies=lambda number, body: Answer(status=500))
    assert running.bodies == []
    assert {name: (pictures / "scores" / name).read_bytes() for name in before} == before


def test_a_run_that_was_cut_off_goes_on_where_it_was(pictures, alexnet):
    def dying(number, body):
        return by_brightness(number, body) if number < 4 else Answer(status=403)

    with serve(dying) as running:
        assert run(["evaluate", "--alone", with_vlm(pictures, running.url, alexnet, more="concurrency = 1")]) == 2
    _, found, again = evaluated(pictures, alexnet)
    assert len(again.bodies) < 8
    assert values(found["tasks"]["rain"])["rs"] == pytest.approx(4 / 3)


def test_an_unreadable_answer_counts_as_no_gain_and_is_told(pictures, alexnet):
    def sulking(number, body):
        return said("no") if abs(picture_in(body).mean() - 160) < 20 else by_brightness(number, body)

    _, found, _ = evaluated(pictures, alexnet, replies=sulking)
    reasons = {item["name"]: item["reason"] for item in found["unscored"]}
    assert reasons == {"rain/a": "unreadable", "haze/b": "unreadable", "haze/gone": "missing"}
    assert values(found["tasks"]["rain"])["rs"] == pytest.approx(1 / 3)


def test_a_broken_output_is_a_reason_not_an_error(pictures, alexnet):
    file = pictures / "out/rain/a.png"
    file.write_bytes(file.read_bytes()[:-400])
    (pictures / "out/rain/b.png").write_bytes(b"GIF89a")
    status, found, _ = evaluated(pictures, alexnet)
    reasons = {item["name"]: item["reason"] for item in found["unscored"]}
    assert (status, set(reasons)) == (0, {"rain/a", "rain/b", "haze/gone"})
    assert all(reason.startswith("restored_") for name, reason in reasons.items() if name.startswith("rain"))


def test_an_output_of_another_size_is_resized_to_its_input(pictures, alexnet):
    save(pictures / "out/rain/a.png", picture(4, shape=(96, 128)))
    _, found, running = evaluated(pictures, alexnet)
    assert not any(item["name"] == "rain/a" for item in found["unscored"])
    assert len({picture_in(body).shape for body in running.bodies}) == 1


def test_a_transport_that_stays_down_ends_in_one_sentence(pictures, alexnet, capsys, monkeypatch):
    monkeypatch.setattr("filters._vlm_server.Patience.delay", lambda self, tried, wanted: 0)
    with serve(lambda number, body: Answer(status=503)) as running:
        assert run(["evaluate", "--alone", with_vlm(pictures, running.url, alexnet)]) == 1
    assert re.search(r"error: http://127\.0\.0\.1.* answered 503", capsys.readouterr().err)


def test_the_key_and_the_servers_address_stand_in_no_result(pictures, alexnet, capsys, monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    _, _, running = evaluated(pictures, alexnet, more='api_key_env = "SOME_KEY"')
    assert running.headers[0]["Authorization"] == f"Bearer {KEY}"
    files = [file.read_bytes().decode(errors="replace") for file in (pictures / "scores").rglob("*") if file.is_file()]
    told = [*files, *capsys.readouterr()]
    assert not any(KEY in text or running.url in text for text in told)


def test_large_pictures_wait_for_their_grades_in_small_groups(pictures, alexnet, monkeypatch):
    _, found, _ = evaluated(pictures, alexnet)
    monkeypatch.setattr("tasks.evaluate.MOST_BYTES", 20_000)
    monkeypatch.setattr("tasks.evaluate.GROUP", 3)
    (pictures / "scores/bench.json").unlink()
    assert evaluated(pictures, alexnet)[1] == found


def test_json_is_the_whole_of_standard_output(pictures, alexnet, capsys):
    with serve(by_brightness) as running:
        assert run(["evaluate", "--alone", with_vlm(pictures, running.url, alexnet), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["average"] == result(pictures)["average"]
    assert set(told["files"]) == {"json", "html"}


def test_the_embedded_grader_needs_no_weights_and_is_named_as_such(tmp_path, capsys):
    photographs(tmp_path)
    assert run(["evaluate", "--alone", bench(tmp_path, EMBEDDED)]) == 0
    found, told = result(tmp_path), capsys.readouterr().out
    assert (found["grader"], found["distance"]) == ("embedded", "1 - SSIM")
    assert all(title in told for title in ("EMBEDDED", "1 - SSIM", "RS (embedded)", "FS paper (embedded)"))
    outcomes = {item["name"]: item["values"] for item in found["outcomes"]}
    assert outcomes["noise/a"]["after"] > outcomes["noise/a"]["before"]
    assert outcomes["noise/b"]["after"] == outcomes["noise/b"]["before"]


def test_nothing_published_stands_beside_the_embedded_graders_numbers(tmp_path, capsys):
    photographs(tmp_path)
    run(["evaluate", "--alone", bench(tmp_path, EMBEDDED)])
    page = (tmp_path / "scores/bench.html").read_text()
    assert result(tmp_path)["published"] == {}
    assert "not by a vision-language model" in page
    assert not any("Nano Banana" in text for text in (page, capsys.readouterr().out))


def test_the_embedded_grader_refuses_what_it_does_not_know(tmp_path, capsys):
    save(tmp_path / "in/a.png", picture(1))
    save(tmp_path / "out/a.png", picture(2))
    assert run(["evaluate", "--alone", bench(tmp_path, EMBEDDED, task="sandstorm")]) == 2
    assert "does not know sandstorm" in capsys.readouterr().err


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("small") / "dataset", photographs=6)


def keys_of(dataset, split):
    from flows.dataset import Dataset

    return {
        row["key"]: row for row in Dataset(dataset).rows("pairs") if row["status"] == "kept" and row["split"] == split
    }


def test_a_dataset_of_ours_is_tested_against_its_clean_sides(dataset, tmp_path):
    from flows.dataset import Dataset

    rows = keys_of(dataset, "train")
    gone = sorted(rows)[0]
    for key in rows:
        if key != gone:
            save(tmp_path / f"out/{key}.png", Dataset(dataset).stored(key).image("clean"))
    top = 'protocol = "reference"'
    file = bench(tmp_path, (top, ""), degraded=str(dataset), clean=str(dataset), split="train")
    assert run(["evaluate", "--alone", file]) == 0
    found = result(tmp_path)
    assert found["unscored"] == [{"name": gone, "task": rows[gone]["name"], "reason": "missing"}]
    assert set(found["tasks"]) == {"blur", "haze", "noise"}
    assert values(found["average"])["psnr"] == 100
    of_haze = [item for item in found["outcomes"] if item["task"] == "haze"]
    for item in of_haze:
        assert item["values"]["input_psnr"] == pytest.approx(rows[item["name"]]["scores"]["strength.psnr"], abs=1e-6)


def test_full_reference_by_an_obvious_computation(tmp_path, alexnet):
    clean = data.chelsea()[:64, :80]
    worse = cv2.GaussianBlur(clean, (0, 0), 2)
    for place, image in (("gt", clean), ("out", worse), ("in", cv2.GaussianBlur(clean, (0, 0), 4))):
        save(tmp_path / place / "a.png", image)
    tables = f'[lpips]\nweights = "{alexnet}"\n'
    assert run(["evaluate", "--alone", bench(tmp_path, ('protocol = "reference"', tables), clean="gt")]) == 0
    found = values(result(tmp_path)["average"])
    error = ((clean.astype(float) - worse.astype(float)) ** 2).mean()
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / error))
    assert found["ssim"] == pytest.approx(ssim(clean, worse))
    assert found["input_psnr"] < found["psnr"]
    assert found["lpips"] > 0


def test_the_benchmarks_parquet_is_scored_against_a_folder_of_outputs(tmp_path):
    photographs(tmp_path, side=128)
    rows = [{"bytes": (tmp_path / f"in/noise/{name}.png").read_bytes(), "path": f"{name}.png"} for name in "ab"]
    (tmp_path / "bench").mkdir()
    pq.write_table(pa.table({"image": rows}), tmp_path / "bench/noise-00000-of-00001.parquet")
    assert run(["evaluate", "--alone", bench(tmp_path, EMBEDDED, degraded="bench")]) == 0
    assert {item["name"]: item["reason"] for item in result(tmp_path)["outcomes"]} == {"noise/a": "", "noise/b": ""}


def test_foundir_is_scored_by_subset_beside_what_others_published(tmp_path):
    clean, worse = data.chelsea()[:64, :80], cv2.GaussianBlur(data.chelsea()[:64, :80], (0, 0), 1)
    for place in ("01Blur/GT/0001.png", "08Haze/GT/0501.png"):
        save(tmp_path / "test" / place, clean)
        save(tmp_path / "test" / place.replace("GT", "LQ"), worse)
        save(tmp_path / "out" / place.rsplit("/", 1)[1], clean if "Haze" in place else worse)
    top = 'protocol = "foundir"'
    assert run(["evaluate", "--alone", bench(tmp_path, (top, ""), degraded="test", clean="test")]) == 0
    found = result(tmp_path)
    assert values(found["tasks"]["blur"])["psnr"] == pytest.approx(psnr(clean, worse))
    assert values(found["tasks"]["haze"])["psnr"] == 100
    assert values(found["average"])["psnr"] == pytest.approx((psnr(clean, worse) + 100) / 2)
    assert found["published"]["FoundIR generalist"]["haze"] == [16.65, 0.781]


def test_a_dataset_is_no_place_for_restored_pictures(dataset, tmp_path, capsys):
    file = bench(tmp_path, ('protocol = "reference"', ""), degraded="", clean=str(dataset), restored=str(dataset))
    assert run(["evaluate", "--alone", file]) == 2
    assert "<key>.png" in capsys.readouterr().err


def test_hostile_names_are_shown_as_text(tmp_path, capsys):
    name = HOSTILE.replace("/", "_").encode()[:200].decode(errors="ignore").replace("\n", "")
    for place in ("in", "out"):
        save(tmp_path / place / "noise" / f"{name}.png", data.astronaut()[:64, :64])
    assert run(["evaluate", "--alone", bench(tmp_path, EMBEDDED)]) == 0
    page = (tmp_path / "scores/bench.html").read_text()
    assert "<script>alert" not in page
    assert "\u202e" not in page


def test_the_page_loads_nothing_and_says_so_in_its_policy(tmp_path):
    photographs(tmp_path)
    run(["evaluate", "--alone", bench(tmp_path, EMBEDDED)])
    page = html.unescape((tmp_path / "scores/bench.html").read_text())
    assert "default-src 'none'" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert page.count("<figure>") == 2


def test_the_page_stays_small_however_many_pictures_there_are():
    outcomes = [
        Outcome(
            name=f"{n:03d}",
            task="rain",
            reason="" if n % 9 else "missing",
            values={"lps": 0.1, "before": 1, "after": 1 + n % 5},
        )
        for n in range(500)
    ]
    chosen = examples(outcomes)
    assert len(chosen) == PER_TASK
    gains = [item.values["after"] - item.values["before"] for item in chosen]
    assert (gains[0], gains[-1]) == (4, 0)
    assert not any(item.reason for item in chosen)
