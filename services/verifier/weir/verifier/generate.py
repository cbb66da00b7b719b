"""The hybrid tier: a worker drafts, the verifier judges, the frontier may take over."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace

import structlog

from weir.common.config.model import HybridTier
from weir.common.inference import Inference
from weir.engines.base import SessionEngine
from weir.verifier import measures
from weir.verifier.answer import Answer
from weir.verifier.checking.checker import Checker
from weir.verifier.drafts import WorkerStub
from weir.verifier.events import Ending, Event, Finished, Job
from weir.verifier.frontier import Frontier
from weir.verifier.sequence import encode_prompt, open_verification
from weir.verifier.sources import Sources
from weir.verifier.speculation.muster import Muster
from weir.verifier.upstream import Upstream

log = structlog.get_logger(__name__)


class Generator:
    """Produces verified answers, each on its own session."""

    def __init__(
        self,
        engine: SessionEngine,
        tier: HybridTier,
        workers: Upstream[WorkerStub],
        frontier: Frontier,
        checker: Checker,
    ) -> None:
        self._engine = engine
        self._tier = tier
        self._frontier = frontier
        self._checker = checker
        self._sources = Sources(engine, tier, workers)
        self._muster = Muster()

    async def run(self, job: Job) -> AsyncGenerator[Event, None]:
        """Stream one answer: deltas, at most one hand-over, then one ``Finished``.

        Raises:
            WeirError: CONTEXT_TOO_LONG, INVALID_CONSTRAINT, QUEUE_FULL, TOKENIZER_MISMATCH, UNSUPPORTED,
                ENGINE_CRASHED, or STREAM_BROKEN where the frontier fails after its first delta.
        """
        prompt_ids, max_tokens = await encode_prompt(self._engine, self._tier, job.spec)
        job = self._settled(job, max_tokens)
        info = self._engine.info
        with (
            Inference("chat", info, job.spec.sampling) as inference,
            measures.Recorder(inference, info.model) as recorder,
        ):
            answer = Answer(job, self._engine, self._frontier, len(prompt_ids), self._tier.run, recorder)
            async with AsyncExitStack() as local:
                source = await self._sources.choose(job.rule)
                verification = await open_verification(local, self._engine, self._tier, job.spec, source.rule)
                opened = self._sources.open(source, job, prompt_ids, max_tokens, sampled=verification.sampled)
                drafts, pace = await local.enter_async_context(opened)
                answer.opened()
                await verification.prefill(prompt_ids)
                place = local.enter_context(self._muster.place())
                stream = answer.stream(verification, drafts, pace, local, place)
                async with aclosing(stream) as events:
                    async for event in events:
                        if isinstance(event, Finished):
                            await self._recheck(job, event, answer.text)
                        recorder.note(event)
                        yield event

    def _settled(self, job: Job, max_tokens: int) -> Job:
        """Fill in the defaults, on which drafter and verifier must agree."""
        given, tier = job.spec.sampling, self._tier
        sampling = replace(
            given,
            max_tokens=max_tokens,
            temperature=given.temperature if given.temperature is not None else tier.temperature,
            top_p=given.top_p if given.top_p is not None else tier.top_p,
        )
        return replace(job, spec=replace(job.spec, sampling=sampling))

    async def _recheck(self, job: Job, finished: Finished, text: str) -> None:
        """Check a whole answer once more. What was sent stands: a failure is counted and logged."""
        constraint = job.spec.constraint
        if constraint is None or finished.ending is not Ending.STOP:
            return
        if violation := await self._checker.violation(constraint, text):
            measures.constraint_broken(self._engine.info.model)
            log.warning("constraint_violated", kind=constraint.kind, where=violation.partition(":")[0])
