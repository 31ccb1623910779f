"""The report: everything adds up, nothing is executed, the size is bounded whatever the dataset."""

import base64
import hashlib
import json
import shutil
import tracemalloc
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.dataset import Dataset
from flows.report import content, shown, write_report
from flows.report_ledger import MAX_NAMES, Sample, pairs, photographs
from flows.report_pictures import BUDGET, Pictures, view
from flows.report_scores import BINS, FATES, histograms
from storage.errors import ShardError
from storage.ledger import IMAGES, PAIRS, read_table, write_table
from tests.small_dataset import HOSTILE, NAMES, degraded, drawn, make_dataset


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("small"))


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "copy"))


def noise(seed: int, shape: tuple[int, int] = (480, 480)) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


class Page(HTMLParser):
    """Counts the elements of a page and gathers its attributes and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = Counter[str](), list[tuple[str, str]](), ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.extend((name, value or "") for name, value in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_funnels_add_up_and_count_every_row(small: Path) -> None:
    dataset = Dataset(small)
    for kind, funnel in (("images", photographs(dataset).funnel), ("pairs", pairs(dataset).funnel)):
        statuses = Counter(row["status"] for row in dataset.rows(kind))
        assert funnel.total == statuses.total()
        assert (funnel.kept, funnel.dropped, funnel.failed) == tuple(statuses[s] for s in ("kept", "dropped", "failed"))
        assert funnel.losses[-1].before - funnel.losses[-1].count == funnel.kept


def test_losses_come_in_the_order_of_the_stages(small: Path) -> None:
    assert [loss.stage for loss in pairs(Dataset(small)).funnel.losses] == ["mixture", "degrade", "strength"]


@pytest.mark.parametrize("damage", [{"reason": ""}, {"status": "lost"}, {"status": "kept"}, {"status": None}])
def test_row_that_is_neither_kept_nor_lost_for_a_reason_is_refused(copy: Path, damage: dict[str, str]) -> None:
    ledger = copy / "ledger" / "images-000000.parquet"
    rows = read_table(ledger)
    at = next(at for at, row in enumerate(rows) if row["status"] == "dropped")
    write_table(ledger, [*rows[:at], rows[at] | damage, *rows[at + 1 :]], IMAGES)
    with pytest.raises(ShardError, match="damaged"):
        write_report(copy)
    assert not (copy / "report.html").exists()


def test_ledger_that_keeps_other_pairs_than_the_shards_is_refused(copy: Path) -> None:
    ledger = copy / "ledger" / "pairs-000000.parquet"
    write_table(ledger, read_table(ledger)[1:], PAIRS)
    with pytest.raises(ShardError, match="other pairs than the manifest"):
        write_report(copy)


def test_same_dataset_makes_the_same_report(small: Path) -> None:
    assert write_report(small).read_bytes() == write_report(small).read_bytes()


def test_every_name_has_a_slider_of_every_level(small: Path) -> None:
    slides = content(Dataset(small))["slides"]
    assert {name: [slide.level for slide in row] for name, row in slides.items()} == {
        name: [1, 2, 3, 4, 5] for name in NAMES
    }


def test_row_of_sliders_shows_as_many_photographs_as_there_are(small: Path) -> None:
    for row in content(Dataset(small))["slides"].values():
        assert len({slide.source["uri"] for slide in row}) == 4


def test_sections_hold_what_the_dataset_says(small: Path) -> None:
    text = Page(write_report(small).read_text()).text
    for expected in ("69 = 60 kept + 6 dropped + 3 failed", "7 = 4 kept + 2 dropped + 1 failed", "CC0-1.0"):
        assert expected in text
    for expected in (
        "author 0",
        "too weak",
        "psnr 61, kept up to",
        "41.0 s",
        "images_per_bucket",
        "pairforge explain . ",
    ):
        assert expected in text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    root = make_dataset(
        tmp_path, names=("haze",), photographs=1, uri=f"{{number}}{HOSTILE}", licence="</td><script>2</script>"
    )
    html = write_report(root).read_text()
    page = Page(html)
    assert (page.tags["script"], page.tags["style"], page.tags["b"]) == (1, 1, html.count("<b>"))
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert "\u202e" not in html
    assert "<script>alert('x')</script>" in page.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b \u00e4 \u6f22.jpg", "a/b \u00e4 \u6f22.jpg"),
        ("a\nb\x00", "a\\u000ab\\u0000"),
        ("\u202egpj.exe\u2066", "\\u202egpj.exe\\u2066"),
        ("\udcff", "\\udcff"),
    ],
)
def test_unseen_letters_are_escaped(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_long_names_are_cut_in_the_middle() -> None:
    assert shown("a" * 500 + "z" * 500, 20) == "a" * 10 + " ... " + "z" * 10


def test_policy_allows_the_own_style_and_script_by_hash_and_nothing_else(small: Path) -> None:
    html = write_report(small).read_text()
    inline = {tag: html.split(f"<{tag}>")[1].split(f"</{tag}>")[0] for tag in ("style", "script")}
    hashes = {tag: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for tag, text in inline.items()}
    expected = [f"{tag}-src 'sha256-{value}'" for tag, value in hashes.items()]
    policy = next(value for name, value in Page(html).attributes if name == "content" and "default-src" in value)
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        *expected,
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_every_address_is_data_or_a_place_on_the_page(small: Path) -> None:
    attributes = Page(write_report(small).read_text()).attributes
    addresses = [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]
    assert addresses
    assert all(value.startswith(("data:image/webp;base64,", "data:,", "#")) for value in addresses)
    places = {value for name, value in attributes if name == "id"}
    assert {value[1:] for value in addresses if value.startswith("#")} <= places


def test_rejects_are_shown_while_their_work_files_exist(small: Path, copy: Path) -> None:
    with_work = content(Dataset(small))["rejects"]
    shutil.rmtree(copy / ".work")
    without = content(Dataset(copy))["rejects"]
    assert sum(1 for item in with_work["pairs"] if item.clean and item.degraded) == len(NAMES)
    assert [item.title for item in with_work["photographs"] if item.clean] == ["photographs/4.jpg"]
    assert not [item for found in without.values() for item in found if item.clean]
    assert [item.key for item in without["pairs"]] == [item.key for item in with_work["pairs"]]


def test_report_of_a_dataset_without_work_folder_says_so(copy: Path) -> None:
    shutil.rmtree(copy / ".work")
    assert "work folder holds no times" in write_report(copy).read_text()


def test_pair_made_with_another_recipe_is_not_shown_as_the_reject(copy: Path) -> None:
    ledger = copy / "ledger" / "pairs-000000.parquet"
    rows = [row | {"recipe": row["recipe"].replace('"seed":1', '"seed":2')} for row in read_table(ledger)]
    write_table(ledger, rows, PAIRS)
    assert not [item for item in content(Dataset(copy))["rejects"]["pairs"] if item.clean]


def test_histograms_count_every_finite_value_once_by_its_fate(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    fates = {"kept": ("kept", ""), "dropped here": ("dropped", "a"), "dropped elsewhere": ("failed", "b")}
    chosen = [FATES[int(at)] for at in rng.integers(0, 3, 40_000)]
    rows: list[dict[str, Any]] = [
        {"key": str(at), "status": fates[fate][0], "stage": fates[fate][1], "scores": {"a.x": float(value), "b.y": 1.0}}
        for at, (fate, value) in enumerate(zip(chosen, rng.normal(size=len(chosen)), strict=True))
    ]
    rows[5]["scores"], rows[6]["scores"] = None, {"a.x": float("nan")}
    write_table(tmp_path / "p.parquet", rows, PAIRS)
    found = {item.name: item for item in histograms([tmp_path / "p.parquet"])}
    counted = Counter(chosen[:5] + chosen[7:])
    assert {fate: sum(found["a.x"].bars[fate]) for fate in FATES} == counted
    assert (found["b.y"].total, found["b.y"].typical) == (counted.total(), 1.0)
    values = [row["scores"]["a.x"] for row in rows[7:] if row["status"] == "kept"]
    assert found["a.x"].typical == pytest.approx(np.median(values), abs=0.01)


def test_histogram_bars_are_those_of_a_plain_count(tmp_path: Path) -> None:
    values = np.random.default_rng(2).uniform(10, 20, 5_000)
    rows = [{"key": str(at), "status": "kept", "scores": {"a.x": float(value)}} for at, value in enumerate(values)]
    write_table(tmp_path / "p.parquet", rows, PAIRS)
    (found,) = histograms([tmp_path / "p.parquet"])
    expected, _ = np.histogram(values, bins=BINS, range=(found.low, found.high))
    assert np.abs(np.subtract(found.bars["kept"], expected)).max() <= 2  # values on the fine grid's borders


@pytest.mark.parametrize("far", [50.0, 1e6, -1e9, 1e308, float("inf")])
def test_far_value_does_not_squeeze_the_histogram(tmp_path: Path, far: float) -> None:
    values = [*np.linspace(0, 1, 2_000), far]
    rows = [{"key": str(at), "status": "kept", "scores": {"a.x": float(value)}} for at, value in enumerate(values)]
    write_table(tmp_path / "p.parquet", rows, PAIRS)
    (found,) = histograms([tmp_path / "p.parquet"])
    assert (found.low, found.high) == pytest.approx((0, 1), abs=0.05)
    assert found.typical == pytest.approx(0.5, abs=0.01)
    assert sum(found.bars["kept"]) == len(values) - (far > 1e300)


def test_change_that_a_small_copy_would_hide_is_shown_as_a_detail() -> None:
    clean = drawn(3, (700, 1000))
    assert view(clean, degraded(clean, "noise", 0.5, 1))[2]
    assert not view(clean, degraded(clean, "haze", 0.5, 1))[2]


def test_detail_lies_where_the_image_changed_most() -> None:
    clean = drawn(3, (700, 1000))
    bad = clean.copy()
    bad[600:640:4, 900:940:4] ^= 128
    first, second, detail = view(clean, bad)
    assert detail
    assert np.count_nonzero(first != second) == np.count_nonzero(clean != bad)


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (3, 3), (481, 2), (300, 900)])
def test_images_of_any_shape_have_a_picture(shape: tuple[int, int]) -> None:
    first, second = Pictures(2).pair(noise(1, shape), noise(2, shape))
    assert first.uri.startswith("data:image/webp;base64,")
    assert (first.width, first.height) == (second.width, second.height)
    assert max(first.width, first.height) <= 480


def test_pictures_of_pure_noise_keep_the_budget() -> None:
    budget = BUDGET // 45  # the share of 6 of the 270 pictures there are at most
    pictures = Pictures(6, budget=budget)
    made = [picture for number in range(3) for picture in pictures.pair(noise(number), noise(99 - number))]
    assert sum(len(picture.uri) for picture in made) < 4 / 3 * budget + 100 * len(made)
    assert all(len(picture.uri) > 1000 for picture in made)


def test_more_names_than_a_page_holds_are_counted_not_shown(tmp_path: Path) -> None:
    names = [f"name_{number}" for number in range(MAX_NAMES + 3)]
    what = content(Dataset(make_dataset(tmp_path, names=names, photographs=1, shape=(16, 24))))
    assert (len(what["slides"]), what["more_names"]) == (MAX_NAMES, 3)
    assert len(what["rejects"]["pairs"]) == 12


def test_dataset_without_pairs_has_a_report(tmp_path: Path) -> None:
    text = Page(write_report(make_dataset(tmp_path, names=(), photographs=1)).read_text()).text
    assert "0 = 0 kept + 0 dropped + 0 failed" in text
    assert "No pair was kept." in text


def test_sample_does_not_depend_on_the_order_of_rows() -> None:
    rows = [{"key": str(number)} for number in range(100)]
    samples = [Sample(), Sample()]
    for sample, ordered in zip(samples, (rows, rows[::-1]), strict=True):
        for row in ordered:
            sample.offer(int(row["key"]) % 3, row["key"], row, size=4)
    assert samples[0].spread(7) == samples[1].spread(7)
    assert {int(row["key"]) % 3 for row in samples[0].spread(3)} == {0, 1, 2}


def test_memory_does_not_grow_with_the_ledger(copy: Path) -> None:
    lost = {"status": "dropped", "stage": "mixture", "reason": "over_quota", "name": "haze", "level": 1}

    def peak(parts: int) -> int:
        for part in range(1, parts + 1):
            rows = [lost | {"key": f"{part}-{at}", "scores": {"strength.psnr": float(at)}} for at in range(2_500)]
            write_table(copy / "ledger" / f"pairs-{part:06d}.parquet", rows, PAIRS)
        tracemalloc.start()
        pairs(Dataset(copy)), histograms(Dataset(copy).ledger("pairs"))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(6) < 1.1 * peak(2)


def test_dataset_of_the_fixture_is_whole(small: Path) -> None:
    manifest = Dataset(small).manifest
    for entry in (*manifest.shards, *manifest.files):
        assert hashlib.sha256((small / entry.name).read_bytes()).hexdigest() == entry.sha256
    stored = Dataset(small).stored(Dataset(small).keys("train-000000")[0])
    assert stored.pair.key == stored.record["key"]
    assert pq.read_schema(small / "ledger" / "images-000000.parquet") == IMAGES
    assert json.loads((small / "settings.json").read_bytes())["seed"] == 7
