"""What tenants may ask for: their models, their default residency, and so many tokens a minute."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import replace

from weir.common.errors import WeirError
from weir.common.tenancy.limits import RateLimits, TokenUse
from weir.common.tenancy.rights import Rights
from weir.frontier_proxy.domain import AttemptUsage, Done, ForwardSpec, Switched
from weir.frontier_proxy.estimates import token_estimate
from weir.frontier_proxy.forward import Forwarder


class TenantForwarder:
    """Forwards what the tenant may ask for, and counts its tokens, those of failed attempts too."""

    def __init__(self, forwarder: Forwarder, rights: Rights, limits: RateLimits) -> None:
        self._forwarder, self._rights, self._limits = forwarder, rights, limits

    async def forward(self, spec: ForwardSpec) -> AsyncGenerator[str | Switched | Done, None]:
        """Yield what ``Forwarder.forward`` does.

        Raises:
            WeirError: TENANT_RATE, TENANT_FORBIDDEN, and what ``Forwarder.forward`` raises.
        """
        residency = spec.residency or self._rights.residency(spec.tenant)
        models = self._rights.allowed_models(spec.tenant)
        if (residency, models) != (spec.residency, spec.models):
            spec = replace(spec, residency=residency, models=models)
        with self._limits.tokens(spec.tenant, _prompt_tokens(spec)) as use:
            try:
                async with aclosing(self._forwarder.forward(spec)) as events:
                    async for event in events:
                        _count(use, event)
                        yield event
            except WeirError as error:
                _count_failed(use, error)
                raise


def _prompt_tokens(spec: ForwardSpec) -> int:
    return sum(token_estimate(message.content) for message in spec.prompt.messages)


def _count(use: TokenUse, event: str | Switched | Done) -> None:
    if isinstance(event, str):
        use.wrote(event)
    elif isinstance(event, Done):
        use.settle(_tokens(event.usage))


def _tokens(usage: Iterable[AttemptUsage]) -> int:
    return sum(attempt.counts.prompt + attempt.counts.completion for attempt in usage)


def _count_failed(use: TokenUse, error: WeirError) -> None:
    """Count what the attempts used, where any were made; a request that was refused used nothing."""
    facts = error.metadata
    use.settle(int(facts.get("prompt_tokens", 0)) + int(facts.get("completion_tokens", 0)))
