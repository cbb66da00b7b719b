"""The trace page: no way for what is in a span to become markup, and it really renders in a browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CHROMIUM, Page, browser
from weir.common import conventions as names
from weir.viewer.app import Viewer
from weir.viewer.page import STATIC
from weir.viewer.spans import Event, Span

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


def test_no_script_of_the_page_parses_markup() -> None:
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
    scripts = sorted(STATIC.glob("*.js"))
    assert scripts
    for script in scripts:
        assert not forbidden.search(script.read_text(encoding="utf-8")), script.name


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for file in STATIC.iterdir():
        addresses = re.findall(r"https?://[^\s\"')]+", file.read_text(encoding="utf-8"))
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, file.name


def test_the_page_reads_the_names_that_the_services_write() -> None:
    script = (STATIC / "verification.js").read_text(encoding="utf-8")
    lists = re.findall(r'list\("(\w+)"\)', script)
    assert len(lists) == 6
    read = {*re.findall(r'"(weir\.[a-z_.]+)"', script), *(f"weir.rounds.{name}" for name in lists)}
    assert read <= {value for value in vars(names).values() if isinstance(value, str)}
    assert f'"{names.ROUNDS_EVENT}"' in script


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
async def test_markup_in_a_span_is_shown_as_text(tmp_path: Path) -> None:
    viewer = Viewer(tmp_path / "traces.db", http_port=0, otlp_port=0)
    attributes: dict[str, Any] = {
        "weir.tier": EVIL,
        "weir.model": EVIL,
        "weir.reasons": [EVIL],
        EVIL: EVIL,
        "rpc.response.status_code": EVIL,
    }
    event = Event(EVIL, 1_500, {EVIL: EVIL})
    trace_id = "ab" * 16
    span = Span(
        trace_id, "cd" * 8, "", EVIL, EVIL, "server", 1_000, 2_000, "error", EVIL, attributes, (event,)
    )
    try:
        await viewer.start()
        viewer.store.add([span])
        await viewer.store.flush()
        async with browser(tmp_path / "profile") as page:
            await page.call("Page.navigate", url=viewer.url)
            await page.until("document.querySelector('table.requests')")
            assert await page.evaluate("document.querySelector('td.model').textContent") == EVIL
            await page.call("Page.navigate", url=f"{viewer.url}/trace/{trace_id}")
            await page.until("document.querySelector('button.span')")
            await page.evaluate("document.querySelector('button.span').click()")
            assert EVIL in await page.evaluate("document.querySelector('.details').textContent")
            assert await page.evaluate("document.querySelectorAll('main img, main script').length") == 0
            assert "owned" not in await page.evaluate("document.title")
    finally:
        await viewer.aclose()


def rounds_event(rounds: int) -> Event:
    """As many rounds as asked: five drafted, three accepted, one token of the verifier's own."""
    attributes: dict[str, Any] = {
        names.ROUND_METHODS: ["lookup", *["model"] * (rounds - 1)],
        names.ROUND_DRAFTED: [5] * rounds,
        names.ROUND_ACCEPTED: [3] * rounds,
        names.ROUND_PRODUCED: [4] * rounds,
        names.ROUND_DRAFT_US: [40_000] * rounds,
        names.ROUND_VERIFY_US: [60_000] * rounds,
        names.ROUND_WAIT_US: [1_000] * rounds,
    }
    return Event(names.ROUNDS_EVENT, 1_500, attributes)


def verified(attributes: dict[str, Any], *events: Event) -> Span:
    name = "chat model"
    return Span(
        "ab" * 16, "cd" * 8, "", name, "verifier", "internal", 1_000, 2_000, "ok", "", attributes, events
    )


@asynccontextmanager
async def shown(folder: Path, span: Span) -> AsyncIterator[Page]:
    """The page of a trace with this one span, loaded."""
    viewer = Viewer(folder / "traces.db", http_port=0, otlp_port=0)
    try:
        await viewer.start()
        viewer.store.add([span])
        await viewer.store.flush()
        async with browser(folder / "profile") as page:
            await page.call("Page.navigate", url=f"{viewer.url}/trace/{span.trace_id}")
            await page.until("document.querySelector('button.span')")
            yield page
    finally:
        await viewer.aclose()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
async def test_a_verified_answer_shows_its_sources_rounds_and_positions(tmp_path: Path) -> None:
    told: dict[str, Any] = {
        names.ROUNDS: 12,
        names.PASSES: 12,
        names.LEVEL: "token",
        names.TOKENS_BY_SOURCE: [36, 12, 7],
        names.JUDGED_BY_POSITION: [12, 12, 12, 12],
        names.ACCEPTED_BY_POSITION: [12, 12, 12, 0],
    }
    async with shown(tmp_path, verified(told, rounds_event(10), rounds_event(2))) as page:
        for source, tokens in (("draft", 36), ("verifier", 12), ("frontier", 7)):
            cells = f"document.querySelectorAll('.cells .source-{source}').length"
            assert await page.evaluate(cells) == tokens
        assert await page.evaluate("document.querySelectorAll('.round').length") == 12
        assert await page.evaluate("document.querySelectorAll('.method-lookup').length") == 2
        title = await page.evaluate("document.querySelectorAll('.round')[1].title")
        assert title.startswith(
            "Round 2 (model): 5 drafted, 3 stood, 4 written; drafting 40 ms, verification 60"
        )
        shares = "[...document.querySelectorAll('.position-share')].map((share) => share.textContent)"
        assert await page.evaluate(shares) == ["100%", "100%", "100%", "0%"]
        assert "4.0" in await page.evaluate("document.querySelector('.verification-facts').textContent")
        assert await page.evaluate("document.querySelectorAll('.tick').length") == 0


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
async def test_a_long_answer_stays_a_bounded_page(tmp_path: Path) -> None:
    async with shown(tmp_path, verified({}, *[rounds_event(64)] * 40)) as page:
        assert 100 < await page.evaluate("document.querySelectorAll('.round').length") <= 240
        assert await page.evaluate("document.querySelectorAll('.cells .cell').length") == 1_500
        assert "and 8,740 more" in await page.evaluate("document.querySelector('.verification').textContent")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
async def test_rounds_that_make_no_sense_break_nothing(tmp_path: Path) -> None:
    odd: dict[str, Any] = {
        names.TOKENS_BY_SOURCE: "many",
        names.PASSES: -1,
        names.LEVEL: ["token"],
        names.JUDGED_BY_POSITION: [0, "x", 3],
        names.ACCEPTED_BY_POSITION: 7,
    }
    lists: dict[str, Any] = {
        names.ROUND_METHODS: EVIL,
        names.ROUND_DRAFTED: [3, None, EVIL, -5, 2e15],
        names.ROUND_ACCEPTED: [9],
        names.ROUND_PRODUCED: {"a": 1},
    }
    async with shown(tmp_path, verified(odd, Event(names.ROUNDS_EVENT, 1_500, lists))) as page:
        assert await page.evaluate("document.querySelectorAll('.round').length") == 5
        assert await page.evaluate("document.querySelectorAll('main img, main script').length") == 0
