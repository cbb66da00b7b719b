"""From a prompt to a verification: tokens, bounds, session, constraint, judge."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from weir.common.config.model import HybridTier
from weir.common.errors import ErrorCode, WeirError
from weir.common.prompts import PromptSpec
from weir.engines.base import SessionEngine
from weir.verifier.acceptance import Rule, Takeover, Threshold, judge
from weir.verifier.constraint import TokenMasks
from weir.verifier.distribution import Shape, generator
from weir.verifier.problems import too_long
from weir.verifier.rounds import Verification

# Candidates told with each token: with the second one sees how close the decision was.
TOP_LOGPROBS = 2


def context_of(engine: SessionEngine, tier: HybridTier) -> int:
    """Return the tokens that prompt and answer may have together."""
    return min(engine.info.max_context, tier.max_context)


async def encode_prompt(engine: SessionEngine, tier: HybridTier, spec: PromptSpec) -> tuple[list[int], int]:
    """Return the prompt's tokens and how many the answer may have, which the context bounds.

    Raises:
        WeirError: CONTEXT_TOO_LONG where not one token of an answer fits; INVALID_PROMPT where the model's
            chat template refuses the conversation.
    """
    prompt_ids = await asyncio.to_thread(engine.codec.encode_chat, spec.messages)
    room = context_of(engine, tier) - len(prompt_ids)
    if room < 1:
        raise too_long(len(prompt_ids), context_of(engine, tier))
    return prompt_ids, min(spec.sampling.max_tokens or tier.max_tokens, room)


async def open_verification(
    stack: AsyncExitStack,
    engine: SessionEngine,
    tier: HybridTier,
    spec: PromptSpec,
    rule: Rule,
) -> Verification:
    """Open a session for one answer; ``stack`` closes it.

    Raises:
        WeirError: INVALID_CONSTRAINT; QUEUE_FULL past the bound on sessions.
    """
    codec, vocab_size = engine.codec, engine.info.vocab_size
    masks = None
    if spec.constraint is not None:
        tokenizer = await asyncio.to_thread(codec.llguidance_tokenizer)
        masks = await TokenMasks.compile(spec.constraint, tokenizer, vocab_size, codec.stop_ids)
    shape = Shape.of(spec.sampling, tier.temperature, tier.top_p)
    session = await engine.open_session()
    stack.push_async_callback(session.aclose)
    judged_by = judge(rule, shape, generator(spec.sampling.seed))
    stretch = isinstance(rule, Threshold) and rule.takeover is Takeover.STRETCH
    return Verification(session, judged_by, codec.stop_ids, masks, top=TOP_LOGPROBS, stretch=stretch)


def require_tokenizer(drafter_sha256: str, own_sha256: str) -> None:
    """Refuse drafts in another vocabulary. Raises WeirError TOKENIZER_MISMATCH."""
    if drafter_sha256 != own_sha256:
        raise WeirError(
            ErrorCode.TOKENIZER_MISMATCH,
            "The drafts are in another vocabulary than the verifier's; draft with its tokenizer, or have "
            "GenerateVerified judge text (tiers.hybrid.other_tokenizers: text).",
            metadata={"drafter": drafter_sha256, "verifier": own_sha256},
        )
