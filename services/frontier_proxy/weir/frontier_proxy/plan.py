"""What exactly is sent to a candidate: redacted where it must be, no longer than the money allows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from weir.common.config.base import ResidencyName
from weir.common.config.model import FrontierTier
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import ChatMessage, Constraint, Sampling
from weir.frontier_proxy.continuation import Joint, Trim
from weir.frontier_proxy.domain import ForwardSpec, to_usd
from weir.frontier_proxy.estimates import prompt_bound, prompt_estimate, structured_estimate
from weir.frontier_proxy.providers.base import ProviderRequest
from weir.frontier_proxy.redacted import Names, redacted
from weir.frontier_proxy.restart import Restart
from weir.frontier_proxy.selection import Candidate
from weir.frontier_proxy.stages import Owed, Pipeline, Restore, Stage, Stop, Unwrap


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent to a candidate, what its text passes through, and the most that it can cost.

    ``stop`` is the one of ``stages`` that may end it early. ``capped``: the cost limit, not the caller, set
    the request's ``max_tokens``.
    """

    candidate: Candidate
    request: ProviderRequest
    stages: Pipeline
    stop: Stop
    capped: bool
    bound_nano: int


class Planner:
    """Plans attempts.

    Args:
        tier: the defaults of what a request leaves open.
        names: finds the names in a text that are to be redacted; none are where ``None``.
    """

    def __init__(self, tier: FrontierTier, names: Names | None = None) -> None:
        self._tier, self._names = tier, names

    def eligible(self, candidates: Sequence[Candidate], spec: ForwardSpec) -> list[Candidate]:
        """Return those that can take the prompt and hold the answer to its constraint.

        Raises:
            WeirError: UNSUPPORTED or CONTEXT_TOO_LONG where none can.
        """
        constraint = spec.prompt.constraint
        able = [c for c in candidates if constraint is None or c.provider.supports(constraint)]
        if constraint and not able:
            hint = f"No provider can hold an answer to a {constraint.kind}; use a JSON Schema or choices."
            raise WeirError(ErrorCode.UNSUPPORTED, hint)
        # Where none takes so short an answer, the first one says so.
        fitting = self._holding(self._answering(able, spec) or able, spec)
        if not fitting:
            size = prompt_estimate(*_texts(spec))
            limit = max(map(self._context, able))
            hint = f"The prompt has about {size} tokens, and the model takes {limit}."
            raise WeirError(ErrorCode.CONTEXT_TOO_LONG, hint)
        return fitting

    def fitting(self, candidates: Iterable[Candidate], spec: ForwardSpec) -> list[Candidate]:
        """Return those whose context holds the prompt and the text that stands, and which take the length."""
        return self._holding(self._answering(candidates, spec), spec)

    def _holding(self, candidates: Iterable[Candidate], spec: ForwardSpec) -> list[Candidate]:
        size = prompt_estimate(*_texts(spec))
        return [c for c in candidates if size < self._context(c)]

    def _answering(self, candidates: Iterable[Candidate], spec: ForwardSpec) -> list[Candidate]:
        length = spec.prompt.sampling.max_tokens or self._tier.max_tokens
        return [c for c in candidates if c.provider.access.least_tokens <= length]

    def continued(self, spec: ForwardSpec, sent: str, tokens: int) -> ForwardSpec:
        """Return what is asked of the next model once ``sent``, of so many tokens, has gone to the client."""
        asked = spec.prompt.sampling
        # At least one is asked for: the count of what was sent may be an estimate.
        left = max(1, (asked.max_tokens or self._tier.max_tokens) - tokens)
        prompt = replace(spec.prompt, sampling=replace(asked, max_tokens=left))
        return replace(spec, prompt=prompt, continue_from=spec.continue_from + sent)

    def _context(self, candidate: Candidate) -> int:
        known = candidate.price.max_context
        return min(known, self._tier.max_context) if candidate.model == self._tier.model_id else known

    async def plan(
        self, candidate: Candidate, spec: ForwardSpec, residency: ResidencyName, left_nano: int | None
    ) -> Plan:
        """Plan an attempt on ``candidate`` with what the cost limit leaves, ``None`` without one.

        Raises:
            WeirError: COST_LIMIT where no answer fits the limit.
        """
        request = self._request(spec, candidate)
        stages: list[Stage] = []
        owed = ""
        if request.constraint and request.constraint.kind == "choices" and not candidate.provider.stand_in:
            stages.append(Unwrap())
        if residency == "redacted" and not candidate.provider.stand_in:
            # The telephone metadata takes a millisecond per kilobyte, a model of names much more.
            request, originals, owed = await asyncio.to_thread(redacted, request, self._names, spec.names)
            if originals:
                stages.append(Restore(originals))
        request, joining = _joined(candidate, request, _texts(spec)[1] + owed)
        stages += [*joining, Owed(owed)] if owed else joining
        stop, request = _stops(candidate, request, spec.prompt.sampling.stop)
        if stop.needed:
            stages.append(stop)
        request, capped = _within(candidate, request, left_nano)
        return Plan(candidate, request, Pipeline(stages), stop, capped, _bound(candidate, request))

    def _request(self, spec: ForwardSpec, candidate: Candidate) -> ProviderRequest:
        asked, tier = spec.prompt.sampling, self._tier
        sampling = Sampling(
            max_tokens=asked.max_tokens or tier.max_tokens,
            temperature=tier.temperature if asked.temperature is None else asked.temperature,
            top_p=tier.top_p if asked.top_p is None else asked.top_p,
            top_k=asked.top_k,
            seed=asked.seed,
            stop=asked.stop,
        )
        messages, prefix, constraint = _texts(spec)
        return ProviderRequest(
            candidate.model, messages, sampling, constraint, prefix, candidate.price.traits
        )


def _texts(spec: ForwardSpec) -> tuple[tuple[ChatMessage, ...], str, Constraint | None]:
    """Return the turns, the answer text that stands, and the form that the answer is held to.

    What stands is a last assistant turn of the prompt, and what was sent since.
    """
    messages, prefix = spec.prompt.messages, spec.continue_from
    if messages[-1].role == "assistant" and len(messages) > 1:
        messages, prefix = messages[:-1], messages[-1].content + prefix
    return messages, prefix, spec.prompt.constraint


def _joined(
    candidate: Candidate, request: ProviderRequest, prefix: str
) -> tuple[ProviderRequest, list[Stage]]:
    """Return what joins the answer to ``prefix``, and the request with room for what will be cut.

    A prefilled answer cannot repeat the prefix, but for the white space at its end that no provider takes;
    the stand-in takes that too.
    """
    constraint = request.constraint
    if not prefix:
        return request, []
    if candidate.provider.prefills(request):
        return request, [] if candidate.provider.stand_in else [Joint(prefix)]
    if constraint is None:
        return request, [Trim(prefix)]
    # It begins anew, so the length asked for is what comes on top.
    wanted = (request.sampling.max_tokens or 0) + structured_estimate(request.prefix)
    request = replace(request, sampling=replace(request.sampling, max_tokens=wanted))
    return request, [Restart(prefix, json=constraint.kind == "json_schema")]


def _bound(candidate: Candidate, request: ProviderRequest) -> int:
    if candidate.provider.stand_in:
        return 0
    return candidate.price.bound(prompt_bound(request), request.sampling.max_tokens or 0)


def _within(candidate: Candidate, request: ProviderRequest, left: int | None) -> tuple[ProviderRequest, bool]:
    """Lower ``max_tokens`` to what the limit pays for; returns whether it was lowered.

    Raises WeirError COST_LIMIT where it pays for none that the provider takes.
    """
    wanted = request.sampling.max_tokens or 0
    if left is None or candidate.provider.stand_in:
        return request, False
    tokens = candidate.price.affordable(prompt_bound(request), left)
    shortest = candidate.provider.access.least_tokens
    if tokens < min(shortest, wanted):
        least = to_usd(candidate.price.bound(prompt_bound(request), shortest))
        rest = to_usd(max(0, left))
        answer = "" if shortest == 1 else f" with the shortest answer, {shortest} tokens,"
        hint = f"On '{candidate.model}' this prompt{answer} may cost ${least:.6g}, and ${rest:.6g} is left."
        raise WeirError(ErrorCode.COST_LIMIT, hint, metadata={"model": candidate.model})
    if tokens >= wanted:
        return request, False
    return replace(request, sampling=replace(request.sampling, max_tokens=tokens)), True


def _stops(
    candidate: Candidate, request: ProviderRequest, originals: tuple[str, ...]
) -> tuple[Stop, ProviderRequest]:
    """Leave the provider as many stop strings as it takes; all are applied here where it takes fewer."""
    limit = 0 if "no_stop" in candidate.price.traits else candidate.provider.max_stops
    if len(originals) <= limit:
        return Stop(()), request
    kept = request.sampling.stop[:limit]
    return Stop(originals), replace(request, sampling=replace(request.sampling, stop=kept))
