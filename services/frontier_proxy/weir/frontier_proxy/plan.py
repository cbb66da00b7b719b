"""What exactly is sent to a candidate: redacted where it must be, no longer than the money allows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from weir.common.config.base import ResidencyName
from weir.common.config.model import FrontierTier
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import ChatMessage, Constraint
from weir.frontier_proxy.attempt import Attempt
from weir.frontier_proxy.continuation import Joint, Trim
from weir.frontier_proxy.domain import AttemptUsage, ForwardSpec, to_usd
from weir.frontier_proxy.estimates import prompt_bound, prompt_estimate, structured_estimate
from weir.frontier_proxy.providers.base import ProviderRequest
from weir.frontier_proxy.redaction import Redactor, unfinished
from weir.frontier_proxy.restart import Restart
from weir.frontier_proxy.selection import Candidate
from weir.frontier_proxy.stages import Owed, Pipeline, Restore, Stage, Stop, Unwrap


class Planner:
    """Builds attempts. ``tier`` holds the defaults of what a request leaves open."""

    def __init__(self, tier: FrontierTier) -> None:
        self._tier = tier

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
        size = prompt_estimate(self._request(spec))
        fitting = [c for c in able if size < self._context(c)]
        if not fitting:
            limit = max(map(self._context, able))
            hint = f"The prompt has about {size} tokens, and the model takes {limit}."
            raise WeirError(ErrorCode.CONTEXT_TOO_LONG, hint)
        return fitting

    def _context(self, candidate: Candidate) -> int:
        known = candidate.price.max_context
        return min(known, self._tier.max_context) if candidate.model == self._tier.model_id else known

    async def attempt(
        self,
        candidate: Candidate,
        spec: ForwardSpec,
        residency: ResidencyName,
        spent: Iterable[AttemptUsage],
    ) -> Attempt:
        """Build the attempt on ``candidate``. Raises WeirError COST_LIMIT where no answer fits the limit."""
        request = self._request(spec)
        stages: list[Stage] = []
        owed = ""
        if request.constraint and request.constraint.kind == "choices" and not candidate.provider.stand_in:
            stages.append(Unwrap())
        if residency == "redacted" and not candidate.provider.stand_in:
            # The telephone metadata takes a millisecond per kilobyte.
            request, originals, owed = await asyncio.to_thread(redacted, request)
            if originals:
                stages.append(Restore(originals))
        request = replace(request, model=candidate.model, traits=candidate.price.traits)
        request, joining = _joined(candidate, request, _prefix(spec) + owed)
        stages += [*joining, Owed(owed)] if owed else joining
        stop, request = _stops(candidate, request, spec.prompt.sampling.stop)
        if stop.needed:
            stages.append(stop)
        request, capped = _within(candidate, request, _left(spec, spent))
        return Attempt(candidate, request, Pipeline(stages), stop, capped=capped)

    def _request(self, spec: ForwardSpec) -> ProviderRequest:
        asked = spec.prompt.sampling
        sampling = replace(
            asked,
            max_tokens=asked.max_tokens or self._tier.max_tokens,
            temperature=self._tier.temperature if asked.temperature is None else asked.temperature,
            top_p=self._tier.top_p if asked.top_p is None else asked.top_p,
        )
        messages = spec.prompt.messages
        if messages[-1].role == "assistant" and len(messages) > 1:
            messages = messages[:-1]
        return ProviderRequest("", messages, sampling, spec.prompt.constraint, _prefix(spec))


def _prefix(spec: ForwardSpec) -> str:
    """Return the answer text that stands: a last assistant turn of the prompt, and what was sent since."""
    messages = spec.prompt.messages
    open_turn = messages[-1].content if messages[-1].role == "assistant" and len(messages) > 1 else ""
    return open_turn + spec.continue_from


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


def _left(spec: ForwardSpec, spent: Iterable[AttemptUsage]) -> int | None:
    """Return what the cost limit leaves after earlier attempts, in nano-dollars."""
    if spec.max_cost_nano is None:
        return None
    return spec.max_cost_nano - sum(usage.cost_nano for usage in spent)


def _within(candidate: Candidate, request: ProviderRequest, left: int | None) -> tuple[ProviderRequest, bool]:
    """Lower ``max_tokens`` to what the limit pays for; returns whether it was lowered."""
    wanted = request.sampling.max_tokens or 0
    if left is None or candidate.provider.stand_in:
        return request, False
    tokens = candidate.price.affordable(prompt_bound(request), left)
    if tokens < 1:
        least = to_usd(candidate.price.bound(prompt_bound(request), 1))
        rest = to_usd(max(0, left))
        hint = f"On '{candidate.model}' this prompt may cost ${least:.6g}, and ${rest:.6g} is left."
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


def redacted(request: ProviderRequest) -> tuple[ProviderRequest, dict[str, str], str]:
    """Replace personal data everywhere in ``request``.

    Returns also the originals by placeholder, and what completes one of them at the prefix's end.
    """
    constraint = request.constraint
    values = constraint.value if constraint else ()
    redactor = Redactor(
        [*(m.content for m in request.messages), request.prefix, *request.sampling.stop, *values]
    )
    messages = tuple(ChatMessage(m.role, redactor.redact(m.content)) for m in request.messages)
    owed = unfinished(request.prefix, redactor.originals.values())
    prefix = redactor.redact(request.prefix + owed)
    sampling = replace(request.sampling, stop=tuple(map(redactor.redact, request.sampling.stop)))
    changed = _constraint(constraint, redactor) if constraint else None
    if redactor.notice:
        messages = (ChatMessage("system", redactor.notice), *messages)
    request = replace(request, messages=messages, prefix=prefix, sampling=sampling, constraint=changed)
    return request, redactor.originals, owed


def _constraint(constraint: Constraint, redactor: Redactor) -> Constraint:
    if constraint.kind != "json_schema":
        return replace(constraint, value=tuple(map(redactor.redact, constraint.value)))
    try:
        schema = json.loads(constraint.value[0])
    except ValueError:
        return constraint
    return replace(constraint, value=(json.dumps(_strings(schema, redactor)),))


def _strings(node: Any, redactor: Redactor) -> Any:
    """Redact the strings of a schema and leave its numbers and its structure alone."""
    if isinstance(node, dict):
        return {key: _strings(value, redactor) for key, value in node.items()}
    if isinstance(node, list):
        return [_strings(value, redactor) for value in node]
    return redactor.redact(node) if isinstance(node, str) else node
