"""The replay: recorded answers of real models, played at a set rate, without a key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import structlog

from weir.engines.base import Constraint, FinishReason
from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.providers.base import Access, Delta, Finished, ProviderEvent, ProviderRequest
from weir.frontier_proxy.recordings import Recorded, Recording, pieces

log = structlog.get_logger(__name__)


class ReplayProvider:
    """Plays the recorded answer to a prompt; to a prompt that was not recorded, one chosen by its hash.

    It counts and costs what the recorded model would have; everything that tells of it says that it is a
    replay. ``clock`` is in seconds.

    Args:
        access: of kind "replay"; no address is ever asked.
        recording: JSON lines, see ``Recording``.
        tokens_per_second: behind the first token.
        first_token_s: wait for the first token.

    Raises:
        ConfigError: the recording cannot be read.
    """

    stand_in = False
    # A recording knows nothing of stop strings.
    max_stops = 0

    def __init__(
        self,
        access: Access,
        recording: Path,
        tokens_per_second: float,
        first_token_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.access = access
        self._recording = Recording(recording)
        self._rate, self._first_token_s = tokens_per_second, first_token_s
        self._clock, self._sleep = clock, sleep
        log.warning(
            "replay_active", provider=access.name, recording=recording.name, answers=len(self._recording)
        )

    def supports(self, constraint: Constraint) -> bool:
        """None: what was recorded was held to no format."""
        del constraint
        return False

    def prefills(self, request: ProviderRequest) -> bool:
        """Whether the recorded answer begins with the text that stands."""
        return self._find(request).answer.startswith(request.prefix.rstrip())

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Yield the recorded answer, or what of it follows the text that stands; see ``Provider.stream``.

        An answer that does not begin with that text is played whole, as one of a model that goes on.
        """
        recorded = self._find(request)
        # White space at the end is written anew, as by other providers.
        standing = len(request.prefix.rstrip()) if self.prefills(request) else 0
        played = pieces(recorded.answer[standing:])
        per_piece = recorded.tokens_per_piece
        limit = request.sampling.max_tokens
        room = len(played) if limit is None else min(len(played), int(limit / per_piece))
        prompt = sum(len(pieces(message.content)) for message in request.messages)
        prompt += len(pieces(request.prefix))
        yield Delta(counts=TokenCounts(prompt))
        sent = 0
        async with aclosing(self._paced(room, self._rate / per_piece)) as due:
            async for upto in due:
                yield Delta("".join(played[sent:upto]), TokenCounts(prompt, round(upto * per_piece)))
                sent = upto
        reason = FinishReason.LENGTH if room < len(played) else FinishReason.STOP
        yield Finished(reason, TokenCounts(prompt, round(sent * per_piece)))

    async def _paced(self, count: int, rate: float) -> AsyncGenerator[int, None]:
        """Yield how many of ``count`` pieces are due, each time that more are; ``rate`` is pieces a second.

        Due times count from the start, so that what a sleep takes too long is made up for.
        """
        first = self._clock() + self._first_token_s
        sent = 0
        while sent < count:
            wait = first + sent / rate - self._clock()
            if wait > 0:
                await self._sleep(wait)
            due = 1 + int((self._clock() - first) * rate)
            sent = min(count, max(sent + 1, due))
            yield sent

    def _find(self, request: ProviderRequest) -> Recorded:
        turns = [message.content for message in request.messages if message.role == "user"]
        return self._recording.find(turns[-1] if turns else request.messages[-1].content)
