"""The report in a real browser: sliders move by key and by pointer, nothing is loaded, nothing overflows."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage import data

from flows.comparison import Comparison, Restored
from flows.report import write_report
from tests.small_dataset import HOSTILE, make_dataset

pytestmark = pytest.mark.browser

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CLIP = "node => getComputedStyle(node).clipPath"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on the path; install Debian's chromium to see the report in a browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright comes with the test extra")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_dataset(
        tmp_path_factory.mktemp("browser"), photographs=2, uri=f"{'long' * 60}/{{number}}{HOSTILE}", licence="<i>free"
    )
    return write_report(root)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of two restored photographs, one of them upright and one with a hostile name."""
    file = tmp_path_factory.mktemp("comparison") / "page.html"
    made = Comparison(2)
    for name, image in (("a.jpg", data.chelsea()), (f"{HOSTILE}{'long' * 40}", data.chelsea().transpose(1, 0, 2))):
        item = Restored(name=name, task="haze", probability=0.9, width=451, height=300, seconds=1.5)
        made.add(item, np.ascontiguousarray(image) // 2, np.ascontiguousarray(image))
    made.write(file, facts=[("restored", "2"), ("weights", f"{'long' * 40}.safetensors")])
    return file


def note_and_dismiss(dialog: Any, faults: list[str]) -> None:
    faults.append(f"dialog: {dialog.message}")
    dialog.dismiss()


@pytest.fixture
def faults() -> list[str]:
    return []


@pytest.fixture(params=[1400, 400], ids=["wide", "narrow"])
def page(browser: Any, report: Path, faults: list[str], request: pytest.FixtureRequest) -> Iterator[Any]:
    yield from opened_at(report, browser, faults, request.param)


@pytest.fixture(params=[1400, 400], ids=["wide", "narrow"])
def compared(browser: Any, comparison: Path, faults: list[str], request: pytest.FixtureRequest) -> Iterator[Any]:
    yield from opened_at(comparison, browser, faults, request.param)


def opened_at(file: Path, browser: Any, faults: list[str], width: int) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": width, "height": 900})
    opened = context.new_page()
    opened.on("console", lambda message: faults.append(f"console: {message.text}"))
    opened.on("pageerror", lambda error: faults.append(f"error: {error}"))
    opened.on("dialog", lambda dialog: note_and_dismiss(dialog, faults))
    opened.on("request", lambda sent: faults.extend([sent.url] * (not sent.url.startswith(("file:", "data:")))))
    opened.goto(file.as_uri())
    yield opened
    context.close()


def test_page_opens_without_error_request_or_dialog(page: Any, faults: list[str]) -> None:
    page.wait_for_load_state("networkidle")
    assert page.locator("h2").first.inner_text() == "Funnel"
    assert faults == []


def test_every_picture_is_decoded(page: Any) -> None:
    widths = page.eval_on_selector_all("img", "nodes => nodes.map(node => node.naturalWidth)")
    assert len(widths) >= 30
    assert min(widths) > 100


def test_arrow_keys_move_the_slider(page: Any, faults: list[str]) -> None:
    slider, over = page.locator(".compare input").first, page.locator(".compare .over").first
    assert over.evaluate(CLIP) == "inset(0px 0px 0px 50%)"
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert over.evaluate(CLIP) == "inset(0px 0px 0px 60%)"
    assert slider.get_attribute("aria-valuetext") == "60 % clean, 40 % degraded"
    assert faults == []


def test_dragging_moves_the_slider_and_its_divider(page: Any) -> None:
    compare = page.locator(".compare").nth(1)
    compare.scroll_into_view_if_needed()
    box = compare.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 30, steps=4)
    page.mouse.up()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 30)
    assert compare.locator("input").input_value() == "25"
    assert compare.locator(".over").evaluate(CLIP) == "inset(0px 0px 0px 25%)"
    divider = compare.locator(".divider").bounding_box()
    assert divider["x"] + 1 == pytest.approx(box["x"] + box["width"] / 4, abs=2)


def test_setting_the_slider_by_hand_moves_the_picture(page: Any) -> None:
    slider = page.locator(".compare input").nth(2)
    slider.fill("100")
    assert page.locator(".compare .over").nth(2).evaluate(CLIP) == "inset(0px 0px 0px 100%)"


def test_nothing_is_wider_than_the_window(page: Any) -> None:
    page.eval_on_selector_all("details", "nodes => nodes.forEach(node => { node.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    right = page.eval_on_selector_all("body *", "nodes => Math.max(...nodes.map(n => n.getBoundingClientRect().right))")
    assert right <= page.viewport_size["width"]


def test_every_slider_has_a_name_and_every_picture_a_text(page: Any) -> None:
    assert page.locator("input:not([aria-label])").count() == 0
    assert page.locator("img:not([alt])").count() == 0
    labels = page.eval_on_selector_all("input", "nodes => nodes.map(node => node.ariaLabel)")
    assert all(len(label) > 10 for label in labels)


def test_injected_script_is_refused_by_the_policy(page: Any, faults: list[str]) -> None:
    page.evaluate(
        "() => { const script = document.createElement('script'); script.textContent = 'window.broken = 1';"
        " document.body.append(script); }"
    )
    assert page.evaluate("window.broken") is None
    assert any("Content Security Policy" in fault for fault in faults)


def test_before_and_after_are_compared_by_the_same_slider(compared: Any, faults: list[str]) -> None:
    slider = compared.locator(".compare input").first
    slider.focus()
    compared.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "49 % before, 51 % after"
    assert compared.locator(".compare .over").first.evaluate(CLIP) == "inset(0px 0px 0px 49%)"
    widths = compared.eval_on_selector_all("img", "nodes => nodes.map(node => node.naturalWidth)")
    assert sorted(widths) == [300, 300, 451, 451]
    assert faults == []


def test_a_comparison_is_not_wider_than_the_window(compared: Any) -> None:
    assert compared.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    right = "nodes => Math.max(...nodes.map(n => n.getBoundingClientRect().right))"
    assert compared.eval_on_selector_all("body *", right) <= compared.viewport_size["width"]
