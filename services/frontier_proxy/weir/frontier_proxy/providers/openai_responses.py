"""OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Constraint, FinishReason
from weir.frontier_proxy.providers import failures
from weir.frontier_proxy.providers.answers import answer, delta_of, text_in
from weir.frontier_proxy.providers.base import Access, Delta, ProviderEvent, ProviderRequest
from weir.frontier_proxy.providers.http import HttpCall, HttpClient
from weir.frontier_proxy.providers.openai import RefusingReader, bearer
from weir.frontier_proxy.providers.schemas import is_closed, schema_of
from weir.frontier_proxy.providers.usage import response_counts
from weir.frontier_proxy.providers.wording import conversation


class OpenAIResponsesProvider:
    """Streams responses; their usage comes with the event that ends them.

    The API knows neither stop strings nor seeds, and it is asked to store nothing.
    """

    stand_in = False
    max_stops = 0

    def __init__(self, access: Access, http: HttpClient) -> None:
        self.access, self._http = access, http

    def supports(self, constraint: Constraint) -> bool:
        """JSON Schemas, and choices as one."""
        return constraint.kind in ("json_schema", "choices")

    def prefills(self, request: ProviderRequest) -> bool:
        """Never: a last assistant turn is answered, not continued."""
        del request
        return False

    def stream(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Yield the response, see ``Provider.stream``.

        Raises also WeirError INVALID_SAMPLING for a length that the API does not take.
        """
        url = f"{self.access.base_url}/responses"
        call = HttpCall(self.access, url, bearer(self.access), self.body(request), request.model)
        constrained = request.constraint is not None
        return answer(self._http, call, ResponseReader(self.access, constrained=constrained))

    def body(self, request: ProviderRequest) -> dict[str, Any]:
        """Build the request of ``POST /responses``."""
        sampling = request.sampling
        if sampling.max_tokens is not None and sampling.max_tokens < self.access.least_tokens:
            raise _too_short(self.access)
        settings: dict[str, Any] = {"max_output_tokens": sampling.max_tokens}
        if "no_sampling" not in request.traits:
            settings |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
        if request.constraint:
            settings["text"] = {"format": _format(request.constraint)}
        turns = conversation(request, prefill=False)
        return {
            "model": request.model,
            "input": [{"role": turn.role, "content": turn.content} for turn in turns],
            "stream": True,
            "store": False,
            **{name: value for name, value in settings.items() if value is not None},
        }


class ResponseReader(RefusingReader):
    """Reads a response's events; those of no use here are passed over, as the protocol asks."""

    def _take(self, content: dict[str, Any]) -> Delta | None:
        match content.get("type"):
            case "response.output_text.delta":
                return delta_of(text_in(content["delta"]))
            case "response.refusal.delta":
                return delta_of(self._refusal(text_in(content["delta"])))
            case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
                return delta_of("", text_in(content["delta"]))
            case "response.completed" | "response.incomplete" | "response.failed":
                self._finish(content["response"])
            case "error":
                raise failures.told(self.access, content)
            case None if content.get("error"):
                raise failures.told(self.access, content)
        return None

    def _finish(self, response: dict[str, Any]) -> None:
        self.over = True
        self.counts = response_counts(response.get("usage"))
        match response["status"]:
            case "completed":
                self.end = self._stopped()
            case "incomplete":
                reason = response["incomplete_details"]["reason"]
                filtered = reason == "content_filter"
                self.end = failures.filtered(self.access, reason) if filtered else FinishReason.LENGTH
            case _:
                self.end = failures.told(self.access, response)


def _format(constraint: Constraint) -> dict[str, Any]:
    schema = schema_of(constraint)
    strict = is_closed(schema, all_required=True)
    return {"type": "json_schema", "name": "answer", "schema": schema, "strict": strict}


def _too_short(access: Access) -> WeirError:
    path = "prompt.sampling.max_tokens"
    problem = f"is less than {access.least_tokens}, the least that provider '{access.name}' takes"
    hint = f"{path} {problem}; raise it."
    return WeirError(ErrorCode.INVALID_SAMPLING, hint, fields={path: problem})
