"""An engine whose inference runs in a core process: text and bounds here, tokens there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from weir.common import conventions as names
from weir.common.errors import ErrorCode, WeirError
from weir.common.telemetry import meter
from weir.engines.base import (
    Candidate,
    Capability,
    ChatMessage,
    EngineInfo,
    FinishReason,
    GenerationRequest,
    Health,
    Load,
    Step,
    TokenInfo,
)
from weir.engines.core import messages as m
from weir.engines.core.client import CoreClient
from weir.engines.core.session import CoreSession
from weir.engines.text.codec import Codec
from weir.engines.text.constraints import ConstraintChecker
from weir.engines.text.incremental import IncrementalText

# Texts longer than this are tokenized in a thread: a megabyte takes half a second.
_LONG_TEXT = 20_000


class CoreEngine:
    """Implements ``weir.engines.base.SessionEngine`` over a ``CoreClient``."""

    def __init__(
        self,
        read_codec: Callable[[], Awaitable[Codec]],
        launch: Callable[[Codec], CoreClient],
        describe: Callable[[Codec, CoreClient], EngineInfo],
        *,
        max_sessions: int,
    ) -> None:
        self._read_codec = read_codec
        self._launch = launch
        self._describe = describe
        self._max_sessions = max_sessions
        self._codec: Codec | None = None
        self._client: CoreClient | None = None
        self._info: EngineInfo | None = None
        self._checker: ConstraintChecker | None = None
        self._sessions: set[CoreSession] = set()
        self._open = meter().create_up_down_counter(names.ENGINE_SESSIONS, "{session}", "Sessions open")
        self._load_changed: Callable[[], None] = lambda: None
        self._closed = False

    @property
    def info(self) -> EngineInfo:
        """Model and capabilities; valid once started."""
        if self._info is None:
            raise WeirError(ErrorCode.MODEL_UNAVAILABLE, internal="the engine has not started")
        return self._info

    @property
    def codec(self) -> Codec:
        """Tokenizer of the model; valid once started."""
        if self._codec is None:
            raise WeirError(ErrorCode.MODEL_UNAVAILABLE, internal="the engine has not started")
        return self._codec

    @property
    def load(self) -> Load:
        """Present load."""
        return self._client.load if self._client else Load(0, 0, 0.0)

    @property
    def core_pid(self) -> int | None:
        """Process id of the core while it lives."""
        return self._client.pid if self._client else None

    def on_load_change(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called whenever the load is another than before."""
        self._load_changed = changed

    async def start(self) -> None:
        """Read the tokenizer, start the core and wait for its warm-up inference. Raises MODEL_UNAVAILABLE."""
        self._codec = await self._read_codec()
        self._client = self._launch(self._codec)
        self._checker = ConstraintChecker(self._codec)
        self._client.on_load_change = lambda: self._load_changed()
        await self._client.start()
        self._info = self._describe(self._codec, self._client)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Step, None]:
        """Stream the answer; closing the iterator aborts the request within a decoding step."""
        client = self._running()
        self._check(request)
        if request.constraint is not None and self._checker is not None:
            await self._checker.check(request.constraint)
        prompt = await self._encode(request.messages)
        max_tokens = self._max_tokens(len(prompt), request.sampling.max_tokens)
        answer = _Answer(self._text(request), len(prompt))
        stream = await client.submit(lambda number: _submit(number, prompt, max_tokens, request))
        try:
            finished = False
            while not finished:
                step = answer.take(await stream.read())
                finished = step.finish_reason is not None
                yield step
        finally:
            stream.close()

    async def score(
        self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], *, top: int = 0
    ) -> list[TokenInfo]:
        """Return the log-probability and top candidates of each continuation token, in one pass.

        Raises:
            WeirError: CONTEXT_TOO_LONG; INVALID_REQUEST where either side is empty.
        """
        if not prompt_ids or not continuation_ids:
            raise WeirError(
                ErrorCode.INVALID_REQUEST, "Score needs a prompt and a continuation, both not empty."
            )
        self._fits(len(prompt_ids) + len(continuation_ids))
        prompt, continuation = list(prompt_ids), list(continuation_ids)
        answer = await self._running().call(lambda call: m.Score(call, prompt, continuation, top))
        return [
            TokenInfo(token, row.next_logprob, _candidates(row))
            for token, row in zip(continuation, answer.rows, strict=True)
        ]

    async def open_session(self) -> CoreSession:
        """Return a new, empty session. Raises WeirError QUEUE_FULL past the bound."""
        client = self._running()
        if len(self._sessions) >= self._max_sessions:
            raise WeirError(ErrorCode.QUEUE_FULL, f"All {self._max_sessions} sessions are in use.")
        session = CoreSession(client, self.info.max_context, self._forget)
        self._sessions.add(session)
        self._open.add(1)
        return session

    async def health(self) -> Health:
        """Whether requests would be served now."""
        if self._closed:
            return Health.CLOSED
        return self._client.health if self._client else Health.STARTING

    async def aclose(self) -> None:
        """Abort what runs and end the core; idempotent, and safe before ``start``."""
        self._closed = True
        if self._client is not None:
            await self._client.aclose()

    def _forget(self, session: CoreSession) -> None:
        self._sessions.discard(session)
        self._open.add(-1)

    def _running(self) -> CoreClient:
        if self._closed:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        if self._client is None:
            raise WeirError(ErrorCode.MODEL_UNAVAILABLE, internal="the engine has not started")
        return self._client

    def _check(self, request: GenerationRequest) -> None:
        info = self.info
        if request.adapter and request.adapter not in info.adapters:
            known = ", ".join(info.adapters) or "none"
            raise WeirError(
                ErrorCode.UNKNOWN_ADAPTER, f"There is no adapter {request.adapter!r}; loaded: {known}."
            )
        wanted = {
            Capability(request.constraint.kind) if request.constraint else None,
            Capability.TOP_LOGPROBS if request.top_logprobs else None,
            Capability.LOGPROBS if request.logprobs else None,
        }
        if missing := [str(ability) for ability in wanted if ability and ability not in info.capabilities]:
            raise WeirError(
                ErrorCode.UNSUPPORTED, f"Model {info.model} cannot do: {', '.join(sorted(missing))}."
            )

    async def _encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        if sum(len(message.content) for message in messages) > _LONG_TEXT:
            return await asyncio.to_thread(self.codec.encode_chat, messages)
        return self.codec.encode_chat(messages)

    def _fits(self, tokens: int) -> None:
        limit = self.info.max_context
        if tokens > limit:
            hint = f"The prompt has {tokens} tokens with its template; model {self.info.model} takes {limit}."
            facts = {"tokens": str(tokens), "max_context": str(limit)}
            raise WeirError(ErrorCode.CONTEXT_TOO_LONG, hint, metadata=facts)

    def _max_tokens(self, prompt: int, wanted: int | None) -> int:
        self._fits(prompt + 1)
        left = self.info.max_context - prompt
        return left if wanted is None else min(wanted, left)

    def _text(self, request: GenerationRequest) -> IncrementalText:
        continued = request.messages[-1].role == "assistant"
        return IncrementalText(
            self.codec.token_bytes,
            request.sampling.stop,
            strip_leading_space=self.codec.spells_leading_space and not continued,
        )


@dataclass(slots=True)
class _Answer:
    """An answer as it grows."""

    text: IncrementalText
    prompt_tokens: int
    count: int = 0
    drafted: int = 0
    accepted: int = 0

    def take(self, outputs: Sequence[m.Output]) -> Step:
        """Return what ``outputs`` add; nothing of them follows a stop string."""
        tokens: list[TokenInfo] = []
        parts: list[str] = []
        for output in outputs:
            taken, delta = _take(output, self.text)
            tokens += taken
            parts.append(delta)
            self.drafted += output.drafted
            self.accepted += output.accepted
        self.count += len(tokens)
        last = outputs[-1]
        if not self.text.stopped and not last.finish:
            return Step(
                "".join(parts), tuple(tokens), drafted_tokens=self.drafted, accepted_tokens=self.accepted
            )
        length = last.finish == "length" and not self.text.stopped
        return Step(
            "".join(parts) + self.text.flush(),
            tuple(tokens),
            FinishReason.LENGTH if length else FinishReason.STOP,
            prompt_tokens=self.prompt_tokens,
            cached_prompt_tokens=last.cached_prompt_tokens,
            completion_tokens=self.count,
            drafted_tokens=self.drafted,
            accepted_tokens=self.accepted,
        )


def _take(output: m.Output, text: IncrementalText) -> tuple[tuple[TokenInfo, ...], str]:
    """Return the tokens up to a stop string, and the text that they make certain."""
    taken: list[TokenInfo] = []
    parts: list[str] = []
    for index, token in enumerate(output.tokens):
        if text.stopped:
            break
        parts.append(text.push(token))
        logprob = output.logprobs[index] if output.logprobs else None
        taken.append(TokenInfo(token, logprob, _candidates(output.top[index]) if output.top else ()))
    return tuple(taken), "".join(parts)


def _candidates(row: m.Row) -> tuple[Candidate, ...]:
    return tuple(map(Candidate, row.ids, row.logprobs))


def _submit(number: int, prompt: list[int], max_tokens: int, request: GenerationRequest) -> m.Submit:
    sampling, constraint = request.sampling, request.constraint
    return m.Submit(
        id=number,
        prompt=prompt,
        max_tokens=max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed,
        constraint_kind=constraint.kind if constraint else "",
        constraint_value=list(constraint.value) if constraint else [],
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
        adapter=request.adapter,
        pace_steps=request.pace.max_steps,
        pace_delay_s=request.pace.max_delay_s,
    )
