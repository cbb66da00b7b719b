"""The rest of a verified answer from the frontier: one hand-over and an unbroken text, or none at all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.services.provider_doubles import ProviderDouble, Reply, openai_chunks, proxy
from tests.services.verifier_bench import Answered, Bench, prompt, verifier_bench
from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.engines.core.engine import CoreEngine
from weir.engines.text.codec import load_codec
from weir.v1 import types_pb2

QUESTION = "Write one sentence about the sea."
WINDOW = 4
ESCALATING = {"escalate_below": 0.5, "window": WINDOW, "residency": types_pb2.RESIDENCY_ANY}


@pytest.fixture(scope="module")
def sha256(embedded_model: Path) -> str:
    return load_codec(embedded_model).sha256


@pytest.fixture(scope="module")
async def bench(sha256: str, verifier_engine: CoreEngine) -> AsyncIterator[Bench]:
    async with verifier_bench(sha256, engine=verifier_engine) as bench:
        yield bench


@pytest.fixture(scope="module")
async def alone(bench: Bench) -> Answered:
    """What the verifier says by itself."""
    return await bench.alone(prompt(QUESTION))


@pytest.fixture(autouse=True)
def _fresh(bench: Bench) -> None:
    bench.frontier.script()


def wrong(reference: Sequence[int]) -> Any:
    return lambda said: [token + 1 for token in reference[len(said) : len(said) + 4]]


def right(reference: Sequence[int]) -> Any:
    return lambda said: reference[len(said) : len(said) + 4]


async def test_hopeless_drafting_hands_over_without_a_break(bench: Bench, alone: Answered) -> None:
    bench.drafter.script(wrong(alone.ids))
    answered = await bench.generate(prompt(QUESTION), request_id="r-1", **ESCALATING)
    (handoff,) = answered.handoffs
    (request,) = bench.frontier.requests
    assert (handoff.from_tier, handoff.to_tier) == (types_pb2.TIER_HYBRID, types_pb2.TIER_FRONTIER)
    assert handoff.reason.code == "low_acceptance"
    assert "50%" in handoff.reason.detail
    assert answered.text == request.continue_from + " and so on."
    assert alone.text.startswith(request.continue_from)
    assert (request.request_id, request.residency) == ("r-1", types_pb2.RESIDENCY_ANY)
    own, frontier = answered.finished.usage
    assert (own.tier, frontier.tier) == (types_pb2.TIER_HYBRID, types_pb2.TIER_FRONTIER)
    assert frontier.cost_usd == 0.25
    await bench.drafter.closed.wait()


async def test_what_was_kept_is_whole_words_and_counted(bench: Bench, alone: Answered) -> None:
    bench.drafter.script(wrong(alone.ids))
    bench.frontier.script(pieces=("and", " so on."))
    answered = await bench.generate(prompt(QUESTION), **ESCALATING)
    (handoff,), (request,) = answered.handoffs, bench.frontier.requests
    assert handoff.kept_tokens == len(answered.ids) >= WINDOW - 1
    assert answered.ids == alone.ids[: handoff.kept_tokens]
    assert alone.text.removeprefix(request.continue_from)[0].isspace()
    assert answered.text == request.continue_from + " and so on."
    assert request.prompt.sampling.max_tokens == 24 - handoff.kept_tokens


async def test_drafting_that_goes_well_hands_nothing_over(bench: Bench, alone: Answered) -> None:
    bench.drafter.script(right(alone.ids))
    answered = await bench.generate(prompt(QUESTION), **ESCALATING)
    assert answered.text == alone.text
    assert not answered.handoffs
    assert not bench.frontier.requests


async def test_local_only_content_is_finished_by_the_verifier(bench: Bench, alone: Answered) -> None:
    bench.drafter.script(wrong(alone.ids))
    local = {**ESCALATING, "residency": types_pb2.RESIDENCY_LOCAL_ONLY}
    answered = await bench.generate(prompt(QUESTION), **local)
    assert answered.text == alone.text
    assert not bench.frontier.requests
    assert not answered.handoffs


@pytest.mark.parametrize(
    "code", [ErrorCode.PROVIDER_FAILED, ErrorCode.BUDGET_EXHAUSTED, ErrorCode.RESIDENCY_FORBIDDEN]
)
async def test_a_frontier_that_refuses_is_asked_once_and_changes_nothing(
    bench: Bench, alone: Answered, code: ErrorCode
) -> None:
    cost = {"cost_usd": "0.125", "prompt_tokens": "7", "completion_tokens": "3", "model": "gpt-4o"}
    bench.frontier.script(error=WeirError(code, metadata=cost))
    bench.drafter.script(wrong(alone.ids))
    answered = await bench.generate(prompt(QUESTION), **ESCALATING)
    assert (answered.text, answered.ids) == (alone.text, alone.ids)
    assert not answered.handoffs
    assert len(bench.frontier.requests) == 1
    own, refused = answered.finished.usage
    assert own.completion_tokens == len(alone.ids)
    assert (refused.tier, refused.model, refused.cost_usd) == (types_pb2.TIER_FRONTIER, "gpt-4o", 0.125)
    assert (refused.prompt_tokens, refused.completion_tokens) == (7, 3)


async def test_a_frontier_that_fails_later_breaks_the_stream(bench: Bench, alone: Answered) -> None:
    bench.frontier.script(error=WeirError(ErrorCode.PROVIDER_FAILED), fail_at=1)
    bench.drafter.script(wrong(alone.ids))
    with pytest.raises(WeirError) as broken:
        await bench.generate(prompt(QUESTION), **ESCALATING)
    assert broken.value.code is ErrorCode.STREAM_BROKEN


async def test_the_frontiers_cost_limit_ends_the_answer_as_such(bench: Bench, alone: Answered) -> None:
    bench.frontier.script(finish_reason=types_pb2.FINISH_REASON_BUDGET)
    bench.drafter.script(wrong(alone.ids))
    answered = await bench.generate(prompt(QUESTION), **ESCALATING)
    assert answered.finished.finish_reason == types_pb2.FINISH_REASON_BUDGET


async def test_a_stop_string_that_may_have_begun_is_not_handed_over(bench: Bench, alone: Answered) -> None:
    word = alone.text.split()[2]
    bench.drafter.script(wrong(alone.ids))
    answered = await bench.generate(prompt(QUESTION, stop=[f"{word} and"]), **ESCALATING)
    (request,) = bench.frontier.requests
    assert not request.continue_from.endswith(word)
    assert answered.text == request.continue_from + " and so on."


class Continuing(Reply):
    """A reply made of the text that it was asked to continue."""

    def __init__(self, form: Callable[[str], Sequence[str]]) -> None:
        super().__init__()
        self._form = form

    async def write(self, request: web.Request) -> web.StreamResponse:
        *_, standing, _ = (await request.json())["messages"]
        self.chunks = openai_chunks(*self._form(standing["content"]))
        return await super().write(request)


@dataclass
class Chain:
    """A verifier that is never sure, the real frontier proxy behind it, and a provider behind that."""

    bench: Bench
    openai: ProviderDouble


@pytest.fixture(scope="module")
async def chain(
    sha256: str, verifier_engine: CoreEngine, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Chain]:
    key = tmp_path_factory.mktemp("keys") / "openai"
    key.write_text("sk-double")
    async with ProviderDouble().running() as openai:
        provider = {"kind": "openai", "base_url": openai.url, "api_key_file": str(key), "allow_private": True}
        settings = Settings.model_validate(
            {
                "state": {"directory": str(tmp_path_factory.mktemp("state"))},
                "services": {"frontier_proxy": {"port": 0, "drain_delay_s": 0}},
                "frontier": {"providers": {"openai": provider}},
            }
        )
        async with (
            proxy(settings) as running,
            verifier_bench(
                sha256,
                engine=verifier_engine,
                hybrid={"escalate_unsure_below": 1.0},
                proxy_at=f"127.0.0.1:{running.app.port}",
            ) as bench,
        ):
            yield Chain(bench, openai)


HOLDING = {"window": 8, "residency": types_pb2.RESIDENCY_ANY}


@pytest.mark.parametrize(
    "form",
    [
        lambda kept: ("shines", " bright."),
        lambda kept: (" shines", " bright."),
        lambda kept: (kept[:9], kept[9:], " shines bright."),
        lambda kept: ("\n", kept, " shines bright."),
        lambda kept: ('"', f"{kept} shi", 'nes bright."'),
    ],
    ids=["no space", "exact", "all again", "all below", "all in quotes"],
)
async def test_the_text_is_unbroken_whatever_a_provider_repeats(
    chain: Chain, alone: Answered, form: Callable[[str], Sequence[str]]
) -> None:
    chain.openai.will(Continuing(form))
    answered = await chain.bench.alone(prompt(QUESTION), **HOLDING)
    (handoff,) = answered.handoffs
    assert handoff.reason.code == "unsure"
    kept = chain.openai.bodies[-1]["messages"][-2]["content"]
    assert alone.text.startswith(kept)
    assert answered.text == f"{kept} shines bright."
    assert answered.finished.usage[1].cost_usd > 0


async def test_an_unsure_verifier_finishes_local_only_content_alone(chain: Chain, alone: Answered) -> None:
    local = {**HOLDING, "residency": types_pb2.RESIDENCY_LOCAL_ONLY}
    answered = await chain.bench.alone(prompt(QUESTION), **local)
    assert answered.text == alone.text
    assert not answered.handoffs


@pytest.mark.parametrize("joins", [True, False])
async def test_an_answer_held_to_a_schema_is_begun_anew_and_joined_or_finished_here(
    chain: Chain, bench: Bench, joins: bool
) -> None:
    asked = prompt("Describe Alice as JSON.", max_tokens=60)
    names = {"type": "array", "items": {"enum": ["alice", "bob"]}, "minItems": 5, "maxItems": 5}
    asked.output.json_schema = json.dumps(
        {"type": "object", "properties": {"n": names}, "required": ["n"], "additionalProperties": False}
    )
    own = json.loads((await bench.alone(asked)).text)
    other = {"n": [*own["n"][:-1], "carol"]}
    reply = json.dumps(other, indent=1) if joins else '{"m": []}'
    chain.openai.will(*(Reply(openai_chunks(reply)) for _ in range(1 if joins else 2)))
    answered = await chain.bench.alone(asked, **HOLDING)
    assert json.loads(answered.text) == (other if joins else own)
    assert len(answered.handoffs) == joins
    assert len(answered.finished.usage) == 2
