"""Drafts for a verifier: one generation behind a session's ids, with the distributions that it drew from."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from typing import Any

import structlog

from weir.engines.base import Candidate
from weir.engines.core.backend import RequestFailed
from weir.engines.core.drafting import SUPPORT, shape_draft
from weir.engines.core.messages import Draft, Row
from weir.engines.tensorrt_llm.api import Api
from weir.engines.tensorrt_llm.outputs import candidates, finish_reason, row_message
from weir.engines.tensorrt_llm.rows import Row as Truth

# Far from 1, so that log-probabilities before and after it cannot be confused.
_PROBE_TEMPERATURE = 4.0
# Rounding of 16-bit arithmetic stays well below this (nats).
_AGREEMENT = 0.2
log = structlog.get_logger(__name__)


class Drafter:
    """Lets a running ``LLM`` decode a few tokens at a time and tells what each was drawn from.

    Above temperature 0 the library draws from its ``SUPPORT`` best tokens and cuts no nucleus: which order of
    the two cuts it keeps differs between its samplers, and a verifier must know the distribution exactly.
    """

    def __init__(self, llm: Any, api: Api) -> None:
        self._llm, self._api = llm, api
        # Whether log-probabilities are those at temperature 1; None while unknown or found unusable.
        self._plain: bool | None = None

    async def calibrate(self, ids: Sequence[int], truth: Truth) -> None:
        """Learn whether this release tells log-probabilities before or after the temperature.

        ``truth`` is the distribution after ``ids``. Where neither fits, drafts tell no distribution, and a
        verifier takes each drafted token as the point that it is.
        """
        completion = await self._generate(
            ids,
            max_tokens=1,
            logprobs=SUPPORT,
            temperature=_PROBE_TEMPERATURE,
            top_k=SUPPORT,
            ignore_eos=True,
        )
        found = candidates(completion.logprobs[0]) if completion.logprobs else ()
        plain, shaped = (_fits(found, truth, by) for by in (1.0, _PROBE_TEMPERATURE))
        self._plain = None if plain == shaped else plain
        if self._plain is None:
            log.warning("draft_logprobs_unusable", candidates=len(found))

    async def draft(self, ids: Sequence[int], call: Draft) -> tuple[list[int], list[Row]]:
        """Decode behind ``ids`` as ``call`` asks; return the tokens and a row for each.

        The library knows no ``min_confidence``: what it decoded past it is dropped.
        """
        completion = await self._generate(ids, **_arguments(call, len(ids)))
        finish_reason(completion.finish_reason)
        tokens = [int(token) for token in completion.token_ids]
        if len(completion.logprobs or ()) < len(tokens):
            raise RequestFailed("INTERNAL", internal=f"no log-probabilities for {len(tokens)} tokens")
        drafted: list[int] = []
        rows: list[Row] = []
        for token, entry in zip(tokens, completion.logprobs or (), strict=False):
            best = candidates(entry)
            if call.min_confidence > 0 and best and math.exp(best[0].logprob) < call.min_confidence:
                break
            drafted.append(token)
            rows.append(self._row(call, token, best))
            if token in call.stop_ids:
                break
        return drafted, rows

    def _row(self, call: Draft, token: int, best: Sequence[Candidate]) -> Row:
        own = next((one.logprob for one in best if one.id == token), None)
        if call.temperature <= 0:
            return row_message(best[:1], own)
        width = _support(call)
        # Which of two equal tokens the library's own cut keeps is not known.
        tied = len(best) > width and best[width].logprob == best[width - 1].logprob
        if self._plain is None or tied:
            return row_message((), own)
        ids, q = shape_draft(
            [one.id for one in best[:width]],
            [one.logprob for one in best[:width]],
            call.temperature if self._plain else 1.0,
        )
        if token not in ids:
            return row_message((), own)
        logprobs = [math.log(share) for share in q]
        return Row(list(ids), logprobs, logprobs[ids.index(token)])

    async def _generate(self, ids: Sequence[int], **wanted: Any) -> Any:
        """Run one generation to its end and return its output; cancelling aborts it."""
        params = self._api.sampling_params(detokenize=False, **wanted)
        output = self._llm.generate_async(list(ids), params, streaming=False)
        try:
            return (await output.aresult()).outputs[0]
        except asyncio.CancelledError:
            output.abort()
            raise


def _support(call: Draft) -> int:
    return min(call.top_k or SUPPORT, SUPPORT)


def _arguments(call: Draft, length: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {"max_tokens": call.count}
    if call.stop_ids:
        arguments |= {
            "end_id": call.stop_ids[0],
            "stop_token_ids": list(call.stop_ids),
            "include_stop_str_in_output": True,
        }
    else:
        arguments["ignore_eos"] = True
    if call.temperature <= 0:
        return arguments | {"top_k": 1, "logprobs": 1}
    # A seed stands for a whole answer; here it would start anew with each of its drafts.
    seed = random.getrandbits(31) if call.seed is None else (call.seed + length) % 2**31
    width = _support(call)
    return arguments | {
        "temperature": call.temperature,
        "top_k": width,
        "seed": seed,
        "logprobs": width + 1,
    }


def _fits(found: Sequence[Candidate], truth: Truth, temperature: float) -> bool:
    """Whether the candidates' distances are those of the true logits divided by ``temperature``."""
    if len(found) < 2 or truth.logits is None:
        return False
    logits = truth.logits
    return all(
        abs((found[0].logprob - one.logprob) - float(logits[found[0].id] - logits[one.id]) / temperature)
        < _AGREEMENT
        for one in found[1:]
    )
