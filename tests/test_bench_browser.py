"""The benchmark's page in a real browser: sliders move, nothing is loaded, nothing overflows, also on a telephone."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage import data

from flows.__main__ import run
from tests.benches import EMBEDDED, bench, save

pytestmark = pytest.mark.browser

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    clear = data.astronaut()[:256, :320]
    for number in range(5):
        noisy = np.clip(clear + np.random.default_rng(number).normal(0, 20 + 9 * number, clear.shape), 0, 255)
        save(folder / f"in/noise/{'long' * 20}{number}<b>.png", noisy.astype(np.uint8))
        save(folder / f"out/noise/{'long' * 20}{number}<b>.png", clear)
    save(folder / "in/low_light/gone.png", clear // 5)
    assert run(["evaluate", "--alone", bench(folder, EMBEDDED)]) == 0
    return folder / "scores/bench.html"


@pytest.fixture(params=[1400, 400], ids=["wide", "narrow"])
def page(page_file: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on the path; install Debian's chromium to see the page in a browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright comes with the test extra")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        opened = browser.new_page(viewport={"width": request.param, "height": 900})
        opened.faults = []
        opened.on("console", lambda message: opened.faults.append(message.text))
        opened.on("pageerror", lambda error: opened.faults.append(str(error)))
        opened.on(
            "request", lambda sent: opened.faults.extend([sent.url] * (not sent.url.startswith(("file:", "data:"))))
        )
        opened.goto(page_file.as_uri())
        opened.wait_for_load_state("networkidle")
        yield opened
        browser.close()


def test_the_page_opens_without_fault_and_fits_the_window(page: Any) -> None:
    assert page.faults == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    widths = page.eval_on_selector_all("img", "nodes => nodes.map(node => node.naturalWidth)")
    assert len(widths) == 8
    assert min(widths) > 100


def test_a_slider_tells_degraded_from_restored(page: Any) -> None:
    slider = page.locator(".compare input").first
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "60 % degraded, 40 % restored"
