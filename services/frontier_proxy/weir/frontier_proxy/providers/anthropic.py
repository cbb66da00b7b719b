"""Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from weir.common.sse import SseEvent
from weir.engines.base import Constraint, FinishReason
from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.providers import failures
from weir.frontier_proxy.providers.base import Access, Delta, Finished, ProviderEvent, ProviderRequest
from weir.frontier_proxy.providers.http import HttpCall, HttpClient
from weir.frontier_proxy.providers.schemas import is_closed, schema_of
from weir.frontier_proxy.providers.wording import conversation, system_text

API_VERSION = "2023-06-01"
# The API wants a length; this is used where neither the request nor the configuration gives one.
DEFAULT_MAX_TOKENS = 1024
_TOOL = "answer"
_CUT = ("max_tokens", "model_context_window_exceeded")


class AnthropicProvider:
    """Streams messages: input usage comes first, output usage last.

    A prefix is handed over as the last assistant turn where the model takes one (trait ``prefill``);
    models since Claude 4.6 refuse it and are told in words.
    """

    stand_in = False
    max_stops = 16

    def __init__(self, access: Access, http: HttpClient) -> None:
        self.access, self._http = access, http

    def supports(self, constraint: Constraint) -> bool:
        """JSON Schemas, and choices as one."""
        return constraint.kind in ("json_schema", "choices")

    def prefills(self, request: ProviderRequest) -> bool:
        """Where the model takes it; tools and formats do not go with it."""
        return "prefill" in request.traits and request.constraint is None

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Yield the message, see ``Provider.stream``."""
        headers = {"anthropic-version": API_VERSION}
        if self.access.key:
            headers["x-api-key"] = self.access.key.get_secret_value()
        call = HttpCall(self.access, f"{self.access.base_url}/messages", headers, self.body(request))
        async with self._http.events(call) as events, aclosing(self._parse(events)) as parsed:
            yield Delta()
            async for event in parsed:
                yield event

    def body(self, request: ProviderRequest) -> dict[str, Any]:
        """Build the request of ``POST /messages``."""
        if prefill := self.prefills(request):
            # A last assistant turn that ends in white space is refused.
            request = replace(request, prefix=request.prefix.rstrip())
        turns = conversation(request, prefill=prefill)
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": sampling.max_tokens or DEFAULT_MAX_TOKENS,
            "messages": [{"role": t.role, "content": t.content} for t in turns if t.role != "system"],
            "stream": True,
        }
        settings: dict[str, Any] = {
            "system": system_text(turns) or None,
            "stop_sequences": list(sampling.stop) or None,
        }
        if "no_sampling" not in request.traits:
            settings |= _sampling(request)
        body |= {name: value for name, value in settings.items() if value is not None}
        if request.constraint:
            body |= _output(schema_of(request.constraint))
        return body

    async def _parse(self, events: AsyncIterator[SseEvent]) -> AsyncGenerator[ProviderEvent, None]:
        counts: TokenCounts | None = None
        reason: str | None = None
        async for event in events:
            content = failures.parse(self.access, event.data)
            kind = content.get("type")
            if kind == "error":
                failures.raise_for_event(self.access, content)
            elif kind == "message_start":
                counts = _counts(content.get("message", {}).get("usage"), TokenCounts())
                yield Delta(counts=counts)
            elif kind == "content_block_delta":
                delta = content.get("delta", {})
                if text := delta.get("text") or delta.get("partial_json"):
                    yield Delta(text)
            elif kind == "message_delta":
                reason = content.get("delta", {}).get("stop_reason") or reason
                counts = _counts(content.get("usage"), counts or TokenCounts())
            elif kind == "message_stop":
                break
        if reason is None:
            raise failures.broke_off(self.access)
        if reason == "refusal":
            raise failures.filtered(self.access, reason)
        yield Finished(FinishReason.LENGTH if reason in _CUT else FinishReason.STOP, counts)


def _sampling(request: ProviderRequest) -> dict[str, Any]:
    """Claude models since 4.1 refuse ``temperature`` beside ``top_p``; the temperature is the one kept."""
    sampling = request.sampling
    temperature = None if sampling.temperature is None else min(sampling.temperature, 1.0)
    return {
        "temperature": temperature,
        "top_p": sampling.top_p if temperature is None else None,
        "top_k": sampling.top_k,
    }


def _output(schema: dict[str, Any]) -> dict[str, Any]:
    """Hold the answer to a schema: by decoding where that takes it, else as the input of a forced tool."""
    if is_closed(schema, all_required=False):
        return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    tool = {"name": _TOOL, "description": "Gives the answer.", "input_schema": schema}
    return {"tools": [tool], "tool_choice": {"type": "tool", "name": _TOOL}}


def _counts(usage: dict[str, Any] | None, before: TokenCounts) -> TokenCounts:
    """Merge a usage object over earlier ones; Anthropic counts cached input apart from ``input_tokens``."""
    usage = usage or {}
    counts = before
    if usage.get("input_tokens") is not None:
        cached = usage.get("cache_read_input_tokens") or 0
        written = usage.get("cache_creation_input_tokens") or 0
        prompt = usage["input_tokens"] + cached + written
        counts = replace(counts, prompt=prompt, cached=cached, cache_write=written)
    if usage.get("output_tokens") is not None:
        counts = replace(counts, completion=usage["output_tokens"])
    return counts
