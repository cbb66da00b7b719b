"""What the spend page asks for: the report of all time, or of the last days, as JSON."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from aiohttp import web

from weir.client.errors import WeirClientError
from weir.spending.report import Wanted
from weir.spending.source import SpendSource

MAX_DAYS = 366


def today() -> date:
    """Return the day, in UTC, as the ledger counts days."""
    return datetime.now(UTC).date()


class SpendApi:
    """Answers ``/api/spend?days=N``; without ``days`` for all time. Errors are ``{"error": sentence}``."""

    def __init__(self, source: SpendSource | None, now: Callable[[], date] = today) -> None:
        self._source, self._today = source, now

    async def spend(self, request: web.Request) -> web.Response:
        """Return the report and the days it is about."""
        if self._source is None:
            return _refusal("No frontier proxy belongs to this page.", 503)
        count = _count(request.query.get("days", ""))
        if count is None:
            return _refusal(f"days is a whole number from 1 to {MAX_DAYS}", 400)
        days = [self._today() - timedelta(days=back) for back in reversed(range(count))]
        wanted = Wanted(None, bool(days), days[0] if days else None, days[-1] if days else None)
        try:
            report = await self._source.report(wanted)
        except WeirClientError as error:
            return _refusal(error.message, 502)
        record: dict[str, Any] = {**report.record(), "days": [day.isoformat() for day in days]}
        return web.json_response(record)


def _count(text: str) -> int | None:
    """Return how many days are asked for, 0 for all time; ``None`` where it is no such number."""
    if not text:
        return 0
    short = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_DAYS))
    return int(text) if short and 1 <= int(text) <= MAX_DAYS else None


def _refusal(text: str, status: int) -> web.Response:
    return web.json_response({"error": text}, status=status)
