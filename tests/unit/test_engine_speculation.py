"""Speculation inside an engine: its settings, what is counted of it, and where the counts go."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.metering import metered
from weir.common import conventions as names
from weir.common.config.model import LocalModel, Models
from weir.common.errors import ErrorCode, WeirError
from weir.engines import openai_compat
from weir.engines.base import (
    ChatMessage,
    Engine,
    EngineInfo,
    FinishReason,
    GenerationRequest,
    Step,
)
from weir.engines.core import messages as m
from weir.engines.core.speculation import Tally
from weir.engines.registry import create_engine
from weir.models.store import ModelStore
from weir.slm_worker.admission import Admission
from weir.slm_worker.completion import Account, complete

INFO = EngineInfo("small", "openvino", "", 64, 8, "", frozenset())
REQUEST = GenerationRequest("r", (ChatMessage("user", "hello"),))


class Speculating:
    """An engine that yields given steps."""

    info = INFO

    def __init__(self, *steps: Step) -> None:
        self._steps = steps

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Step, None]:
        for step in self._steps:
            yield step


def answer(*steps: Step) -> AsyncGenerator[Step | Account, None]:
    engine = cast("Engine", Speculating(*steps))
    return complete(engine, Admission(1, 1), REQUEST, LocalModel(speculative="ngram"))


@pytest.mark.parametrize("kind", ["draft_model", "eagle3"])
def test_drafting_with_a_model_needs_one(kind: str) -> None:
    with pytest.raises(ValidationError, match="speculative_model is not set; give the path"):
        LocalModel.model_validate({"speculative": kind})


@pytest.mark.parametrize("kind", ["none", "ngram"])
def test_a_model_that_would_draft_nothing_is_refused(kind: str) -> None:
    with pytest.raises(ValidationError, match=f"speculative_model is set but speculative is '{kind}'"):
        LocalModel.model_validate({"speculative": kind, "speculative_model": "draft.gguf"})


def test_a_server_of_its_own_settings_is_not_made_to_speculate() -> None:
    run: dict[str, Any] = {"engine": "openai", "base_url": "http://127.0.0.1:1/v1", "speculative": "ngram"}
    with pytest.raises(WeirError) as raised:
        openai_compat.create("m", LocalModel.model_validate(run), max_context=64)
    assert raised.value.code is ErrorCode.UNSUPPORTED
    assert "server's own settings" in raised.value.hint


@pytest.mark.parametrize("engine", ["openvino", "tensorrt_llm"])
def test_a_verifiers_engine_is_not_told_to_speculate(engine: str) -> None:
    run = LocalModel.model_validate({"engine": engine, "speculative": "ngram"})
    with pytest.raises(WeirError) as raised:
        create_engine("m", run, ModelStore(Models()), max_context=64, sessions_only=True)
    assert raised.value.code is ErrorCode.UNSUPPORTED
    assert "run.speculative to 'none'" in raised.value.hint


def test_the_prompts_own_token_was_not_drafted() -> None:
    tally = Tally(4, 20)
    assert [tally.take(1), tally.take(5), tally.take(1)] == [(0, 0), (4, 4), (4, 0)]


def test_no_more_is_drafted_than_the_answer_has_room_for() -> None:
    tally = Tally(4, 5)
    assert [tally.take(1), tally.take(1), tally.take(3)] == [(0, 0), (3, 0), (2, 2)]


@given(length=st.integers(0, 8), steps=st.lists(st.integers(1, 9), max_size=20))
def test_never_more_is_accepted_than_drafted_or_added(length: int, steps: list[int]) -> None:
    tally = Tally(length, sum(steps))
    for added in steps:
        drafted, accepted = tally.take(added)
        assert 0 <= accepted <= drafted <= length
        assert accepted < added


def test_outputs_carry_the_counts_across_the_socket() -> None:
    frame = m.Frame([m.Output(1, [5, 6], drafted=4, accepted=1)])
    decoded = m.decode_to_server(m.encode(frame))
    assert decoded == frame


async def test_the_account_has_the_engines_own_counts() -> None:
    last = Step("b", (), FinishReason.STOP, 3, 0, 2, drafted_tokens=8, accepted_tokens=6)
    async with aclosing(answer(Step("a", drafted_tokens=4, accepted_tokens=3), last)) as items:
        account = [item async for item in items][-1]
    assert isinstance(account, Account)
    assert (account.drafted_tokens, account.accepted_tokens) == (8, 6)


async def test_the_counts_go_where_the_verifiers_go() -> None:
    metered()
    async with aclosing(answer(Step("a", (), FinishReason.STOP, 3, 0, 2, 8, 6))) as items:
        assert [item async for item in items]
    seen, labels = metered(), {names.LEVEL: "engine", names.DRAFT_METHOD: "ngram", names.MODEL: "small"}
    assert seen.total(names.VERIFY_DRAFTED, **labels) == 8
    assert seen.total(names.VERIFY_ACCEPTED, **labels) == 6
    assert seen.total(names.VERIFY_SHARE, **labels) == 0.75


async def test_an_answer_that_is_closed_early_is_counted_as_far_as_it_came() -> None:
    metered()
    steps = answer(Step("a", drafted_tokens=4, accepted_tokens=1), Step("b"))
    async with aclosing(steps):
        await anext(steps)
    assert metered().total(names.VERIFY_DRAFTED, **{names.LEVEL: "engine"}) == 4


async def test_an_engine_that_does_not_speculate_is_not_counted() -> None:
    metered()
    async with aclosing(answer(Step("a", (), FinishReason.STOP, 3, 0, 2))) as items:
        assert [item async for item in items]
    assert metered().count(names.VERIFY_SHARE, **{names.LEVEL: "engine"}) == 0
