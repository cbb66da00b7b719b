"""What a provider allows: the rate-limit headers of OpenAI's and Anthropic's protocols, and Retry-After."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from weakref import WeakSet

from opentelemetry.metrics import CallbackOptions, Observation

from weir.common import conventions as names
from weir.common.telemetry import meter

_SCOPES = ("requests", "tokens", "input-tokens", "output-tokens")
# OpenAI's durations: "17ms", "6m0s", "1h2m3.5s".
_DURATION = re.compile(
    r"(?=.)(?:(\d{1,4})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9}(?:\.\d{1,9})?)ms)?\Z"
)
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?\Z")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One limit: how many requests or tokens a window takes, what is left, and when it is full again."""

    scope: str
    limit: int | None
    remaining: int | None
    resets_in_s: float | None


def rate_limits(headers: Mapping[str, str]) -> tuple[RateLimit, ...]:
    """Read the limits that an answer's headers tell; what cannot be read is absent.

    Sources: OpenAI, "Rate limits" (``x-ratelimit-remaining-requests`` and so on, which compatible servers
    send too); Anthropic, "Rate limits" (``anthropic-ratelimit-requests-remaining``, resets as RFC 3339).
    """
    found = []
    for scope in _SCOPES:
        for form in (f"x-ratelimit-{{}}-{scope}", f"anthropic-ratelimit-{scope}-{{}}"):
            limit, remaining, reset = (
                headers.get(form.format(field), "") for field in ("limit", "remaining", "reset")
            )
            if limit or remaining:
                told = RateLimit(
                    scope.replace("-", "_"), _whole(limit), _whole(remaining), _until(reset, headers)
                )
                found.append(told)
    return tuple(found)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, ``None`` where nothing tells them.

    ``retry-after-ms`` or ``Retry-After`` in seconds or as a date (RFC 9110) say so; else it is the time until
    the used-up limits are full again.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        value = headers.get(name, "")
        if _NUMBER.match(value):
            return float(value) / unit
    if date := _date(headers.get("Retry-After", "")):
        return max(0.0, date - _now(headers))
    used_up = [limit.resets_in_s for limit in rate_limits(headers) if limit.remaining == 0]
    return max((wait for wait in used_up if wait is not None), default=None)


class Allowances:
    """The limits that each provider last told for each model. ``clock`` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[tuple[str, str], tuple[float, Mapping[str, str]]] = {}
        _shown.add(self)

    def note(self, provider: str, model: str, headers: Mapping[str, str]) -> None:
        """Keep an answer's headers; they are read when the metrics are."""
        if "x-ratelimit-remaining-requests" in headers or "anthropic-ratelimit-requests-remaining" in headers:
            self._told[provider, model] = self._clock(), headers

    def current(self) -> Iterable[tuple[str, str, RateLimit]]:
        """Yield provider, model and limit; past its reset a limit is full."""
        for (provider, model), (moment, headers) in list(self._told.items()):
            age = self._clock() - moment
            for told in rate_limits(headers):
                full = told.resets_in_s is not None and age >= told.resets_in_s
                yield provider, model, replace(told, remaining=told.limit) if full else told


_shown: WeakSet[Allowances] = WeakSet()


@cache
def observe() -> None:
    """Show the limits among the process's metrics, at the first call."""
    gauge = meter().create_observable_gauge
    gauge(names.FRONTIER_RATE_LIMIT, [_limits], "1", "Requests or tokens that a provider allows")
    gauge(names.FRONTIER_RATE_LEFT, [_left], "1", "What is left of that")


def _limits(_: CallbackOptions) -> list[Observation]:
    return _observed(lambda limit: limit.limit)


def _left(_: CallbackOptions) -> list[Observation]:
    return _observed(lambda limit: limit.remaining)


def _observed(pick: Callable[[RateLimit], int | None]) -> list[Observation]:
    current = [told for allowances in list(_shown) for told in allowances.current()]
    return [
        Observation(
            value, {names.PROVIDER: provider, names.REQUEST_MODEL: model, names.RATE_SCOPE: limit.scope}
        )
        for provider, model, limit in current
        if (value := pick(limit)) is not None
    ]


def _whole(value: str) -> int | None:
    return int(float(value)) if _NUMBER.match(value) else None


def duration(value: str) -> float | None:
    """Read seconds: "1.5", "17ms", "6m0s"."""
    if _NUMBER.match(value):
        return float(value)
    match = _DURATION.match(value)
    if not match:
        return None
    return sum(float(part) * unit for part, unit in zip(match.groups(), _UNITS, strict=True) if part)


def _until(value: str, headers: Mapping[str, str]) -> float | None:
    """Read a reset: a duration or a moment."""
    if (seconds := duration(value)) is not None:
        return seconds
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return max(0.0, _stamp(moment) - _now(headers))


def _now(headers: Mapping[str, str]) -> float:
    """Return the answer's own time, since the provider's clock and this one may differ."""
    return _date(headers.get("Date", "")) or time.time()


def _date(value: str) -> float | None:
    try:
        return _stamp(email.utils.parsedate_to_datetime(value))
    except (ValueError, OverflowError):
        return None


def _stamp(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
