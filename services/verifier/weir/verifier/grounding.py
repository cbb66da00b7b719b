"""How far an answer is borne out by its sources, as the verifier's model sees it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from weir.common.config.model import HybridTier
from weir.common.prompts import PromptSpec
from weir.engines.base import ChatMessage, SessionEngine
from weir.verifier.problems import too_long
from weir.verifier.scoring import score
from weir.verifier.sequence import context_of


async def grounded(
    engine: SessionEngine, tier: HybridTier, spec: PromptSpec, answer: str, sources: Sequence[str]
) -> float:
    """Return the share of the answer's information that the sources explain, 0 to 1.

    The information of an answer is its negative log-likelihood under the model, in nats. With h that of the
    answer after the prompt alone, and h' after the sources and the prompt, the share is (h - h') / h, and 0
    where the sources make the answer less likely. It is 1 where the sources leave nothing open, near 0 for an
    answer to which they add nothing: one that they do not mention, but also one that needed no source. It is
    a measure of support, not of truth, and only as good as the model.

    Raises:
        WeirError: CONTEXT_TOO_LONG where prompt, sources and answer do not fit; QUEUE_FULL.
    """
    answer_ids = engine.codec.encode(answer)
    if not answer_ids:
        return 0.0
    alone = await _information(engine, tier, spec.messages, answer_ids)
    told = await _information(engine, tier, _with_sources(spec.messages, sources), answer_ids)
    return min(1.0, max(0.0, (alone - told) / alone)) if alone > 0 else 0.0


def _with_sources(messages: Sequence[ChatMessage], sources: Sequence[str]) -> list[ChatMessage]:
    """Put the sources at the head of the last user turn."""
    text = "\n\n".join(sources)
    asked = max((i for i, message in enumerate(messages) if message.role == "user"), default=None)
    if asked is None:
        return [*messages, ChatMessage("user", text)]
    turn = ChatMessage("user", f"{text}\n\n{messages[asked].content}")
    return [*messages[:asked], turn, *messages[asked + 1 :]]


async def _information(
    engine: SessionEngine, tier: HybridTier, messages: Sequence[ChatMessage], answer_ids: Sequence[int]
) -> float:
    prompt_ids = engine.codec.encode_chat(messages)
    whole = len(prompt_ids) + len(answer_ids)
    if whole > context_of(engine, tier):
        raise too_long(whole, context_of(engine, tier))
    scored = await score(engine, prompt_ids, answer_ids)
    return -math.fsum(token.logprob or 0.0 for token in scored)
