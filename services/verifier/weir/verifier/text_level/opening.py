"""A stream of drafts at text level, from a worker that cannot draft tokens of the verifier's vocabulary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from weir.common.prompts import PromptSpec
from weir.engines.base import TextCodec
from weir.verifier.acceptance import Lossless, Rule
from weir.verifier.drafts import WorkerStub
from weir.verifier.text_level.retokenize import Retokenizer
from weir.verifier.text_level.source import TextDrafts
from weir.verifier.text_level.writer import Writer

if TYPE_CHECKING:
    import llguidance

# Of one call: so far a worker writes ahead at most, also where nobody reads on. Enough for the longest unit.
CALL_TOKENS = 128


@asynccontextmanager
async def text_drafting(
    stub: WorkerStub,
    request_id: str,
    spec: PromptSpec,
    rule: Rule,
    codec: TextCodec,
    *,
    tokens: int,
    on_failure: Callable[[], None],
) -> AsyncIterator[TextDrafts]:
    """Have a worker write; leaving the block cancels it.

    Args:
        stub: of the worker.
        request_id: of the answer.
        spec: with all of its sampling settled.
        rule: lossless judges token by token, a threshold unit by unit.
        codec: the verifier's.
        tokens: of a round, at most, to begin with.
        on_failure: called where the worker fails.
    """
    guide = await asyncio.to_thread(codec.llguidance_tokenizer)
    writer = Writer(stub, request_id, _asked(spec, rule), on_failure)
    drafts = TextDrafts(
        writer,
        codec,
        Retokenizer(cast("llguidance.LLTokenizer", guide)),
        tokens,
        whole_units=not isinstance(rule, Lossless),
        json=spec.constraint is not None and spec.constraint.kind == "json_schema",
    )
    try:
        yield drafts
    finally:
        await drafts.aclose()


def _asked(spec: PromptSpec, rule: Rule) -> PromptSpec:
    """Return what the worker is asked for.

    A text of unknown distribution stands with the verifier's probability of it, so that under the lossless
    rule the likeliest text is the best proposal. Where an answer stops, the verifier decides.
    """
    limit = min(spec.sampling.max_tokens or CALL_TOKENS, CALL_TOKENS)
    sampling = replace(spec.sampling, max_tokens=limit, stop=())
    if isinstance(rule, Lossless):
        sampling = replace(sampling, temperature=0.0, top_p=None, top_k=None, seed=None)
    return replace(spec, sampling=sampling)
