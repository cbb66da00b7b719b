"""Expectations along a given sequence: ``prompt_logprobs``, and one-step runs where those do not reach."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import structlog

from weir.engines.base import TokenInfo
from weir.engines.tensorrt_llm.api import Api
from weir.engines.tensorrt_llm.rows import FloatArray, Row, agree, align, row_of_entry, row_of_logits

# Enough that the token that follows is mostly among them, which saves a run of its own.
_CANDIDATES = 8
log = structlog.get_logger(__name__)


class Scorer:
    """Asks a running ``LLM`` what it expects after positions of a sequence.

    With block reuse on, the library returns rows for the uncached tail of the prompt only. What is missing is
    asked for by one-token generations over the cached prefixes, which run together in one batch.
    """

    def __init__(self, llm: Any, api: Api, *, parallel: int) -> None:
        self._llm = llm
        self._api = api
        self._places = asyncio.Semaphore(parallel)
        # Whether the last entry tells what follows the last token; None while unknown or found unusable.
        self._trailing: bool | None = None

    async def warm_up(self, ids: Sequence[int]) -> None:
        """Run a short text through the model."""
        await self._prompt_pass(ids)

    async def calibrate(self, ids: Sequence[int]) -> None:
        """Learn from a short text how this release lines up ``prompt_logprobs``, by one-step runs over it.

        Where no way of lining them up agrees, they are left unused from then on.
        """
        entries = list((await self._prompt_pass(ids, prompt_logprobs=2)).outputs[0].prompt_logprobs or ())
        truth = await self._one_steps(ids, range(len(ids)), top=2)
        for trailing in (True, False):
            found = {at: entry for at, entry in align(entries, len(ids), trailing=trailing).items() if entry}
            if found and all(agree(row_of_entry(one, 2, ids[at]), truth[at]) for at, one in found.items()):
                self._trailing = trailing
                return
        log.warning("prompt_logprobs_unusable", entries=len(entries), tokens=len(ids))

    async def rows(self, ids: Sequence[int], first: int, *, top: int, full: bool) -> list[Row]:
        """Return the rows after positions ``first`` to the last of ``ids``.

        Args:
            ids: the whole sequence.
            first: the first position of interest.
            top: candidates wanted in each row; the token that follows in ``ids`` can always be looked up too.
            full: whether each row shall have all logits.
        """
        wanted = range(first, len(ids))
        known = await (self._rows_with_logits(ids, top) if full else self._rows_of_best(ids, top))
        missing = [at for at in wanted if at not in known or not _covers(known[at], ids, at)]
        known.update(await self._one_steps(ids, missing, top=top))
        return [known[at] for at in wanted]

    async def score(
        self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], *, top: int
    ) -> list[TokenInfo]:
        """Log-probability and ``top`` candidates of each continuation token; none for a very first token."""
        ids = [*prompt_ids, *continuation_ids]
        if not continuation_ids:
            return []
        first = len(prompt_ids) - 1
        rows: list[Row | None] = [None] if first < 0 else []
        rows += await self.rows(ids, max(first, 0), top=max(top, 1), full=False)
        return [
            TokenInfo(token_id, row.logprob(token_id), row.best[:top]) if row else TokenInfo(token_id)
            for token_id, row in zip(continuation_ids, rows, strict=False)
        ]

    async def following(self, ids: Sequence[int]) -> Row:
        """Return what follows the last of ``ids``, with all logits."""
        last = len(ids) - 1
        return (await self._one_steps(ids, [last], top=1))[last]

    async def _rows_of_best(self, ids: Sequence[int], top: int) -> dict[int, Row]:
        if self._trailing is None:
            return {}
        wanted = max(top, _CANDIDATES)
        output = await self._prompt_pass(ids, prompt_logprobs=wanted)
        entries: Sequence[Mapping[int, Any] | None] = output.outputs[0].prompt_logprobs or ()
        aligned = align(entries, len(ids), trailing=self._trailing)
        return {at: row_of_entry(entry, wanted, ids[at]) for at, entry in aligned.items() if entry}

    async def _rows_with_logits(self, ids: Sequence[int], top: int) -> dict[int, Row]:
        logits = _array((await self._prompt_pass(ids, return_context_logits=True)).context_logits)
        return {
            at: row_of_logits(row, top) for at, row in align(list(logits), len(ids), trailing=True).items()
        }

    async def _one_steps(self, ids: Sequence[int], positions: Sequence[int], *, top: int) -> dict[int, Row]:
        async def one(at: int) -> Row:
            async with self._places:
                output = await self._prompt_pass(ids[: at + 1], return_generation_logits=True)
            return row_of_logits(_array(output.outputs[0].generation_logits)[0], top)

        return dict(zip(positions, await asyncio.gather(*map(one, positions)), strict=True))

    async def _prompt_pass(self, ids: Sequence[int], **wanted: Any) -> Any:
        """Run the sequence as a prompt with one greedy token behind it; cancelling aborts it."""
        params = self._api.sampling_params(max_tokens=1, top_k=1, ignore_eos=True, detokenize=False, **wanted)
        output = self._llm.generate_async(list(ids), params, streaming=False)
        try:
            return await output.aresult()
        except asyncio.CancelledError:
            output.abort()
            raise


def _covers(row: Row, ids: Sequence[int], at: int) -> bool:
    """Whether the row tells the probability of the token that follows in the sequence."""
    return at + 1 == len(ids) or row.logits is not None or row.logprob(ids[at + 1]) is not None


def _array(tensor: Any) -> FloatArray:
    """Copy a tensor to the host as float32, shape [rows, vocab]; numpy has no 16-bit brain float."""
    rows: FloatArray = np.asarray(tensor.float().cpu(), dtype=np.float32)
    return rows.reshape(-1, rows.shape[-1])
