"""The engine contract over OpenVINO on the embedded model, and what only this backend does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.engine_contract import PERSON, STORY, EngineContract, ask, run, until
from weir.common.config.model import LocalModel
from weir.common.errors import ErrorCode, WeirError
from weir.engines import openvino
from weir.engines.base import Capability, ChatMessage, Constraint, GenerationRequest, Sampling
from weir.engines.core.engine import CoreEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTEXT = 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(embedded_model: Path) -> AsyncIterator[CoreEngine]:
    """One engine for the module: loading takes seconds."""
    running = LocalModel(max_running=8, max_sessions=4)
    engine = openvino.create("embedded", embedded_model, running, max_context=CONTEXT)
    await engine.start()
    yield engine
    await engine.aclose()


class TestOpenVino(EngineContract):
    """The contract."""


async def test_all_capabilities_of_a_batch_and_sessions_are_claimed(engine: CoreEngine) -> None:
    assert engine.info.capabilities >= {
        Capability.SESSION,
        Capability.SCORE,
        Capability.JSON_SCHEMA,
        Capability.GRAMMAR,
        Capability.TOP_LOGPROBS,
        Capability.SEED,
    }
    assert engine.info.max_context == CONTEXT


async def test_an_ebnf_grammar_is_kept(engine: CoreEngine) -> None:
    grammar = Constraint("grammar", ('root ::= "yes, " ("definitely" | "perhaps")',))
    answer = await run(engine, replace(ask("Will it rain?"), constraint=grammar))
    assert answer.text in {"yes, definitely", "yes, perhaps"}


async def test_a_constraint_that_no_text_meets_is_refused_by_name(engine: CoreEngine) -> None:
    impossible = Constraint("json_schema", ('{"allOf": [{"type": "string"}, {"type": "integer"}]}',))
    with pytest.raises(WeirError) as raised:
        await run(engine, replace(ask(), constraint=impossible))
    assert raised.value.code is ErrorCode.INVALID_CONSTRAINT
    assert "prompt.output.json_schema" in raised.value.fields


async def test_a_hard_constraint_does_not_stall_the_other_streams(engine: CoreEngine) -> None:
    hard = Constraint("json_schema", ('{"type": "string", "pattern": "^(a{1,1000}b?){1,100}$"}',))
    await run(
        engine, replace(ask(max_tokens=1), constraint=Constraint("choices", ("a",)))
    )  # loads the raw model
    gaps: list[float] = []

    async def watch() -> None:
        async with aclosing(engine.generate(ask(STORY, max_tokens=60))) as stream:
            before = time.perf_counter()
            async for _ in stream:
                gaps.append(time.perf_counter() - before)
                before = time.perf_counter()

    await asyncio.gather(watch(), run(engine, replace(ask(max_tokens=30), constraint=hard)))
    assert max(gaps) < 1.0


async def test_seeded_text_is_the_same_alone_and_among_others(engine: CoreEngine) -> None:
    seeded = ask(STORY, temperature=1.0, top_p=0.9, seed=11, max_tokens=24)
    alone = await run(engine, seeded)
    others = [run(engine, ask(f"{STORY} {number}", max_tokens=24)) for number in range(6)]
    together, again, *_ = await asyncio.gather(run(engine, seeded), run(engine, seeded), *others)
    assert together.text == again.text == alone.text


async def test_more_guided_generations_than_places_wait_and_are_served(engine: CoreEngine) -> None:
    choice = Constraint("choices", ("yes", "no"))
    answers = await asyncio.gather(*(run(engine, replace(ask(), constraint=choice)) for _ in range(12)))
    assert {answer.text for answer in answers} <= {"yes", "no"}


async def test_session_work_and_generation_take_turns(engine: CoreEngine) -> None:
    session = await engine.open_session()
    prompt = engine.codec.encode("A long text about rivers and foxes. " * 60)
    try:
        extended = asyncio.create_task(session.extend(prompt, last_only=True))
        answer = await run(engine, ask(STORY, max_tokens=8))
        assert answer.last.completion_tokens == 8
        assert not extended.done() or len(prompt) < 400
        await extended
    finally:
        await session.aclose()


async def test_the_load_tells_of_changes(engine: CoreEngine) -> None:
    await until(lambda: engine.load.running == 0, 2)
    seen: list[int] = []
    engine.on_load_change(lambda: seen.append(engine.load.running))
    await run(engine, ask(STORY, max_tokens=8))
    await until(lambda: engine.load.running == 0, 2)
    assert 1 in seen
    assert seen[-1] == 0


async def test_a_prompt_of_the_whole_context_leaves_one_token(engine: CoreEngine) -> None:
    overhead = len(engine.codec.encode_chat([ChatMessage("user", "")]))
    text = " fox" * (CONTEXT - overhead - 1)
    request = GenerationRequest("r", (ChatMessage("user", text),), Sampling(temperature=0.0))
    answer = await run(engine, request)
    assert answer.last.completion_tokens <= CONTEXT - answer.last.prompt_tokens


async def test_a_sessions_only_engine_serves_sessions_and_refuses_generation(embedded_model: Path) -> None:
    verifier = openvino.create("v", embedded_model, LocalModel(), max_context=CONTEXT, sessions_only=True)
    await verifier.start()
    try:
        assert Capability.JSON_SCHEMA not in verifier.info.capabilities
        session = await verifier.open_session()
        assert len(await session.extend([1, 2, 3])) == 3
        with pytest.raises(WeirError) as raised:
            await run(verifier, ask())
        assert raised.value.code is ErrorCode.UNSUPPORTED
    finally:
        await verifier.aclose()


async def test_a_file_that_is_no_model_gives_a_telling_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but not really")
    engine = openvino.create("broken", broken, LocalModel(), max_context=CONTEXT)
    with pytest.raises(WeirError) as raised:
        await engine.start()
    assert raised.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert "broken.gguf" in raised.value.hint
    await engine.aclose()


async def test_adapters_are_refused_rather_than_ignored(embedded_model: Path, tmp_path: Path) -> None:
    run_with = LocalModel(adapters={"legal": tmp_path / "legal.safetensors"})
    with pytest.raises(WeirError) as raised:
        openvino.create("m", embedded_model, run_with, max_context=CONTEXT)
    assert raised.value.code is ErrorCode.UNSUPPORTED


async def test_a_schema_answer_is_spelled_without_free_white_space(engine: CoreEngine) -> None:
    request = replace(
        ask("JSON about Bob, 7 years.", max_tokens=64), constraint=Constraint("json_schema", (PERSON,))
    )
    text = (await run(engine, request)).text
    assert "\n" not in text
    assert '", "age": ' in text
