"""Streamed chunks put together as steps."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import aiohttp
import msgspec

from weir.common.errors import WeirError
from weir.common.sse import SseOverflowError, sse_events
from weir.engines.base import Candidate, FinishReason, GenerationRequest, Step, TokenInfo
from weir.engines.openai_compat.failures import Asked, broken_off, failure
from weir.engines.openai_compat.wire import Choice, Chunk, ErrorBody, TopLogprob, Usage

DONE = "[DONE]"
# The id of a token whose server tells none; EngineInfo.vocab_size is 0 then.
NO_ID = 0

_ID_PREFIX = "token_id:"
_FAILED = frozenset({"abort", "error"})


class Answer:
    """What is known of an answer so far."""

    def __init__(self, request: GenerationRequest, asked: Asked) -> None:
        self._request = request
        self._asked = asked
        self._finish: FinishReason | None = None
        self._usage: Usage | None = None
        self._counted = 0

    def take(self, data: str) -> Step | None:
        """Add one event; returns what it adds to the answer. Raises WeirError STREAM_BROKEN and others."""
        try:
            chunk = msgspec.json.decode(data, type=Chunk)
        except msgspec.DecodeError as error:
            raise broken_off(f"unreadable event: {error}") from None
        if chunk.error is not None:
            raise self._failure(chunk.error)
        if chunk.usage is not None:
            self._usage = chunk.usage
        return self._step(chunk.choices[0]) if chunk.choices else None

    def last(self) -> Step:
        """Return the final step. Raises WeirError STREAM_BROKEN where the answer has no end."""
        if self._finish is None:
            raise broken_off("the stream ended without a finish_reason")
        usage = self._usage or Usage(completion_tokens=self._counted)
        details = usage.prompt_tokens_details
        return Step(
            finish_reason=self._finish,
            prompt_tokens=usage.prompt_tokens,
            cached_prompt_tokens=(details.cached_tokens or 0) if details else 0,
            completion_tokens=usage.completion_tokens or 0,
        )

    def _step(self, choice: Choice) -> Step | None:
        if choice.finish_reason in _FAILED:
            raise broken_off(f"finish_reason {choice.finish_reason}")
        if choice.finish_reason:
            self._finish = FinishReason.LENGTH if choice.finish_reason == "length" else FinishReason.STOP
        text = choice.delta.content or ""
        tokens = self._tokens(choice)
        # Without usage and ids, a chunk with text counts as a token: most servers send them one by one.
        self._counted += len(tokens) or bool(text)
        return Step(text=text, tokens=tokens) if text or tokens else None

    def _tokens(self, choice: Choice) -> tuple[TokenInfo, ...]:
        content = (choice.logprobs.content if choice.logprobs else None) or []
        if not content:
            return tuple(TokenInfo(token_id) for token_id in choice.token_ids or ())
        wanted = self._request.top_logprobs
        return tuple(
            TokenInfo(_id(t), t.logprob, top=_candidates((t.top_logprobs or [])[:wanted])) for t in content
        )

    def _failure(self, error: ErrorBody | str) -> WeirError:
        body = error if isinstance(error, ErrorBody) else ErrorBody(message=error)
        status = body.code if isinstance(body.code, int) else 500
        return failure(status, body, self._asked)


def _id(token: TopLogprob) -> int:
    if token.id is not None:
        return token.id
    digits = token.token.removeprefix(_ID_PREFIX)
    return int(digits) if digits != token.token and digits.isdigit() else NO_ID


def _candidates(tops: list[TopLogprob]) -> tuple[Candidate, ...]:
    return tuple(Candidate(_id(top), top.logprob) for top in tops if top.logprob is not None)


async def steps(
    content: aiohttp.StreamReader, request: GenerationRequest, asked: Asked
) -> AsyncGenerator[Step, None]:
    """Yield the steps of a streamed answer. Raises WeirError STREAM_BROKEN, or what a server reports."""
    answer = Answer(request, asked)
    try:
        async with aclosing(sse_events(content)) as events:
            async for event in events:
                if event.data.strip() == DONE:
                    break
                if (step := answer.take(event.data)) is not None:
                    yield step
    except SseOverflowError as error:
        raise broken_off(str(error)) from error
    yield answer.last()
