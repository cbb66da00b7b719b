"""A verifier's session: a token sequence whose KV blocks the library finds again by their content."""

from __future__ import annotations

import asyncio

from weir.engines.core.backend import RequestFailed
from weir.engines.core.messages import Extend, Row
from weir.engines.tensorrt_llm.outputs import row_message
from weir.engines.tensorrt_llm.rows import predictions
from weir.engines.tensorrt_llm.scoring import Scorer


class TensorrtSession:
    """Extends by running the whole sequence anew: block reuse makes all but the new tail cheap.

    Rewinding only forgets ids, since reuse matches blocks by content. The lock keeps calls in their order.
    """

    def __init__(self, scorer: Scorer, *, max_context: int) -> None:
        self._scorer = scorer
        self._max_context = max_context
        self._ids: list[int] = []
        self._turn = asyncio.Lock()

    async def extend(self, call: Extend) -> list[Row]:
        """Feed the ids and return one row for each, or for the last alone.

        Raises:
            RequestFailed: CONTEXT_TOO_LONG; the session stays as it was.
        """
        if not call.ids:
            return []
        async with self._turn:
            self._cut(call.at)
            start, sequence = len(self._ids), [*self._ids, *call.ids]
            if len(sequence) > self._max_context:
                raise RequestFailed(
                    "CONTEXT_TOO_LONG",
                    f"The sequence has {len(sequence)} tokens, the context {self._max_context}: shorten it.",
                )
            full = call.logits or call.masks is not None
            first, masks = start, call.masks
            if call.last_only:
                first, masks = len(sequence) - 1, masks and masks[-1:]
            rows = await self._scorer.rows(sequence, first, top=max(call.top, 1), full=full)
            self._ids = sequence
        found = predictions(rows, sequence[first:], top=call.top, logits=call.logits, masks=masks)
        return [
            row_message(one.top, one.next_logprob, b"" if one.logits is None else one.logits.tobytes())
            for one in found
        ]

    def _cut(self, at: int) -> None:
        if at > len(self._ids):
            raise RequestFailed("INTERNAL", internal=f"cannot rewind {len(self._ids)} tokens to {at}")
        if at >= 0:
            del self._ids[at:]
