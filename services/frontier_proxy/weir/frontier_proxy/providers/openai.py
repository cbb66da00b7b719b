"""OpenAI chat completions, and every server that speaks the same protocol."""

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
from weir.frontier_proxy.providers.wording import conversation

_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
# The API takes signed 64-bit seeds, Weir unsigned ones.
_SEED_MASK = 2**63 - 1


class OpenAIProvider:
    """Streams chat completions with their usage at the end.

    Access of kind ``openai_compatible`` differs in what servers other than OpenAI's take: ``max_tokens``
    for the length, ``top_k``, and no key where none is configured.

    Args:
        access: where it is.
        http: the client to reach it with.
        prefill: whether it continues a last assistant turn when told so by ``continue_final_message``, as
            vLLM, SGLang, Text Generation Inference and llama.cpp do.
    """

    stand_in = False
    max_stops = 4

    def __init__(self, access: Access, http: HttpClient, *, prefill: bool = False) -> None:
        self.access, self._http, self._prefill = access, http, prefill
        self._compatible = access.kind == "openai_compatible"

    def supports(self, constraint: Constraint) -> bool:
        """JSON Schemas, and choices as one."""
        return constraint.kind in ("json_schema", "choices")

    def prefills(self, request: ProviderRequest) -> bool:
        """Where the server does; an answer held to a format begins anew."""
        return self._prefill and request.constraint is None

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Yield the completion, see ``Provider.stream``."""
        key = self.access.key
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        call = HttpCall(self.access, f"{self.access.base_url}/chat/completions", headers, self.body(request))
        async with self._http.events(call) as events, aclosing(self._parse(events)) as parsed:
            yield Delta()
            async for event in parsed:
                yield event

    def body(self, request: ProviderRequest) -> dict[str, Any]:
        """Build the request of ``POST /chat/completions``."""
        if prefill := self.prefills(request):
            # Chat templates may strip a turn's end.
            request = replace(request, prefix=request.prefix.rstrip())
        turns = conversation(request, prefill=prefill)
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if prefill and request.prefix:
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        sampling = request.sampling
        settings: dict[str, Any] = {
            "max_tokens" if self._compatible else "max_completion_tokens": sampling.max_tokens,
            "seed": None if sampling.seed is None else sampling.seed & _SEED_MASK,
            "stop": list(sampling.stop) or None,
        }
        if "no_sampling" not in request.traits:
            settings |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
        if self._compatible:
            settings["top_k"] = sampling.top_k
        body |= {name: value for name, value in settings.items() if value is not None}
        if request.constraint:
            body["response_format"] = _response_format(request.constraint)
        return body

    async def _parse(self, events: AsyncIterator[SseEvent]) -> AsyncGenerator[ProviderEvent, None]:
        reason: FinishReason | None = None
        counts: TokenCounts | None = None
        async for event in events:
            if event.data == "[DONE]":
                break
            chunk = failures.parse(self.access, event.data)
            if "error" in chunk:
                failures.raise_for_event(self.access, chunk)
            counts = _counts(chunk.get("usage")) or counts
            for choice in chunk.get("choices") or ():
                delta = choice.get("delta") or {}
                if text := delta.get("content") or delta.get("refusal"):
                    yield Delta(text)
                if finish := choice.get("finish_reason"):
                    if finish == "content_filter":
                        raise failures.filtered(self.access, finish)
                    reason = _FINISH.get(finish, FinishReason.STOP)
        if reason is None:
            raise failures.broke_off(self.access)
        yield Finished(reason, counts)


def _response_format(constraint: Constraint) -> dict[str, Any]:
    schema = schema_of(constraint)
    strict = is_closed(schema, all_required=True)
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": strict}}


def _counts(usage: dict[str, Any] | None) -> TokenCounts | None:
    if not usage:
        return None
    details = usage.get("prompt_tokens_details") or {}
    return TokenCounts(
        prompt=usage.get("prompt_tokens") or 0,
        completion=usage.get("completion_tokens") or 0,
        cached=details.get("cached_tokens") or 0,
        cache_write=details.get("cache_write_tokens") or 0,
    )
