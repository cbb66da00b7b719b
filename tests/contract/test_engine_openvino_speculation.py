"""Speculation inside OpenVINO GenAI on the embedded model, which drafts for itself or looks drafts up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests import tiny_llama
from tests.contract.engine_contract import QUESTION, STORY, Answer, ask, run, until
from weir.common.config.model import LocalModel
from weir.common.errors import ErrorCode, WeirError
from weir.engines import openvino
from weir.engines.base import Capability, FinishReason
from weir.engines.core.engine import CoreEngine
from weir.engines.core.openvino.speculation import folder_with_tokenizer

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTEXT = 512
COPY = (
    "Repeat this exactly: The quick brown fox jumps over the lazy dog, and the dog sleeps on under the "
    "old oak tree by the river. The invoice number is 4711-0815 and the amount is 12.50 EUR."
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engines(embedded_model: Path) -> AsyncIterator[tuple[CoreEngine, CoreEngine]]:
    """The embedded model with itself as its draft model, and with lookup; loaded at once."""
    draft = LocalModel(max_running=8, speculative="draft_model", speculative_model=embedded_model)
    lookup = LocalModel(max_running=8, speculative="ngram", speculative_tokens=4)
    drafted, looked_up = (
        openvino.create("embedded", embedded_model, settings, max_context=CONTEXT)
        for settings in (draft, lookup)
    )
    await asyncio.gather(drafted.start(), looked_up.start())
    yield drafted, looked_up
    await asyncio.gather(drafted.aclose(), looked_up.aclose())


@pytest.fixture(scope="module")
def drafted(engines: tuple[CoreEngine, CoreEngine]) -> CoreEngine:
    return engines[0]


@pytest.fixture(scope="module")
def looked_up(engines: tuple[CoreEngine, CoreEngine]) -> CoreEngine:
    return engines[1]


def share(answer: Answer) -> float:
    return answer.last.accepted_tokens / answer.last.drafted_tokens


async def test_speculation_is_claimed(drafted: CoreEngine, looked_up: CoreEngine) -> None:
    assert Capability.SPECULATIVE in drafted.info.capabilities
    assert Capability.SPECULATIVE in looked_up.info.capabilities


async def test_most_drafts_of_the_same_model_stand(drafted: CoreEngine) -> None:
    answer = await run(drafted, ask(STORY, max_tokens=48))
    assert answer.last.completion_tokens == 48
    assert share(answer) > 0.5
    assert len(answer.steps) < 40


async def test_a_copied_text_is_looked_up(looked_up: CoreEngine) -> None:
    answer = await run(looked_up, ask(COPY, max_tokens=32))
    assert "quick brown fox" in answer.text
    assert answer.last.accepted_tokens > len(answer.ids) / 3


async def test_max_tokens_bounds_what_is_accepted(drafted: CoreEngine) -> None:
    answer = await run(drafted, ask(STORY, max_tokens=7))
    assert answer.last.finish_reason is FinishReason.LENGTH
    assert answer.last.completion_tokens == len(answer.ids) == 7


async def test_the_model_ends_its_answer_itself(drafted: CoreEngine) -> None:
    answer = await run(drafted, ask(QUESTION, max_tokens=64))
    assert answer.last.finish_reason is FinishReason.STOP
    assert "Paris" in answer.text
    assert not set(answer.ids) & drafted.codec.stop_ids


async def test_accepted_tokens_have_their_logprobs(drafted: CoreEngine) -> None:
    answer = await run(drafted, replace(ask(STORY, max_tokens=16), logprobs=True))
    assert len(answer.logprobs) == 16
    assert all(logprob is not None and logprob <= 1e-3 for logprob in answer.logprobs)


async def test_several_answers_speculate_side_by_side(drafted: CoreEngine) -> None:
    wanted = [ask(f"{STORY} Number {number}.", max_tokens=16 + number) for number in range(5)]
    answers = await asyncio.gather(*(run(drafted, one) for one in wanted))
    assert all(share(answer) > 0.3 for answer in answers)
    for request, answer in zip(wanted, answers, strict=True):
        assert answer.last.completion_tokens <= (request.sampling.max_tokens or 0)


async def test_a_closed_answer_leaves_the_others_running(drafted: CoreEngine) -> None:
    other = asyncio.create_task(run(drafted, ask(STORY, max_tokens=40)))
    async with aclosing(drafted.generate(ask(STORY, max_tokens=400))) as stream:
        await anext(stream)
    assert (await other).last.completion_tokens == 40
    await until(lambda: drafted.load.running == 0, 5)


async def test_sampled_answers_do_without_the_draft_model(drafted: CoreEngine) -> None:
    hot = ask(STORY, temperature=1.0, top_p=0.95, max_tokens=12)
    first, second = await asyncio.gather(run(drafted, hot), run(drafted, hot))
    assert (first.last.completion_tokens, second.last.completion_tokens) == (12, 12)
    assert first.last.drafted_tokens == second.last.drafted_tokens == 0


async def test_sampled_answers_are_looked_up_too(looked_up: CoreEngine) -> None:
    answer = await run(looked_up, ask(COPY, temperature=0.5, max_tokens=12))
    assert answer.last.drafted_tokens > 0


async def refusal(engine: CoreEngine) -> WeirError:
    with pytest.raises(WeirError) as raised:
        await engine.start()
    await engine.aclose()
    return raised.value


async def test_a_draft_model_with_another_tokenizer_is_refused(embedded_model: Path, tmp_path: Path) -> None:
    stranger = tiny_llama.write_folder(tmp_path / "stranger", tiny_llama.model())
    settings = LocalModel(speculative="draft_model", speculative_model=stranger)
    error = await refusal(openvino.create("m", embedded_model, settings, max_context=CONTEXT))
    assert error.code is ErrorCode.MODEL_UNAVAILABLE
    assert "'stranger' has another tokenizer" in error.hint


async def test_a_draft_model_that_is_not_there_is_named(embedded_model: Path, tmp_path: Path) -> None:
    settings = LocalModel(speculative="draft_model", speculative_model=tmp_path / "none.gguf")
    error = await refusal(openvino.create("m", embedded_model, settings, max_context=CONTEXT))
    assert error.code is ErrorCode.MODEL_UNAVAILABLE
    assert "none.gguf" in error.hint


async def test_eagle_heads_are_refused_with_what_to_do(embedded_model: Path, tmp_path: Path) -> None:
    settings = LocalModel(speculative="eagle3", speculative_model=tmp_path)
    with pytest.raises(WeirError) as raised:
        openvino.create("m", embedded_model, settings, max_context=CONTEXT)
    assert raised.value.code is ErrorCode.UNSUPPORTED
    assert "tensorrt_llm" in raised.value.hint


async def test_a_folder_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"no openvino_tokenizer\.xml"):
        folder_with_tokenizer(tmp_path, tmp_path, lambda link: link)
