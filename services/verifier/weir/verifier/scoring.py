"""Log-probabilities of a given continuation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from weir.engines.base import Session, SessionEngine, TokenInfo

# Tokens scored in one pass: bounds the logits in memory. Most continuations fit.
_PASS_TOKENS = 512


async def score(
    engine: SessionEngine, prompt_ids: Sequence[int], continuation_ids: Sequence[int], *, top: int = 1
) -> list[TokenInfo]:
    """Return one entry for each continuation token, with ``top`` candidates (at least the arg-max).

    Raises:
        WeirError: QUEUE_FULL past the bound on sessions.
    """
    async with aclosing(await engine.open_session()) as session:
        if len(prompt_ids) > 1:
            await session.extend(prompt_ids[:-1], last_only=True)
        return await _continue(session, [prompt_ids[-1], *continuation_ids], max(1, top))


async def _continue(session: Session, ids: Sequence[int], top: int) -> list[TokenInfo]:
    """Score ``ids[1:]``; a pass overlaps the next by one token, whose prediction the next one needs."""
    scored: list[TokenInfo] = []
    while len(scored) < len(ids) - 1:
        start = len(scored)
        fed = ids[start : start + _PASS_TOKENS + 1]
        predictions = await session.extend(fed, top=top)
        if start + len(fed) < len(ids):
            await session.rewind(session.length - 1)
        scored += [
            TokenInfo(token, prediction.next_logprob, prediction.top)
            for token, prediction in zip(fed[1:], predictions, strict=False)
        ]
    return scored
