"""The first page lives in a real browser: no errors, nothing from elsewhere, and counts that move by themselves."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect, sync_playwright

from broker.engine import DestinationStatus
from broker.notices import Committed
from tests.console_engine import Aside, serving_aside

pytestmark = pytest.mark.browser


@pytest.fixture
def aside(tmp_path: Path) -> Iterator[Aside]:
    """A console in another thread."""
    with serving_aside(tmp_path) as aside:
        yield aside


@pytest.fixture
def page(need: Callable[[str], str]) -> Iterator[Any]:
    """A page of a fresh browser."""
    chromium = need("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


def cell(page: Any, field: str) -> Any:
    """Return one cell of the channel's row."""
    return page.locator(f'tr[data-channel="adt"] [data-field="{field}"]')


def test_first_page_loads_clean_and_counts_move(aside: Aside, page: Any) -> None:
    """Zero console errors, zero requests to elsewhere, and a message shows without a reload."""
    wrong: list[str] = []
    asked: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    practice = aside.practice
    page.goto(practice.url)
    expect(page.locator("#link")).to_have_text("live", timeout=10_000)
    expect(cell(page, "received")).to_have_text("0")
    aside.do(practice.filling.receive("C1"))
    message = aside.do(practice.filling.receive("C2"))
    practice.report(Committed(units=2, seconds=0.001))
    expect(cell(page, "received")).to_have_text("2", timeout=3000)
    expect(cell(page, "queued")).to_have_text("2")
    aside.do(practice.filling.finish(message))
    aside.do(practice.filling.end(message, "dead", "rejected", "422"))
    practice.report(Committed(units=1, seconds=0.001))
    expect(cell(page, "dead")).to_have_text("1", timeout=3000)
    expect(page.locator("caption")).to_contain_text("Channels")
    expect(cell(page, "destinations")).to_have_text("–")  # noqa: RUF001 - a dash is meant
    practice.engine.state.destinations = [DestinationStatus("prm", "paused"), DestinationStatus("ehr", "open")]
    practice.report(Committed(units=1, seconds=0.001))
    expect(cell(page, "destinations")).to_have_text("prm paused, ehr left alone", timeout=3000)
    page.reload()
    expect(cell(page, "destinations")).to_have_text("prm paused, ehr left alone")
    assert page.locator("thead th[scope=col]").count() == 11
    assert wrong == []
    assert [url for url in asked if not url.startswith(practice.url)] == []
    assert page.evaluate("performance.getEntriesByType('navigation')[0].responseStatus") == 200
