"""The time limit: a classifier that is late, fails or has too much to do is not waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal

import structlog

from weir.router.classifier.base import Assessment
from weir.router.classifier.batching import Batcher, BusyError

Cause = Literal["slow", "failed", "busy"]
# Without a fallback for so long, a classifier is said to answer again.
RECOVERED_AFTER_S = 10.0
log = structlog.get_logger(__name__)


class NotJudgedError(Exception):
    """There is no assessment in time; ``cause`` is a stable word."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


class Guard:
    """Asks one classifier and logs once when it starts to fall back; outlives the classifier's reloads.

    Args:
        name: as in logs.
        clock: seconds, for the log alone.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._fell_back_at: float | None = None

    async def assess(self, batcher: Batcher, text: str, deadline: float) -> Assessment:
        """Return the assessment.

        Args:
            batcher: of the classifier.
            text: to assess.
            deadline: on the event loop's clock.

        Raises:
            NotJudgedError: it was not there by then, whatever the cause. Late work is dropped where it still
                waits, and where the classifier hangs nothing more is handed to it.
        """
        timeout = asyncio.timeout_at(deadline)
        try:
            async with timeout:
                found = await batcher.submit(text)
        except BusyError:
            raise self._fell_back("busy") from None
        except Exception as error:
            raise self._fell_back("slow" if timeout.expired() else "failed", error) from error
        self._answered()
        return found

    def _fell_back(self, cause: Cause, error: Exception | None = None) -> NotJudgedError:
        if self._fell_back_at is None:
            # Its type alone: what an error says may quote the prompt.
            kind = type(error).__name__ if cause == "failed" else None
            log.warning("classifier_falls_back", classifier=self._name, cause=cause, error=kind)
        self._fell_back_at = self._clock()
        return NotJudgedError(cause)

    def _answered(self) -> None:
        if self._fell_back_at is not None and self._clock() - self._fell_back_at >= RECOVERED_AFTER_S:
            self._fell_back_at = None
            log.info("classifier_answers_again", classifier=self._name)
