"""A token sequence for a verifier or a drafter, whose KV blocks the library finds again by their content."""

from __future__ import annotations

import asyncio
import time

from weir.engines.core.backend import RequestFailed
from weir.engines.core.messages import Draft, Extend, Extended
from weir.engines.tensorrt_llm.drafting import Drafter
from weir.engines.tensorrt_llm.outputs import row_message
from weir.engines.tensorrt_llm.rows import predictions
from weir.engines.tensorrt_llm.scoring import Scorer


class TensorrtSession:
    """Extends by running the whole sequence anew: block reuse makes all but the new tail cheap.

    Rewinding only forgets ids, since reuse matches blocks by content. The lock keeps calls in their order.
    What a call took is its own time and tokens: the library does not tell who shared its passes.
    """

    def __init__(self, scorer: Scorer, drafter: Drafter, *, max_context: int) -> None:
        self._scorer, self._drafter = scorer, drafter
        self._max_context = max_context
        self._ids: list[int] = []
        self._turn = asyncio.Lock()

    async def extend(self, call: Extend) -> Extended:
        """Feed the ids; the answer has one row for each, or for the last alone.

        Raises:
            RequestFailed: CONTEXT_TOO_LONG; the session stays as it was.
        """
        if not call.ids:
            return Extended(call.call, [])
        async with self._turn:
            started, kept = time.perf_counter(), self._kept(call.at)
            sequence = self._with_room([*kept, *call.ids], 0)
            full = call.logits or call.masks is not None
            first, masks = len(kept), call.masks
            if call.last_only:
                first, masks = len(sequence) - 1, masks and masks[-1:]
            rows = await self._scorer.rows(sequence, first, top=max(call.top, 1), full=full)
            self._ids = sequence
            seconds = time.perf_counter() - started
        found = predictions(rows, sequence[first:], top=call.top, logits=call.logits, masks=masks)
        told = [
            row_message(one.top, one.next_logprob, b"" if one.logits is None else one.logits.tobytes())
            for one in found
        ]
        return Extended(
            call.call, told, length=len(sequence), seconds=seconds, tokens=len(call.ids), sequences=1
        )

    async def draft(self, call: Draft) -> Extended:
        """Feed the ids and decode up to ``count`` tokens behind them, in one generation.

        The last drafted token has been through no pass, and is not fed.

        Raises:
            RequestFailed: CONTEXT_TOO_LONG; the session stays as it was.
        """
        async with self._turn:
            started = time.perf_counter()
            sequence = self._with_room([*self._kept(call.at), *call.ids], call.count)
            drafted, rows = await self._drafter.draft(sequence, call)
            self._ids = [*sequence, *drafted[:-1]]
            seconds = time.perf_counter() - started
        return Extended(
            call.call,
            rows,
            drafted=drafted,
            length=len(self._ids),
            seconds=seconds,
            tokens=len(call.ids) + len(drafted[:-1]),
            sequences=1,
        )

    def _kept(self, at: int) -> list[int]:
        if at > len(self._ids):
            raise RequestFailed("INTERNAL", internal=f"cannot rewind {len(self._ids)} tokens to {at}")
        return self._ids[:at] if at >= 0 else list(self._ids)

    def _with_room(self, sequence: list[int], more: int) -> list[int]:
        tokens = len(sequence) + more
        if tokens > self._max_context:
            raise RequestFailed(
                "CONTEXT_TOO_LONG",
                f"The sequence has {tokens} tokens, the context {self._max_context}: shorten it.",
            )
        return sequence
