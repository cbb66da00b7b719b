"""How much a tenant may send in a minute: requests, and tokens read and written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from weir.common.errors import ErrorCode, WeirError
from weir.common.tenancy.rights import Rights
from weir.common.tenancy.window import SlidingWindow

# Windows kept before empty ones are looked for and dropped: names may come from strangers.
MAX_WINDOWS = 10_000
BYTES_PER_TOKEN = 4


class RateLimits:
    """The limits of every tenant, as this process counts. ``clock`` gives seconds and never goes back."""

    def __init__(self, rights: Rights, clock: Callable[[], float] = time.monotonic) -> None:
        self._rights, self._clock = rights, clock
        self._windows: dict[tuple[str, str], SlidingWindow] = {}
        self._drop_at = MAX_WINDOWS

    def admit(self, tenant: str) -> None:
        """Count one request. Raises WeirError TENANT_RATE, saying when one will pass."""
        limit = self._rights.of(tenant).requests_per_minute
        if limit is not None:
            window, now = self._window(tenant, "requests", limit), self._clock()
            _check(tenant, window, now, 1, "requests")
            window.take(now, 1)

    @contextmanager
    def tokens(self, tenant: str, prompt_tokens: int) -> Iterator[TokenUse]:
        """Count a request's tokens: the prompt's estimate now, what was used on leaving.

        Raises:
            WeirError: TENANT_RATE, saying when the prompt will fit; TENANT_FORBIDDEN where it never does.
        """
        limit = self._rights.of(tenant).tokens_per_minute
        use = TokenUse(prompt_tokens)
        if limit is None:
            yield use
            return
        window, begun = self._window(tenant, "tokens", limit), self._clock()
        _check(tenant, window, begun, prompt_tokens, "tokens")
        window.take(begun, prompt_tokens)
        try:
            yield use
        finally:
            more, now = use.total - prompt_tokens, self._clock()
            # Meanwhile it may have been empty, and dropped.
            window = self._window(tenant, "tokens", limit)
            if more > 0:
                window.take(now, more)
            else:
                window.give_back(now, begun, -more)

    def _window(self, tenant: str, kind: str, limit: float) -> SlidingWindow:
        window = self._windows.get((tenant, kind))
        if window is None:
            if len(self._windows) >= self._drop_at:
                self._drop_empty()
            window = self._windows[tenant, kind] = SlidingWindow(limit)
        return window

    def _drop_empty(self) -> None:
        now = self._clock()
        self._windows = {name: window for name, window in self._windows.items() if window.used(now) > 0}
        self._drop_at = max(MAX_WINDOWS, 2 * len(self._windows))


class TokenUse:
    """What one request uses: the estimate of its prompt and the text that came, until the count is told."""

    def __init__(self, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._written_bytes = 0
        self._settled: int | None = None

    @property
    def total(self) -> int:
        """Tokens read and written, as known now."""
        if self._settled is not None:
            return self._settled
        return self._prompt_tokens + math.ceil(self._written_bytes / BYTES_PER_TOKEN)

    def wrote(self, text: str) -> None:
        """Note new text."""
        self._written_bytes += len(text.encode())

    def settle(self, tokens: int) -> None:
        """Set what was used in fact."""
        self._settled = tokens


def _check(tenant: str, window: SlidingWindow, now: float, amount: float, unit: str) -> None:
    wait = window.wait(now, amount)
    if not wait:
        return
    limit = f"{window.limit:.0f} {unit} a minute"
    if math.isinf(wait):
        raise WeirError(ErrorCode.TENANT_FORBIDDEN, f"{amount:.0f} {unit} at once never fit its {limit}.")
    raise WeirError(
        ErrorCode.TENANT_RATE,
        f"It has used its {limit}.",
        retry_after_s=wait,
        metadata={"tenant": tenant, "limit": str(round(window.limit)), "unit": unit},
    )
