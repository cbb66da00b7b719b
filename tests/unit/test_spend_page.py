"""The spend page in a real browser: what it shows, and that no name becomes markup."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import CHROMIUM, browser
from weir.common.config import Settings
from weir.spending.report import Budget, ModelState, Report, Saved, Spent, Wanted
from weir.spending.source import SpendSource
from weir.viewer.app import Viewer
from weir.viewer.page import STATIC
from weir.viewer.spend import today

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


class Reports(SpendSource):
    """A source with one report, in which every name is hostile."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, "unix:nobody")
        self.wanted: list[Wanted] = []

    async def report(self, wanted: Wanted) -> Report:
        self.wanted.append(wanted)
        day = today().isoformat() if wanted.by_day else ""
        spent = Spent(day, EVIL, EVIL, EVIL, 1, 900, 0, 0, 100, 0, 0.75, 0.0, replay=True)
        return Report(
            (spent, Spent(day, "acme", "openai", "gpt-4o", 2, 90, 0, 0, 10, 0, 0.25, 0.0, replay=False)),
            (Budget(EVIL, EVIL, "month", 10.0, 9.5, 0.5, 1_772_323_200.0),),
            (ModelState(EVIL, EVIL, 1.0, 2.0, False, "open", False, True),),
            (Saved(day, EVIL, EVIL, 3, 30, 0.0, 1.0),),
        )


def test_the_page_reads_the_fields_that_the_report_has() -> None:
    script = (STATIC / "spend.js").read_text(encoding="utf-8")
    for kind in (Budget, ModelState, Saved, Spent):
        unread = {"cache_write_tokens", "available", "committed_usd"}
        for name in set(kind.__dataclass_fields__) - unread:
            assert f".{name}" in script or f'"{name}"' in script, name


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
async def test_spending_is_shown_and_names_are_text(tmp_path: Path, settings: Settings) -> None:
    reports = Reports(settings)
    viewer = Viewer(tmp_path / "traces.db", http_port=0, otlp_port=0, spend=reports)
    await viewer.start()
    try:
        async with browser(tmp_path / "profile") as page:
            await page.call("Page.navigate", url=f"{viewer.url}/spend")
            await page.until("document.querySelectorAll('.parts table').length === 3")
            shown = await page.evaluate("document.querySelector('main').textContent")
            assert shown.count(EVIL) >= 6
            assert "$0.5 left, anew on 2026-03-01 UTC" in shown
            assert "100%$1.00 of $1.00" in shown
            assert await page.evaluate("document.querySelectorAll('.circuit.open').length") == 1
            assert await page.evaluate("document.querySelectorAll('main img, main script').length") == 0
            assert await page.evaluate("document.title") == "Weir spend"
            await page.evaluate("document.querySelectorAll('.filters button')[1].click()")
            await page.until("document.querySelectorAll('.day').length === 7")
            assert await page.evaluate("location.search") == "?days=7"
            await page.evaluate("document.querySelector('.segments:last-child button:last-child').click()")
            await page.until("!document.querySelector('.budget')")
            rows = "[...document.querySelectorAll('.part:last-child tbody tr td:nth-child(2)')]"
            assert await page.evaluate(f"{rows}.map((cell) => cell.textContent)") == ["acme"]
    finally:
        await viewer.aclose()
    assert reports.wanted[0] == Wanted()
    assert any(wanted.by_day for wanted in reports.wanted)
