"""One call to one provider over real HTTP, and what becomes of it: text, error, and tokens of the bill."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

from pydantic import SecretStr

from tests.services.provider_doubles import ProviderDouble
from weir.common.errors import WeirError
from weir.engines.base import ChatMessage, Constraint, FinishReason, Sampling
from weir.frontier_proxy.bill import Bill
from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.keys import Key
from weir.frontier_proxy.network import Route
from weir.frontier_proxy.providers.anthropic import AnthropicProvider
from weir.frontier_proxy.providers.base import Access, Finished, Provider, ProviderRequest
from weir.frontier_proxy.providers.gemini import GeminiProvider
from weir.frontier_proxy.providers.http import HttpClient
from weir.frontier_proxy.providers.openai import OpenAIProvider
from weir.frontier_proxy.providers.openai_responses import OpenAIResponsesProvider

KEY = "sk-double-0123456789abcdefghij"
KINDS = {
    "openai": OpenAIProvider,
    "openai_responses": OpenAIResponsesProvider,
    "anthropic": AnthropicProvider,
    "gemini": GeminiProvider,
}
QUESTION = ProviderRequest("model", (ChatMessage("user", "What is a weir?"),), Sampling(max_tokens=100))
CONSTRAINED = replace(QUESTION, constraint=Constraint("json_schema", ('{"type": "object"}',)))


@dataclass(frozen=True)
class Outcome:
    """What came, and what is paid for it."""

    text: str
    finish: FinishReason | None
    error: WeirError | None
    bill: TokenCounts


@dataclass(frozen=True)
class Caller:
    """A provider and the server that it calls."""

    kind: str
    provider: Provider
    server: ProviderDouble

    async def call(self, request: ProviderRequest = QUESTION, *, only_accepted: bool = False) -> Outcome:
        """Read one answer to its end, or until it is accepted."""
        bill, text, finish, error = Bill(), "", None, None
        try:
            async with aclosing(self.provider.stream(request)) as events:
                async for event in events:
                    bill.add(event)
                    if only_accepted:
                        break
                    if isinstance(event, Finished):
                        finish = event.reason
                    else:
                        text += event.text
        except WeirError as raised:
            error = raised
        return Outcome(text, finish, error, bill.counts(request))


def access(kind: str, url: str) -> Access:
    """A provider on this machine."""
    return Access("double", kind, url, Key("DOUBLE_KEY", SecretStr(KEY)), Route(guarded=False))


@asynccontextmanager
async def caller(kind: str, url: str = "") -> AsyncIterator[Caller]:
    """Run a server that speaks the protocol of ``kind``, and its client, which may call ``url`` instead."""
    http = HttpClient()
    async with ProviderDouble().running() as server:
        await http.start()
        try:
            yield Caller(kind, KINDS[kind](access(kind, url or server.url), http), server)
        finally:
            await http.aclose()
