"""Whether and when a model is tried once more before its first text."""

from __future__ import annotations

import random

from weir.common.config.frontier import Retries
from weir.common.errors import ErrorCode, WeirError

_PASSING = {ErrorCode.PROVIDER_FAILED, ErrorCode.RATE_LIMITED}


class RetryPolicy:
    """Exponential backoff with full jitter, which spreads a crowd of retries best.

    After M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. A wait that the provider
    names (Retry-After, RFC 9110) is never shortened.

    Args:
        config: how often, and between which delays.
        source: of the jitter.
    """

    def __init__(self, config: Retries, source: random.Random | None = None) -> None:
        self._config, self._random = config, source or random.Random()

    def delay(self, attempt: int, error: WeirError, remaining_s: float | None) -> float | None:
        """Return the seconds to wait before the next try of the same model; ``None`` where there is none.

        Args:
            attempt: tries of this model that have failed, this one included; 1 after the first.
            error: what ended the last one.
            remaining_s: until the deadline, ``None`` without one; a try must have as long as it waits.
        """
        if attempt > self._config.per_model or error.code not in _PASSING:
            return None
        asked = error.retry_after_s or 0.0
        if asked > self._config.longest_delay_s:
            return None
        grown = self._config.base_delay_s * 2.0 ** (attempt - 1)
        # Behind a named wait the jitter is small: it only keeps those who were told the same time apart.
        spread = self._config.base_delay_s if asked else min(grown, self._config.longest_delay_s)
        delay = asked + self._random.uniform(0.0, spread)
        return delay if remaining_s is None or 2.0 * delay < remaining_s else None
