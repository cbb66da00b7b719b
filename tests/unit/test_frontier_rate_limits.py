"""Rate-limit headers: what is allowed, what is left, and how long to wait."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from tests.metering import metered
from weir.common import conventions as names
from weir.frontier_proxy.providers.rate_limits import Allowances, RateLimit, observe, rate_limits, retry_after

DATE = "Sun, 22 Nov 2026 12:00:00 GMT"
OPENAI = CIMultiDict(
    {
        "X-RateLimit-Limit-Requests": "60",
        "X-RateLimit-Remaining-Requests": "59",
        "X-RateLimit-Reset-Requests": "1s",
        "X-RateLimit-Limit-Tokens": "150000",
        "X-RateLimit-Remaining-Tokens": "149984",
        "X-RateLimit-Reset-Tokens": "6m0s",
    }
)
ANTHROPIC = CIMultiDict(
    {
        "Date": DATE,
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2026-11-22T12:00:07Z",
        "anthropic-ratelimit-input-tokens-limit": "40000",
        "anthropic-ratelimit-input-tokens-remaining": "39000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-22T12:01:00Z",
    }
)


def test_openais_headers_tell_requests_and_tokens() -> None:
    assert rate_limits(OPENAI) == (
        RateLimit("requests", 60, 59, 1.0),
        RateLimit("tokens", 150_000, 149_984, 360.0),
    )


def test_anthropics_resets_count_from_the_answers_own_date() -> None:
    assert rate_limits(ANTHROPIC) == (
        RateLimit("requests", 50, 0, 7.0),
        RateLimit("input_tokens", 40_000, 39_000, 60.0),
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17ms", 0.017),
        ("1s", 1.0),
        ("2m59.56s", 179.56),
        ("1h2m3s", 3723.0),
        ("1d", 86_400.0),
        ("12", 12.0),
        ("6m0s", 360.0),
        ("", None),
        ("soon", None),
        ("s", None),
        ("-1s", None),
        ("2026-13-40T00:00:00Z", None),
        ("9" * 40 + "s", None),
    ],
)
def test_resets_are_durations(value: str, seconds: float | None) -> None:
    headers = {"x-ratelimit-limit-requests": "1", "x-ratelimit-reset-requests": value}
    (limit,) = rate_limits(headers)
    assert limit.resets_in_s == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"Retry-After": "Sun, 22 Nov 2026 12:00:30 GMT", "Date": DATE}, 30.0),
        ({"Retry-After": "Sun, 22 Nov 2026 11:59:00 GMT", "Date": DATE}, 0.0),
        ({"Retry-After": "tomorrow"}, None),
        ({"Retry-After": "-3"}, None),
        ({}, None),
        (dict(ANTHROPIC), 7.0),
        ({**ANTHROPIC, "Retry-After": "3"}, 3.0),
    ],
)
def test_the_wait_is_what_is_asked_for_else_until_the_limit_is_full_again(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(CIMultiDict(headers)) == seconds


def test_a_limit_with_something_left_asks_for_no_wait() -> None:
    assert retry_after(OPENAI) is None


def test_what_cannot_be_read_is_absent() -> None:
    headers = {"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-requests": "few"}
    assert rate_limits(headers) == (RateLimit("requests", None, None, None),)


def test_the_metrics_show_the_last_answers_limits_and_a_full_one_past_its_reset() -> None:
    now = 100.0
    allowances = Allowances(clock=lambda: now)
    observe()
    allowances.note("claude", "haiku", ANTHROPIC)
    allowances.note("claude", "haiku", CIMultiDict({"Content-Type": "text/event-stream"}))
    labels = {names.PROVIDER: "claude", names.REQUEST_MODEL: "haiku", names.RATE_SCOPE: "requests"}
    shown = metered()
    assert shown.total(names.FRONTIER_RATE_LIMIT, **labels) == 50
    assert shown.total(names.FRONTIER_RATE_LEFT, **labels) == 0
    now = 107.0
    assert metered().total(names.FRONTIER_RATE_LEFT, **labels) == 50
