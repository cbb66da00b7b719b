"""OpenAI chat completions, and every server that speaks the same protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from weir.common.errors import WeirError
from weir.engines.base import Constraint, FinishReason
from weir.frontier_proxy.providers import failures
from weir.frontier_proxy.providers.answers import Reader, answer, delta_of, text_in
from weir.frontier_proxy.providers.base import Access, Delta, ProviderEvent, ProviderRequest
from weir.frontier_proxy.providers.http import HttpCall, HttpClient
from weir.frontier_proxy.providers.schemas import is_closed, schema_of
from weir.frontier_proxy.providers.usage import chat_counts
from weir.frontier_proxy.providers.wording import conversation

_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
# Compatible servers end an answer so where it is none: they were interrupted.
_INTERRUPTED = {"abort", "error", "insufficient_system_resource"}
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

    def stream(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Yield the completion, see ``Provider.stream``."""
        url = f"{self.access.base_url}/chat/completions"
        call = HttpCall(self.access, url, bearer(self.access), self.body(request), request.model)
        return answer(self._http, call, ChatReader(self.access, constrained=request.constraint is not None))

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


def bearer(access: Access) -> dict[str, str]:
    """Return the header that carries the key, where there is one."""
    key = access.key
    return {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}


class RefusingReader(Reader):
    """Reads answers of protocols that tell a refusal apart from text.

    It is text like any other, unless the answer is held to a form (``constrained``): there it is an error.
    """

    def __init__(self, access: Access, *, constrained: bool) -> None:
        super().__init__(access)
        self._constrained = constrained
        self._refused = False

    def _refusal(self, text: str) -> str:
        """Take a refusal's text; returns what of it is part of the answer."""
        self._refused = self._refused or bool(text)
        return "" if self._constrained else text

    def _stopped(self, reason: FinishReason = FinishReason.STOP) -> FinishReason | WeirError:
        """Return the end of an answer that its model has ended."""
        return failures.refused(self.access) if self._refused and self._constrained else reason


class ChatReader(RefusingReader):
    """Reads chunks of a chat completion, or a whole one from a server that does not stream."""

    def _take(self, content: dict[str, Any]) -> Delta | None:
        if content.get("error"):
            raise failures.told(self.access, content)
        counts = chat_counts(content.get("usage"))
        self.counts = counts or self.counts
        text = unseen = ""
        for choice in content.get("choices") or ():
            part = choice.get("delta") or choice.get("message") or {}
            text += text_in(part.get("content")) + self._refusal(text_in(part.get("refusal")))
            unseen += text_in(part.get("reasoning_content") or part.get("reasoning"))
            if finish := text_in(choice.get("finish_reason")):
                self._finish(finish)
        return delta_of(text, unseen, counts)

    def _finish(self, reason: str) -> None:
        if reason == "content_filter":
            self.end = failures.filtered(self.access, reason)
        elif reason in _INTERRUPTED:
            self.end = failures.broke_off(self.access)
        else:
            self.end = self._stopped(_FINISH.get(reason, FinishReason.STOP))


def _response_format(constraint: Constraint) -> dict[str, Any]:
    schema = schema_of(constraint)
    strict = is_closed(schema, all_required=True)
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": strict}}
