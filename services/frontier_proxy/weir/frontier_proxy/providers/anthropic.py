"""Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from weir.engines.base import Constraint, FinishReason
from weir.frontier_proxy.providers import failures
from weir.frontier_proxy.providers.answers import Reader, answer, delta_of, text_in
from weir.frontier_proxy.providers.base import Access, Delta, ProviderEvent, ProviderRequest
from weir.frontier_proxy.providers.http import HttpCall, HttpClient
from weir.frontier_proxy.providers.schemas import is_closed, schema_of
from weir.frontier_proxy.providers.usage import message_counts
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

    def stream(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Yield the message, see ``Provider.stream``."""
        headers = {"anthropic-version": API_VERSION}
        if key := self.access.key:
            headers["x-api-key"] = key.get_secret_value()
        url = f"{self.access.base_url}/messages"
        call = HttpCall(self.access, url, headers, self.body(request), request.model)
        return answer(self._http, call, MessageReader(self.access))

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


class MessageReader(Reader):
    """Reads a message's events; those of no use here are passed over, as the protocol asks."""

    def _take(self, content: dict[str, Any]) -> Delta | None:
        match content.get("type"):
            case "content_block_delta":
                delta = content["delta"]
                text = text_in(delta.get("text")) + text_in(delta.get("partial_json"))
                return delta_of(text, text_in(delta.get("thinking")))
            case "message_start":
                return self._count(content["message"].get("usage"))
            case "message_delta":
                self._finish(text_in(content["delta"].get("stop_reason")))
                return self._count(content.get("usage"))
            case "message_stop":
                self.over = True
            case "error":
                raise failures.told(self.access, content)
        return None

    def _count(self, usage: dict[str, Any] | None) -> Delta | None:
        self.counts = message_counts(usage, self.counts)
        return delta_of("", counts=self.counts)

    def _finish(self, reason: str) -> None:
        if reason == "refusal":
            self.end = failures.filtered(self.access, reason)
        elif reason:
            self.end = FinishReason.LENGTH if reason in _CUT else FinishReason.STOP


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
