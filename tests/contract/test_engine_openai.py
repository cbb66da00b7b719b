"""The engine contract over a real OpenAI-compatible server: llama.cpp's, with the embedded model."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.contract.engine_contract import QUESTION, STORY, EngineContract, ask, need, run
from weir.common.config.model import LocalModel
from weir.common.errors import ErrorCode, WeirError
from weir.engines import openai_compat
from weir.engines.base import Capability, ChatMessage, Constraint, Engine, FinishReason, Health
from weir.engines.openai_compat import OpenAiEngine

pytest.importorskip("xllamacpp", reason="the server for this contract comes from the package xllamacpp")
pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "smollm2-135m-instruct"
SERVER = Path(__file__).with_name("llama_server.py")


@asynccontextmanager
async def served(model: Path) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Run the server; it ends with its standard input, so also if this process dies."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SERVER), str(model), MODEL),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        yield (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip(), process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[OpenAiEngine]:
    engine = openai_compat.create(
        MODEL, LocalModel(engine="openai", base_url=f"{address}/v1"), max_context=8192
    )
    await engine.start()
    try:
        yield engine
    finally:
        await engine.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address(embedded_model: Path) -> AsyncIterator[str]:
    async with served(embedded_model) as (url, _):
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(address: str) -> AsyncIterator[OpenAiEngine]:
    async with connected(address) as engine:
        yield engine


class TestOpenAi(EngineContract):
    """The contract."""

    async def test_the_model_ends_its_answer_itself(self, engine: Engine) -> None:
        # Left to itself, this server's rounding tips a near tie at the first token into an endless answer.
        answer = await run(engine, ask(QUESTION, ChatMessage("assistant", "The capital"), max_tokens=64))
        assert answer.last.finish_reason is FinishReason.STOP
        assert answer.last.completion_tokens < 64
        assert "Paris" in answer.text

    async def test_logprobs_come_with_every_token_and_are_not_positive(self, engine: Engine) -> None:
        need(engine, Capability.LOGPROBS)
        answer = await run(engine, replace(ask(), logprobs=True))
        # The server counts the token that ends the answer, and does not send it.
        assert answer.last.completion_tokens - len(answer.logprobs) in (0, 1)
        assert all(logprob is not None and logprob <= 1e-3 for logprob in answer.logprobs)


async def test_the_server_is_recognized_and_asked_for_its_numbers(engine: OpenAiEngine) -> None:
    assert engine.info.capabilities >= {
        Capability.JSON_SCHEMA,
        Capability.CHOICES,
        Capability.GRAMMAR,
        Capability.TOP_LOGPROBS,
        Capability.SEED,
    }
    assert (engine.info.max_context, engine.info.vocab_size) == (4096, 49152)


async def test_an_ebnf_grammar_is_kept(engine: OpenAiEngine) -> None:
    grammar = Constraint("grammar", ('root ::= "yes, " ("definitely" | "perhaps")',))
    answer = await run(engine, replace(ask("Will it rain?"), constraint=grammar))
    assert answer.text in {"yes, definitely", "yes, perhaps"}


async def test_choices_with_quotes_and_line_breaks_are_kept(engine: OpenAiEngine) -> None:
    choices = Constraint("choices", ('say "hé🙂"\\n', "two\nlines"))
    assert (await run(engine, replace(ask("Choose."), constraint=choices))).text in choices.value


async def test_ids_come_with_log_probabilities(engine: OpenAiEngine) -> None:
    answer = await run(engine, replace(ask(STORY, max_tokens=4), logprobs=True, top_logprobs=2))
    assert len(set(answer.ids)) > 1
    assert all(token.id == token.top[0].id for step in answer.steps for token in step.tokens)


async def test_a_whole_character_is_never_cut(engine: OpenAiEngine) -> None:
    text = "日本語👩‍👩‍👧🇩🇪é"
    constraint = Constraint("choices", (text,))
    answer = await run(engine, replace(ask("Repeat.", max_tokens=48), constraint=constraint))
    assert answer.text == text
    assert all("\ufffd" not in step.text for step in answer.steps)


async def test_the_server_stops_soon_after_a_cancel(engine: OpenAiEngine, address: str) -> None:
    stream = engine.generate(ask(STORY, max_tokens=2000))
    await anext(stream)
    await stream.aclose()
    async with asyncio.timeout(0.5), aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{address}/slots") as response:
                if not any(slot["is_processing"] for slot in await response.json()):
                    return


async def test_a_killed_server_breaks_the_stream_and_turns_the_health(embedded_model: Path) -> None:
    async with served(embedded_model) as (url, process), connected(url) as engine:
        async with aclosing(engine.generate(ask(STORY, max_tokens=2000))) as stream:
            await anext(stream)
            process.kill()
            with pytest.raises(WeirError) as raised:
                async for _ in stream:
                    pass
        assert raised.value.code is ErrorCode.STREAM_BROKEN
        assert await engine.health() is not Health.READY
        with pytest.raises(WeirError) as raised:
            await run(engine, ask(STORY, ChatMessage("assistant", "Once")))
        assert raised.value.code is ErrorCode.ENGINE_CRASHED
