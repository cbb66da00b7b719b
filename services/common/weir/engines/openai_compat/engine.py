"""The engine that sends its requests to an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager

import structlog

from weir.common.coalesce import coalesce
from weir.common.config.model import LocalModel
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import (
    Capability,
    ChatMessage,
    EngineInfo,
    GenerationRequest,
    Health,
    Load,
    Pace,
    Sampling,
    Step,
    TokenInfo,
    merge_steps,
)
from weir.engines.openai_compat.connection import Connection
from weir.engines.openai_compat.dialects import DIALECTS
from weir.engines.openai_compat.failures import Asked
from weir.engines.openai_compat.probe import Facts, facts_of
from weir.engines.openai_compat.requests import chat_body, score_body, unsupported
from weir.engines.openai_compat.scores import read_scores
from weir.engines.openai_compat.stream import steps
from weir.engines.openai_compat.wire import ModelCard
from weir.models.quantization import quantization_in_name

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 10.0
START_POLL_S = 0.25
_STARTING = frozenset({ErrorCode.ENGINE_CRASHED, ErrorCode.MODEL_UNAVAILABLE})


def create(model_id: str, run: LocalModel, *, max_context: int) -> OpenAiEngine:
    """Build the engine.

    Raises:
        WeirError: MODEL_UNAVAILABLE where the settings lack the address or the key, UNSUPPORTED where they
            ask for speculation inside the engine.
    """
    if not run.base_url:
        raise WeirError(
            ErrorCode.MODEL_UNAVAILABLE,
            "The engine 'openai' needs an address; set run.base_url, for example http://127.0.0.1:8000/v1.",
        )
    if run.speculative != "none":
        raise WeirError(
            ErrorCode.UNSUPPORTED,
            "The engine 'openai' cannot make its server speculate: set run.speculative to 'none', and turn "
            "speculation on in the server's own settings.",
        )
    connection = Connection(run.base_url.rstrip("/"), _key(run.api_key_env))
    return OpenAiEngine(model_id, run, connection, max_context=max_context)


def _key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "")
    if not key:
        raise WeirError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"The key of the model's server is not set; set the variable {variable}.",
        )
    return key


class OpenAiEngine:
    """An engine over HTTP.

    Token ids come only from servers that send them (llama.cpp with log-probabilities, vLLM always); elsewhere
    they are 0, and ``info.vocab_size`` is 0 too. The tokenizer's hash is unknown, so ``tokenizer_sha256`` is
    empty and no drafts can be exchanged. ``load.kv_cache_used`` is 0: the API does not tell it.

    Args:
        max_context: an upper bound in tokens; a smaller one that the server states wins.
        start_timeout_s: how long ``start`` waits for a server that is not up yet, in seconds.
    """

    def __init__(
        self,
        model_id: str,
        run: LocalModel,
        connection: Connection,
        *,
        max_context: int,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self._model = model_id
        self._server = run.server
        self._connection = connection
        self._max_context = max_context
        self._start_timeout_s = start_timeout_s
        self._facts = Facts(DIALECTS["plain" if run.server == "auto" else run.server])
        self._running = 0
        self._load_changed: Callable[[], None] = lambda: None
        self._ready = False

    @property
    def info(self) -> EngineInfo:
        """Model and capabilities; valid once started."""
        facts = self._facts
        lora = {Capability.LORA} if facts.adapters else set()
        return EngineInfo(
            model=self._model,
            engine="openai",
            quantization=quantization_in_name(facts.file_name.removesuffix(".gguf")),
            max_context=min(self._max_context, facts.max_context or self._max_context),
            vocab_size=facts.vocab_size if facts.dialect.token_ids else 0,
            tokenizer_sha256="",
            capabilities=facts.dialect.capabilities | lora,
            adapters=facts.adapters,
        )

    @property
    def load(self) -> Load:
        """Requests at the server; what waits is the caller's to know."""
        return Load(self._running, 0, 0.0)

    def on_load_change(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called whenever ``load`` is another than before."""
        self._load_changed = changed

    async def start(self) -> None:
        """Ask the server what it has, waiting for one that is coming up, and generate one token.

        Raises:
            WeirError: MODEL_UNAVAILABLE where no server answers in time or it lacks the model; PROVIDER_AUTH.
        """
        self._connection.open()
        try:
            self._facts = facts_of(await self._served_models(), self._model, self._server)
            await self._warm_up()
        except BaseException:
            await self.aclose()
            raise
        self._ready = True
        log.info("engine_ready", engine="openai", server=self._facts.dialect.name, model=self._model)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Step, None]:
        """Stream the answer; closing the iterator closes the connection, which makes the server stop.

        Raises:
            WeirError: INVALID_CONSTRAINT, CONTEXT_TOO_LONG, UNKNOWN_ADAPTER, UNSUPPORTED, QUEUE_FULL,
                ENGINE_CRASHED, STREAM_BROKEN and what the server's status means.
        """
        body = chat_body(request, self._served_name(request.adapter), self._facts.dialect)
        asked = Asked(constrained=request.constraint is not None, max_context=self.info.max_context)
        with self._counted():
            async with (
                self._connection.post("/chat/completions", body, asked) as response,
                aclosing(_paced(steps(response.content, request, asked), request.pace)) as answer,
            ):
                async for step in answer:
                    yield step

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._running += 1
        self._load_changed()
        try:
            yield
        finally:
            self._running -= 1
            self._load_changed()

    async def score(
        self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], *, top: int = 0
    ) -> list[TokenInfo]:
        """Return the log-probability of each continuation token, in one pass (vLLM).

        Raises:
            WeirError: UNSUPPORTED where the server does not return the prompt's log-probabilities.
        """
        if not self._facts.dialect.echo_scores:
            raise unsupported(self._facts.dialect, "scoring of given tokens")
        if not continuation_ids:
            return []
        body = score_body(prompt_ids, continuation_ids, self._model, top)
        asked = Asked(max_context=self.info.max_context)
        async with self._connection.post("/completions", body, asked) as response:
            content = await response.read()
        return read_scores(content, len(prompt_ids), continuation_ids, top)

    async def health(self) -> Health:
        """Ask the server."""
        if self._connection.closed:
            return Health.CLOSED
        return await self._connection.health() if self._ready else Health.STARTING

    async def aclose(self) -> None:
        """Break off what runs and close all connections; idempotent, and safe before ``start``."""
        await self._connection.aclose()

    async def _served_models(self) -> list[ModelCard] | None:
        deadline = asyncio.get_running_loop().time() + self._start_timeout_s
        while True:
            try:
                return await self._connection.models()
            except WeirError as error:
                if error.code not in _STARTING:
                    raise
                if asyncio.get_running_loop().time() >= deadline:
                    raise _no_server(self._connection.base_url, error) from error
            await asyncio.sleep(START_POLL_S)

    async def _warm_up(self) -> None:
        request = GenerationRequest("warm-up", (ChatMessage("user", "Hi"),), Sampling(max_tokens=1))
        async with aclosing(self.generate(request)) as answer:
            async for _ in answer:
                pass

    def _served_name(self, adapter: str) -> str:
        if adapter and adapter not in self._facts.adapters:
            known = ", ".join(self._facts.adapters) or "none"
            raise WeirError(
                ErrorCode.UNKNOWN_ADAPTER, f"The model's server has no adapter '{adapter}'; it has: {known}."
            )
        return adapter or self._model


def _no_server(base_url: str, error: WeirError) -> WeirError:
    return WeirError(
        ErrorCode.MODEL_UNAVAILABLE,
        "No server answers at run.base_url; start it, or correct the address.",
        internal=f"{base_url}: {error.internal}",
    )


def _paced(answer: AsyncGenerator[Step, None], pace: Pace) -> AsyncGenerator[Step, None]:
    if pace.max_steps == 1:
        return answer
    return coalesce(answer, merge_steps, max_items=pace.max_steps, max_delay_s=pace.max_delay_s)
