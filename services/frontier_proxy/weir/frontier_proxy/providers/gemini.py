"""Google's Gemini API: streamGenerateContent as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from weir.common.sse import SseEvent
from weir.engines.base import Constraint, FinishReason
from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.providers import failures
from weir.frontier_proxy.providers.base import Access, Delta, Finished, ProviderEvent, ProviderRequest
from weir.frontier_proxy.providers.http import HttpCall, HttpClient
from weir.frontier_proxy.providers.schemas import schema_of
from weir.frontier_proxy.providers.wording import conversation, system_text

_FINISH = {"STOP": FinishReason.STOP, "MAX_TOKENS": FinishReason.LENGTH}
_ROLES = {"user": "user", "assistant": "model"}
# The API takes signed 32-bit seeds, Weir unsigned 64-bit ones.
_SEED_MASK = 2**31 - 1


class GeminiProvider:
    """Streams generated content; every event repeats the usage so far."""

    stand_in = False
    max_stops = 5

    def __init__(self, access: Access, http: HttpClient) -> None:
        self.access, self._http = access, http

    def supports(self, constraint: Constraint) -> bool:
        """JSON Schemas and choices."""
        return constraint.kind in ("json_schema", "choices")

    def prefills(self, request: ProviderRequest) -> bool:
        """Never: a last assistant turn is answered, not continued."""
        del request
        return False

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Yield the content, see ``Provider.stream``."""
        model = quote(request.model, safe="")
        url = f"{self.access.base_url}/models/{model}:streamGenerateContent?alt=sse"
        headers = {"x-goog-api-key": self.access.key.get_secret_value()} if self.access.key else {}
        call = HttpCall(self.access, url, headers, self.body(request))
        async with self._http.events(call) as events, aclosing(self._parse(events)) as parsed:
            yield Delta()
            async for event in parsed:
                yield event

    def body(self, request: ProviderRequest) -> dict[str, Any]:
        """Build the request of ``models.streamGenerateContent``."""
        turns = conversation(request, prefill=False)
        body: dict[str, Any] = {
            "contents": [
                {"role": _ROLES[turn.role], "parts": [{"text": turn.content}]}
                for turn in turns
                if turn.role != "system"
            ]
        }
        if system := system_text(turns):
            body["systemInstruction"] = {"parts": [{"text": system}]}
        if config := _generation_config(request):
            body["generationConfig"] = config
        return body

    async def _parse(self, events: AsyncIterator[SseEvent]) -> AsyncGenerator[ProviderEvent, None]:
        reason: str | None = None
        counts: TokenCounts | None = None
        async for event in events:
            content = failures.parse(self.access, event.data)
            if "error" in content:
                failures.raise_for_event(self.access, content)
            if blocked := (content.get("promptFeedback") or {}).get("blockReason"):
                raise failures.filtered(self.access, blocked)
            counts = _counts(content.get("usageMetadata")) or counts
            for candidate in content.get("candidates") or ():
                yield Delta(_text(candidate), counts)
                reason = candidate.get("finishReason") or reason
        if reason is None:
            raise failures.broke_off(self.access)
        if reason not in _FINISH:
            raise failures.filtered(self.access, reason)
        yield Finished(_FINISH[reason], counts)


def _generation_config(request: ProviderRequest) -> dict[str, Any]:
    sampling = request.sampling
    config: dict[str, Any] = {
        "maxOutputTokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "topP": sampling.top_p,
        "topK": sampling.top_k,
        "seed": None if sampling.seed is None else sampling.seed & _SEED_MASK,
        "stopSequences": list(sampling.stop) or None,
    }
    if request.constraint:
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = schema_of(request.constraint)
    return {name: value for name, value in config.items() if value is not None}


def _text(candidate: dict[str, Any]) -> str:
    """Join the parts that are the answer; parts marked ``thought`` are not."""
    parts = (candidate.get("content") or {}).get("parts") or ()
    return "".join(part.get("text") or "" for part in parts if not part.get("thought"))


def _counts(usage: dict[str, Any] | None) -> TokenCounts | None:
    """Read the counts; thinking is billed as output but told apart from it."""
    if not usage:
        return None
    completion = (usage.get("candidatesTokenCount") or 0) + (usage.get("thoughtsTokenCount") or 0)
    prompt = (usage.get("promptTokenCount") or 0) + (usage.get("toolUsePromptTokenCount") or 0)
    return TokenCounts(prompt=prompt, completion=completion, cached=usage.get("cachedContentTokenCount") or 0)
