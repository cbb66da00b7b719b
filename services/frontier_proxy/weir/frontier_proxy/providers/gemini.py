"""Google's Gemini API: streamGenerateContent as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

from weir.common.errors import WeirError
from weir.engines.base import Constraint, FinishReason
from weir.frontier_proxy.providers import failures
from weir.frontier_proxy.providers.answers import Reader, answer, delta_of, text_in
from weir.frontier_proxy.providers.base import Access, Delta, ProviderEvent, ProviderRequest
from weir.frontier_proxy.providers.http import HttpCall, HttpClient
from weir.frontier_proxy.providers.schemas import schema_of
from weir.frontier_proxy.providers.usage import content_counts
from weir.frontier_proxy.providers.wording import conversation, system_text

_FINISH = {"STOP": FinishReason.STOP, "MAX_TOKENS": FinishReason.LENGTH}
# The model lost its way, which says nothing about the content.
_FAILED = {
    "FINISH_REASON_UNSPECIFIED",
    "OTHER",
    "MALFORMED_FUNCTION_CALL",
    "MALFORMED_RESPONSE",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
}
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

    def stream(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Yield the content, see ``Provider.stream``."""
        model = quote(request.model, safe="")
        url = f"{self.access.base_url}/models/{model}:streamGenerateContent?alt=sse"
        key = self.access.key
        headers = {"x-goog-api-key": key.get_secret_value()} if key else {}
        call = HttpCall(self.access, url, headers, self.body(request), request.model)
        return answer(self._http, call, ContentReader(self.access))

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


class ContentReader(Reader):
    """Reads parts of generated content."""

    def _take(self, content: dict[str, Any]) -> Delta | None:
        if content.get("error"):
            raise failures.told(self.access, content)
        counts = content_counts(content.get("usageMetadata"))
        self.counts = counts or self.counts
        if blocked := (content.get("promptFeedback") or {}).get("blockReason"):
            self.end = failures.filtered(self.access, text_in(blocked))
        text = unseen = ""
        for candidate in content.get("candidates") or ():
            text += _text(candidate, thought=False)
            unseen += _text(candidate, thought=True)
            if reason := text_in(candidate.get("finishReason")):
                self.end = self._ended(reason)
        return delta_of(text, unseen, counts)

    def _ended(self, reason: str) -> FinishReason | WeirError:
        if reason in _FAILED:
            return failures.broke_off(self.access)
        return _FINISH.get(reason) or failures.filtered(self.access, reason)


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


def _text(candidate: dict[str, Any], *, thought: bool) -> str:
    """Join the parts that are the answer, or those marked ``thought``, which are not."""
    parts = (candidate.get("content") or {}).get("parts") or ()
    return "".join(text_in(part.get("text")) for part in parts if bool(part.get("thought")) is thought)
