"""One answer from the small model: a place in the queue, the engine's steps, the account at the end."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from weir.common import conventions as names
from weir.common.config.model import LocalModel
from weir.common.inference import Inference
from weir.engines.base import Engine, FinishReason, GenerationRequest, Pace, Step
from weir.slm_worker.admission import Admission
from weir.slm_worker.measures import speculated


@dataclass(frozen=True, slots=True)
class Account:
    """What an answer took; times in seconds."""

    finish_reason: FinishReason
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    queue_s: float
    first_token_s: float
    total_s: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0


def pace(streams: int) -> Pace:
    """Return how far steps are merged when ``streams`` run: 35 ms for one, up to 150 ms for many.

    A message costs about the same with one token as with eight. What the servers spend on messages the
    engine lacks on the same cores, and the more streams, the longer each token takes anyway.
    """
    return Pace(max_steps=8, max_delay_s=min(0.15, 0.02 + 0.015 * streams))


def cost_usd(run: LocalModel, prompt_tokens: int, completion_tokens: int) -> float:
    """Price tokens of a local model; free unless the operator set prices."""
    spent = prompt_tokens * run.input_usd_per_million + completion_tokens * run.output_usd_per_million
    return spent / 1e6


async def complete(
    engine: Engine, admission: Admission, request: GenerationRequest, run: LocalModel
) -> AsyncGenerator[Step | Account, None]:
    """Yield the engine's steps, then the account. Closing it frees the place and stops the engine."""
    arrived = time.perf_counter()
    with Inference("chat", engine.info, request.sampling) as inference:
        last = Step()
        async with admission.place() as queue_s:
            paced = replace(request, pace=pace(admission.running))
            try:
                async with aclosing(engine.generate(paced)) as steps:
                    async for step in steps:
                        inference.tokens(len(step.tokens))
                        last = step
                        yield step
            finally:
                _note_speculation(inference, engine, run, last)
        inference.finish(
            last.prompt_tokens, last.cached_prompt_tokens, last.completion_tokens, last.finish_reason
        )
    yield Account(
        finish_reason=last.finish_reason or FinishReason.STOP,
        prompt_tokens=last.prompt_tokens,
        cached_prompt_tokens=last.cached_prompt_tokens,
        completion_tokens=last.completion_tokens,
        cost_usd=cost_usd(run, last.prompt_tokens, last.completion_tokens),
        queue_s=queue_s,
        first_token_s=inference.first_token_s,
        total_s=time.perf_counter() - arrived,
        drafted_tokens=last.drafted_tokens,
        accepted_tokens=last.accepted_tokens,
    )


def _note_speculation(inference: Inference, engine: Engine, run: LocalModel, last: Step) -> None:
    if last.drafted_tokens:
        inference.span.set_attribute(names.DRAFTED, last.drafted_tokens)
        inference.span.set_attribute(names.ACCEPTED, last.accepted_tokens)
        speculated(engine.info.model, run.speculative, last.drafted_tokens, last.accepted_tokens)
