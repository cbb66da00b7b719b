"""What an answer survives: failures before its first text, breaks behind it, cancels, and the bill of all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.services.answer_doubles import (
    END,
    Kept,
    Script,
    Scripted,
    Step,
    Told,
    answer_of,
    broken,
    candidate,
    listen,
    means,
    scripted,
)
from tests.services.provider_doubles import ProviderDouble, Reply, ask, configured, openai_chunks, proxy
from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import ChatMessage, Constraint, FinishReason, Sampling
from weir.frontier_proxy.bill import Bill
from weir.frontier_proxy.breaker import CircuitState
from weir.frontier_proxy.domain import Finish, Switched, TokenCounts
from weir.frontier_proxy.outlet import HELD
from weir.frontier_proxy.providers.base import Delta, Finished, Pace, ProviderEvent, ProviderRequest
from weir.frontier_proxy.restart import NotContinuedError
from weir.v1 import frontier_proxy_pb2 as pb
from weir.v1 import types_pb2


async def failure(ledger: Kept, *providers: Scripted, continues: bool = True) -> WeirError:
    with pytest.raises(WeirError) as caught:
        await listen(answer_of(means(ledger, continues=continues), list(map(candidate, providers))))
    assert ledger.balanced
    return caught.value


# --- one stream goes on where another broke


@pytest.fixture
async def first() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble().running() as double:
        yield double


@pytest.fixture
async def second() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble().running() as double:
        yield double


@pytest.fixture
def labs(first: ProviderDouble, second: ProviderDouble, settings: Settings) -> Settings:
    """Two servers that continue a last turn, each with a model of its own."""
    shared = {"kind": "openai_compatible", "prefill": True, "allow_private": True}
    providers = {
        "near": {**shared, "base_url": first.url, "models": ["near-1"]},
        "far": {**shared, "base_url": second.url, "models": ["far-1"]},
    }
    price = {"input_usd_per_million": 1, "output_usd_per_million": 2, "as_of": "2026-01-31"}
    return configured(
        settings,
        tiers={"frontier": {"model_id": "near-1", "provider": "near"}},
        frontier={"providers": providers, "prices": {"near-1": price, "far-1": price}},
    )


@pytest.mark.parametrize("cut", [True, False], ids=["connection lost", "stream ended early"])
async def test_a_broken_stream_is_continued_by_the_next_model_and_both_are_billed(
    first: ProviderDouble, second: ProviderDouble, labs: Settings, cut: bool
) -> None:
    first.will(Reply(openai_chunks("A weir ", "holds ", finish=None), cut=cut))
    second.will(Reply(openai_chunks(" back", " water.")))
    async with proxy(labs) as running:
        events = [event async for event in running.stub.Forward(ask())]
        spend = (await running.stub.GetSpend(pb.GetSpendRequest())).spend
    texts = "".join(event.delta.text for event in events)
    (handoff,) = (event.handoff for event in events if event.HasField("handoff"))
    finished = events[-1].finished
    assert texts == "A weir holds back water."
    assert (handoff.from_model, handoff.to_model, handoff.reason.code) == ("near-1", "far-1", "STREAM_BROKEN")
    assert (handoff.from_tier, handoff.to_tier) == (types_pb2.TIER_FRONTIER, types_pb2.TIER_FRONTIER)
    assert handoff.kept_tokens == 4
    assert second.bodies[0]["messages"][-1] == {"role": "assistant", "content": "A weir holds"}
    assert [usage.model for usage in finished.usage] == ["near-1", "far-1"]
    assert sum(row.settled_usd for row in spend) == pytest.approx(sum(u.cost_usd for u in finished.usage))
    assert {row.model: row.completion_tokens for row in spend} == {"near-1": 4, "far-1": 3}


TEXTS = st.text(st.sampled_from("ab .\n水é"), min_size=1, max_size=60).filter(str.strip)


def plays(text: str, until: int | None, step: int) -> Script:
    """What a model that knows the answer writes behind what stands; it breaks at character ``until``."""

    def script(request: ProviderRequest) -> Sequence[Step]:
        start = len(request.prefix.rstrip())
        end = len(text) if until is None else max(until, start)
        pieces = [text[at : min(at + step, end)] for at in range(start, end, step)]
        return [*pieces, END if until is None else broken()]

    return script


@given(TEXTS, st.lists(st.integers(0, 60), min_size=1, max_size=3).map(sorted), st.integers(1, 7))
@example("a\n\n b", [2], 1)
def test_no_character_is_lost_or_repeated_wherever_streams_break(
    text: str, cuts: list[int], step: int
) -> None:
    async def run() -> tuple[Told, Kept]:
        ledger = Kept()
        scripts = [*(plays(text, cut, step) for cut in cuts), plays(text, None, step)]
        models = [candidate(scripted(f"p{at}", script)) for at, script in enumerate(scripts)]
        return await listen(answer_of(means(ledger), models)), ledger

    told, ledger = asyncio.run(run())
    assert told.text == text
    assert ledger.balanced
    assert told.done is not None
    assert sum(usage.cost_nano for usage in told.done.usage) == ledger.nano
    assert len(told.done.usage) == len(cuts) + 1


async def test_the_switch_is_told_right_before_the_other_models_text() -> None:
    one, two = scripted("one", ["A weir ", broken()]), scripted("two", ["holds", END])
    answer = answer_of(means(Kept()), [candidate(one), candidate(two)])
    async with aclosing(answer.stream()) as events:
        order = [type(event).__name__ async for event in events]
    assert order == ["str", "Switched", "str", "Done"]


async def test_a_switch_names_the_model_whose_text_stands_past_one_that_failed() -> None:
    models = [
        scripted("one", ["A weir", broken()]),
        scripted("two", [broken()]),
        scripted("three", [" holds", END]),
    ]
    told = await listen(answer_of(means(Kept()), list(map(candidate, models))))
    assert told.text == "A weir holds"
    assert [(s.from_model, s.to_model) for s in told.switches] == [("one-model", "three-model")]


async def test_a_model_that_finds_the_text_complete_is_told_too() -> None:
    one, two = scripted("one", ["A weir.", broken()]), scripted("two", [END])
    told = await listen(answer_of(means(Kept()), [candidate(one), candidate(two)]))
    assert told.text == "A weir."
    assert len(told.switches) == 1


async def test_a_model_that_cannot_hold_what_was_sent_is_passed_over() -> None:
    one, two = scripted("one", ["abcd" * 50, broken()]), candidate(scripted("two"))
    small = replace(two, price=replace(two.price, max_context=40))
    three = scripted("three", [" holds", END])
    told = await listen(answer_of(means(Kept()), [candidate(one), small, candidate(three)]))
    assert [s.to_model for s in told.switches] == ["three-model"]


async def test_the_next_model_gets_the_length_that_is_left() -> None:
    one, two = scripted("one", ["abcd" * 30, broken()]), scripted("two", [" holds", END])
    models = [candidate(one), candidate(two)]
    await listen(answer_of(means(Kept()), models, sampling=Sampling(max_tokens=100)))
    assert two.requests[0].sampling.max_tokens == 70


async def test_a_stop_string_is_found_across_a_switch() -> None:
    stops = tuple(f"stop{number}" for number in range(5))
    one, two = scripted("one", ["A weir st", broken()]), scripted("two", [" stop3 more", END])
    told = await listen(
        answer_of(
            means(Kept()),
            [candidate(one), candidate(two)],
            sampling=Sampling(max_tokens=100, stop=stops),
        )
    )
    assert told.text == "A weir "
    assert told.done
    assert told.done.finish is Finish.STOP


async def test_redacted_data_stays_behind_across_a_switch() -> None:
    one = scripted("one", ["Mail [EMAIL_1", "] or call", broken()])
    two = scripted("two", [" [EMA", "IL_1].", END])
    told = await listen(
        answer_of(
            means(Kept()),
            [candidate(one), candidate(two)],
            content="Who is ada@example.org?",
            residency="redacted",
        )
    )
    assert told.text == "Mail ada@example.org or call ada@example.org."
    assert two.requests[0].prefix == "Mail [EMAIL_1] or call"
    assert "ada" not in str(two.requests[0])


SCHEMA = Constraint("json_schema", ('{"type": "object"}',))


@pytest.mark.parametrize(("again", "whole"), [('{"a": 12}', True), ('{"b": 12}', False)])
async def test_json_is_begun_anew_and_joined_or_the_break_is_told(again: str, whole: bool) -> None:
    one, two = scripted("one", ['{"a": 1', broken()]), scripted("two", [again, END])
    ledger = Kept()
    answer = answer_of(means(ledger), [candidate(one), candidate(two)], constraint=SCHEMA)
    if whole:
        assert (await listen(answer)).text == '{"a": 12}'
    else:
        with pytest.raises(WeirError) as caught:
            await listen(answer)
        assert caught.value.code is ErrorCode.STREAM_BROKEN
    assert ledger.balanced


# --- and where none goes on, the error says so, with the bill


async def test_the_policy_may_ask_for_an_error_in_place_of_another_model() -> None:
    ledger, two = Kept(), scripted("two")
    error = await failure(ledger, scripted("one", ["A weir", broken()]), two, continues=False)
    assert error.code is ErrorCode.STREAM_BROKEN
    assert not two.requests


async def test_with_no_model_left_the_break_is_told_with_what_all_attempts_cost() -> None:
    ledger = Kept()
    error = await failure(
        ledger,
        scripted("one", ["A weir", broken()]),
        scripted("two", [WeirError(ErrorCode.PROVIDER_AUTH, "The key has expired.")]),
    )
    assert error.code is ErrorCode.STREAM_BROKEN
    assert error.metadata["attempts"] == "2"
    assert float(error.metadata["cost_usd"]) == pytest.approx(ledger.nano / 1e9)
    assert ledger.nano > 0


@pytest.mark.parametrize("texts", [[], ["A weir"]], ids=["before text", "behind text"])
async def test_what_is_refused_for_its_content_is_not_shopped_around(texts: list[str]) -> None:
    refusal, two = WeirError(ErrorCode.PROVIDER_REJECTED, "It is filtered."), scripted("two")
    error = await failure(Kept(), scripted("one", [*texts, refusal]), two)
    assert error.code is ErrorCode.PROVIDER_REJECTED
    assert not two.requests


async def test_an_answer_that_ends_without_saying_so_is_broken() -> None:
    error = await failure(Kept(), scripted("one", ["A weir"]))
    assert error.code is ErrorCode.STREAM_BROKEN


async def test_silence_between_texts_breaks_a_stream_and_closes_it() -> None:
    silent = scripted("one", ["A weir", asyncio.Event()], pace=Pace(5.0, 0.01))
    error = await failure(Kept(), silent)
    assert error.code is ErrorCode.STREAM_BROKEN
    assert "overdue" in error.hint
    assert silent.closed.is_set()


# --- what a provider's circuit is told

REFUSED = WeirError(ErrorCode.PROVIDER_REJECTED, "No.")


@pytest.mark.parametrize(
    ("ends", "opens"),
    [
        ([[broken()], [broken()]], True),
        ([["A weir", broken()], ["A weir", broken()]], True),
        ([[WeirError(ErrorCode.PROVIDER_AUTH, "No key.")]] * 2, True),
        ([[WeirError(ErrorCode.RATE_LIMITED, "Slow down.")]] * 2, True),
        ([[broken()], ["A weir", END], [broken()]], False),
        ([[broken()], [REFUSED], [broken()]], False),
        ([[NotContinuedError()]] * 2, False),
    ],
    ids=["fails", "breaks", "no key", "limits", "succeeds between", "refuses between", "begins anew"],
)
async def test_failures_in_a_row_open_a_circuit_and_nothing_else(
    ends: list[Sequence[Step]], opens: bool
) -> None:
    model = candidate(scripted("one", *ends), consecutive_failures=2)
    for _ in ends:
        with suppress(WeirError):
            await listen(answer_of(means(Kept()), [model]))
    assert (model.breaker.state is CircuitState.OPEN) is opens


# --- before the first text


async def test_a_passing_failure_is_retried_on_the_same_model_and_then_on_the_next() -> None:
    one, two = scripted("one", [broken()], [broken()]), scripted("two", ["A weir", END])
    told = await listen(answer_of(means(Kept(), per_model=1), [candidate(one), candidate(two)]))
    assert told.text == "A weir"
    assert not told.switches
    assert (len(one.requests), len(two.requests)) == (2, 1)


async def test_a_rate_limit_that_asks_for_long_is_passed_over_and_the_model_left_alone() -> None:
    limited = WeirError(ErrorCode.RATE_LIMITED, "Slow down.", retry_after_s=30)
    one, two = scripted("one", [limited]), scripted("two", ["A weir", END], ["A dam", END])
    models, made = [candidate(one), candidate(two)], means(Kept(), per_model=3)
    assert (await listen(answer_of(made, models))).text == "A weir"
    assert (await listen(answer_of(made, models))).text == "A dam"
    assert len(one.requests) == 1


async def test_a_model_that_had_its_time_is_not_given_it_again_where_another_waits() -> None:
    one = scripted("one", [asyncio.Event()], pace=Pace(0.01, 1.0))
    two = scripted("two", ["A weir", END])
    ledger = Kept()
    told = await listen(answer_of(means(ledger, per_model=3), [candidate(one), candidate(two)]))
    assert told.text == "A weir"
    assert len(one.requests) == 1
    assert one.closed.is_set()
    assert ledger.settled[0][1].prompt > 0, "nobody knows whether the prompt was read, so it counts"


async def test_an_open_circuit_is_passed_over_and_a_lone_one_is_told() -> None:
    one = candidate(scripted("one", [broken()]), consecutive_failures=1)
    two = candidate(scripted("two", ["A weir", END], ["A dam", END]))
    made = means(Kept())
    assert (await listen(answer_of(made, [one, two]))).text == "A weir"
    assert (await listen(answer_of(made, [one, two]))).text == "A dam"
    with pytest.raises(WeirError) as caught:
        await listen(answer_of(made, [one]))
    assert caught.value.code is ErrorCode.PROVIDER_FAILED
    assert caught.value.retry_after_s


async def test_a_model_whose_circuit_opened_is_not_retried_and_its_own_error_is_told() -> None:
    one = scripted("one", [broken()])
    with pytest.raises(WeirError) as caught:
        await listen(answer_of(means(Kept(), per_model=3), [candidate(one, consecutive_failures=1)]))
    assert caught.value.hint == broken().hint
    assert len(one.requests) == 1


async def test_text_that_was_held_back_does_not_prevent_a_fallback() -> None:
    choices = Constraint("choices", ("yes", "no"))
    one, two = scripted("one", ['{"choice": "y', broken()]), scripted("two", ['{"choice": "no"}', END])
    told = await listen(answer_of(means(Kept()), [candidate(one), candidate(two)], constraint=choices))
    assert told.text == "no"
    assert not told.switches


# --- money

STOP = FinishReason.STOP


@pytest.mark.parametrize(
    ("events", "counts"),
    [
        ([], TokenCounts()),
        ([Delta()], TokenCounts(7)),
        ([Delta("four" * 3)], TokenCounts(7, 3)),
        ([Delta(unseen="four"), Delta("four" * 3)], TokenCounts(7, 4, reasoning=1)),
        ([Delta("four", TokenCounts(9, 1, 2, 3)), Delta("fourfour")], TokenCounts(9, 3, 2, 3)),
        ([Delta("four", TokenCounts(9, 8, reasoning=7))], TokenCounts(9, 8, reasoning=7)),
        ([Delta("four" * 3), Finished(STOP)], TokenCounts(7, 3)),
        ([Delta("four" * 3), Finished(STOP, TokenCounts(9, 2))], TokenCounts(9, 2)),
        ([Delta("four" * 3, TokenCounts(9, 2), final=True)], TokenCounts(9, 2)),
    ],
)
def test_what_is_not_reported_is_estimated_and_what_is_counts(
    events: list[ProviderEvent], counts: TokenCounts
) -> None:
    bill = Bill()
    for event in events:
        bill.add(event)
    asked = (ChatMessage("user", "fourfourfour"),)
    assert bill.counts(ProviderRequest("m", asked, Sampling())) == counts


async def test_the_cost_limit_holds_for_all_attempts_together() -> None:
    one, two = scripted("one", ["abcd" * 100, broken()]), scripted("two", [" holds", END])
    limit, ledger = 800_000, Kept()
    told = await listen(
        answer_of(
            means(ledger),
            [candidate(one), candidate(two)],
            sampling=Sampling(max_tokens=300),
            max_cost_nano=limit,
        )
    )
    spent, rest = ledger.settled[0][2], ledger.charges[1].nano
    assert told.switches
    assert spent + rest <= limit
    assert two.requests[0].sampling.max_tokens is not None
    assert two.requests[0].sampling.max_tokens < 200


async def test_without_money_for_another_model_the_break_is_told() -> None:
    ledger, one = Kept(), candidate(scripted("one", ["abcd" * 100, broken()]))
    answer = answer_of(means(ledger), [one, candidate(scripted("two"))], max_cost_nano=420_000)
    with pytest.raises(WeirError) as caught:
        await listen(answer)
    assert caught.value.code is ErrorCode.STREAM_BROKEN
    assert ledger.balanced


ENDS: dict[str, Sequence[Step]] = {
    "whole": ["A weir", END],
    "no usage": ["A weir", TokenCounts()],
    "failed": [broken()],
    "broke": ["A weir", broken()],
    "refused": [WeirError(ErrorCode.PROVIDER_REJECTED, "No.")],
    "limited": [WeirError(ErrorCode.RATE_LIMITED, "Slow down.")],
}


@given(st.lists(st.sampled_from(sorted(ENDS)), min_size=8, max_size=8), st.integers(0, 2), st.integers(0, 9))
def test_every_attempt_is_reserved_and_settled_once_whatever_ends_it(
    ends: list[str], per_model: int, turns: int
) -> None:
    async def run() -> Kept:
        ledger = Kept()
        scripts = deque(ENDS[end] for end in ends)
        models = [candidate(scripted(f"p{at}", *(scripts.popleft() for _ in range(4)))) for at in range(2)]
        task = asyncio.ensure_future(listen(answer_of(means(ledger, per_model=per_model), models)))
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns:
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            assert task.exception() is None or isinstance(task.exception(), WeirError)
        return ledger

    ledger = asyncio.run(run())
    assert ledger.balanced
    assert all(
        nano <= charge.nano for charge, (_, _, nano) in zip(ledger.charges, ledger.settled, strict=True)
    )


@pytest.mark.parametrize("before", [[], ["A weir"]], ids=["before text", "behind text"])
async def test_a_cancelled_answer_closes_the_stream_and_settles(before: list[str]) -> None:
    ledger, one = Kept(), scripted("one", [*before, asyncio.Event()])
    task = asyncio.create_task(listen(answer_of(means(ledger), [candidate(one)])))
    await one.asked.wait()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert one.closed.is_set()
    assert ledger.balanced
    assert ledger.nano > 0


async def test_what_has_come_by_the_time_of_a_cancel_is_counted() -> None:
    ledger, held = Kept(), asyncio.Event()
    # More than a reader who does not read lets in.
    one = scripted("one", [*["four"] * 3 * HELD, held])
    answer = answer_of(means(ledger), [candidate(one)])
    events = answer.stream()
    assert await anext(events)
    await events.aclose()
    assert ledger.settled[0][1].completion == 3 * HELD


async def test_a_slow_reader_is_not_taken_for_a_slow_provider() -> None:
    one = scripted("one", [*["four"] * 3 * HELD, END], pace=Pace(5.0, 0.01))
    answer = answer_of(means(Kept()), [candidate(one)])
    text = ""
    async with aclosing(answer.stream()) as events:
        async for event in events:
            if isinstance(event, str):
                text += event
                await asyncio.sleep(0.02)
    assert text == "four" * 3 * HELD
    assert not isinstance(event, Switched)
