"""Periods of budgets: days and months in UTC, and all time."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from weir.frontier_proxy.ledger.base import Period


def label(period: Period, day: date) -> str:
    """Return the name of the period that a day is in: ``2026-11-22``, ``2026-11``, empty for all time."""
    if period == "total":
        return ""
    return day.isoformat() if period == "day" else day.isoformat()[:7]


def end(period: Period, day: date) -> datetime | None:
    """Return when the period that a day is in ends (UTC); ``None`` for all time."""
    if period == "total":
        return None
    if period == "day":
        following = day + timedelta(days=1)
    else:
        following = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
    return datetime.combine(following, time(), UTC)
