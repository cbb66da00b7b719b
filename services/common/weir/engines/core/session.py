"""A session in the core, as its owner in the server sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Candidate, Pass, Prediction, Sampling, TokenInfo
from weir.engines.core import messages as m
from weir.engines.core.client import CoreClient


class CoreSession:
    """Implements ``weir.engines.base.Session``. It ends with the core's life in which it was opened."""

    def __init__(self, client: CoreClient, max_context: int, on_close: Callable[[CoreSession], None]) -> None:
        self._client = client
        self._life = client.generation
        self._max_context = max_context
        self._on_close = on_close
        self._lock = asyncio.Lock()  # the core answers one call of a session at a time
        self._number = client.open_session()
        self._length = 0
        self._closed = False
        self.last_pass: Pass | None = None

    @property
    def length(self) -> int:
        """Tokens fed so far and not rewound."""
        return self._length

    async def extend(
        self,
        ids: Sequence[int],
        *,
        top: int = 1,
        logits: bool = False,
        masks: Sequence[bytes] | None = None,
        last_only: bool = False,
    ) -> list[Prediction]:
        """Feed ``ids``; see ``weir.engines.base.Session``.

        Raises:
            WeirError: CONTEXT_TOO_LONG, ENGINE_CRASHED.
        """
        if masks is not None and len(masks) != len(ids):
            raise ValueError(f"{len(masks)} masks for {len(ids)} tokens")
        if not ids:
            return []
        self._require_room(len(ids))
        fed, kept = list(ids), None if masks is None else list(masks)
        answer = await self._call(
            lambda call: m.Extend(call, self._number, fed, top, logits, kept, last_only, self._length),
            self._length + len(fed),
        )
        return [_prediction(row) for row in answer.rows]

    async def draft(
        self,
        ids: Sequence[int],
        count: int,
        *,
        sampling: Sampling,
        stop_ids: frozenset[int] = frozenset(),
        min_confidence: float = 0.0,
    ) -> list[TokenInfo]:
        """Feed ``ids`` and decode after them; see ``weir.engines.base.Session``.

        Raises:
            WeirError: CONTEXT_TOO_LONG, ENGINE_CRASHED.
        """
        if not ids or count < 1:
            raise ValueError("a draft needs tokens to feed and a count of at least 1")
        self._require_room(len(ids) + count)
        fed = list(ids)
        answer = await self._call(
            lambda call: m.Draft(
                call,
                self._number,
                fed,
                count,
                sorted(stop_ids),
                sampling.temperature or 0.0,
                sampling.top_p,
                sampling.top_k,
                sampling.seed,
                min_confidence,
                self._length,
            ),
            None,
        )
        return [_token(token, row) for token, row in zip(answer.drafted, answer.rows, strict=True)]

    async def rewind(self, length: int) -> None:
        """Forget everything past the first ``length`` tokens; the core is told with the next call."""
        if not 0 <= length <= self._length:
            raise ValueError(f"cannot rewind {self._length} tokens to {length}")
        self._length = length

    async def aclose(self) -> None:
        """Free the cache. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._on_close(self)
        if self._life == self._client.generation:
            self._client.close_session(self._number)

    async def _call(self, build: Callable[[int], m.Call], length: int | None) -> m.Extended:
        async with self._lock:
            if self._closed or self._life != self._client.generation:
                raise WeirError(ErrorCode.ENGINE_CRASHED, internal="the session's engine core is gone")
            try:
                answer = await self._client.call(build)
            except BaseException:
                await self.aclose()  # how far the core came is not known
                raise
            # Only a draft's length is not known beforehand.
            self._length = answer.length if length is None else length
            self.last_pass = Pass(answer.seconds, answer.tokens, answer.sequences)
            return answer

    def _require_room(self, tokens: int) -> None:
        if self._length + tokens > self._max_context:
            hint = f"{self._length + tokens} tokens exceed the context of {self._max_context}."
            raise WeirError(ErrorCode.CONTEXT_TOO_LONG, hint)


def _token(token: int, row: m.Row) -> TokenInfo:
    return TokenInfo(token, row.next_logprob, tuple(map(Candidate, row.ids, row.logprobs)))


def _prediction(row: m.Row) -> Prediction:
    return Prediction(
        top=tuple(map(Candidate, row.ids, row.logprobs)),
        next_logprob=row.next_logprob,
        logits=np.frombuffer(row.logits, np.float32) if row.logits else None,
    )
