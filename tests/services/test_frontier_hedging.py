"""Hedging: when a second model is asked, which one answers, and that its cost stays under the cap."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services.answer_doubles import (
    END,
    Kept,
    Scripted,
    Step,
    Told,
    answer_of,
    broken,
    candidate,
    listen,
    means,
    scripted,
    spec,
)
from tests.services.provider_doubles import ProviderDouble, Reply, ask, configured, openai_chunks, proxy
from weir.common.config import Settings
from weir.common.config.frontier import Hedging
from weir.common.errors import WeirError
from weir.frontier_proxy.answer import Means
from weir.frontier_proxy.attempt import Attempt
from weir.frontier_proxy.hedging import Hedges
from weir.frontier_proxy.latency import FirstTextTimes
from weir.frontier_proxy.race import Race
from weir.frontier_proxy.selection import Candidate

HOUR = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def times(*seconds: float) -> FirstTextTimes:
    known = FirstTextTimes(1)
    for each in seconds:
        known.add(each)
    return known


# --- when, and for how much


@pytest.mark.parametrize(
    ("known", "delay"),
    [((), None), ((0.5,), 0.5), ((0.001,), 0.1), ((60.0,), 10.0), ((*[0.2] * 19, 7.0), 0.2)],
    ids=["unknown", "the quantile", "no sooner than", "no later than", "outliers"],
)
def test_the_delay_is_the_first_texts_quantile_within_bounds(
    known: Sequence[float], delay: float | None
) -> None:
    assert Hedges(Hedging(enabled=True)).delay(times(*known)) == delay


def test_no_hedge_is_due_unless_enabled() -> None:
    assert Hedges(Hedging()).delay(times(0.5)) is None


def test_what_was_spent_more_than_an_hour_ago_pays_for_no_hedge() -> None:
    clock = Clock()
    hedges = Hedges(Hedging(enabled=True, max_spend_share=0.1), clock)
    hedges.spent(1000)
    assert hedges.admit(101) is None
    stake = hedges.admit(100)
    assert stake
    stake.paid(0)
    clock.now += HOUR + 60
    assert hedges.admit(1) is None


def test_the_cap_is_free_again_for_what_a_stake_did_not_need() -> None:
    hedges = Hedges(Hedging(enabled=True, max_spend_share=0.1))
    hedges.spent(1000)
    stake = hedges.admit(100)
    assert stake
    stake.paid(40)
    stake.paid(40)
    assert hedges.admit(61) is None
    assert hedges.admit(60)


MOVES = st.lists(st.tuples(st.sampled_from(["spend", "hedge", "pay", "wait"]), st.integers(0, 500)))


@given(MOVES, st.floats(0, 1))
def test_hedges_never_add_more_than_their_share(moves: list[tuple[str, int]], share: float) -> None:
    clock = Clock()
    hedges = Hedges(Hedging(enabled=True, max_spend_share=share), clock)
    stakes, total, added = [], 0, 0
    for move, amount in moves:
        if move == "spend":
            hedges.spent(amount)
            total += amount
        elif move == "hedge" and (stake := hedges.admit(amount)):
            stakes.append((stake, amount))
            added += amount
            assert added <= share * total
        elif move == "pay" and stakes:
            stake, bound = stakes.pop()
            stake.paid(min(amount, bound))
            added -= bound - min(amount, bound)
        elif move == "wait":
            clock.now += amount % 2


# --- two models race


def waited_for(provider: Scripted, usd: int = 1) -> Candidate:
    """Its first texts usually take no time at all."""
    made = candidate(provider, usd)
    made.times.add(0.001)
    return made


def hedging(ledger: Kept, *, share: float = 1.0, spent_nano: int = 10**9) -> Means:
    made = means(ledger, enabled=True, max_spend_share=share)
    made.hedges.spent(spent_nano)
    return made


async def race(ledger: Kept, *models: Candidate, share: float = 1.0, limit: int | None = None) -> Told:
    answer = answer_of(hedging(ledger, share=share), models, max_cost_nano=limit)
    async with asyncio.timeout(5):
        return await listen(answer)


async def test_the_hedge_answers_where_the_first_stays_silent_which_is_closed_and_paid() -> None:
    ledger, one, two = Kept(), scripted("one", [asyncio.Event()]), scripted("two", ["A weir", END])
    told = await race(ledger, waited_for(one), candidate(two))
    assert told.text == "A weir"
    assert not told.switches, "the client saw one model only"
    assert one.closed.is_set()
    assert told.done
    silent, answered = told.done.usage
    assert (silent.model, answered.model) == ("one-model", "two-model")
    assert silent.counts.prompt > 0
    assert silent.cost_nano > 0
    assert ledger.balanced
    assert ledger.nano == silent.cost_nano + answered.cost_nano


async def test_the_first_answers_where_its_text_comes_before_the_hedges() -> None:
    ledger, two = Kept(), scripted("two", [asyncio.Event()])
    one = scripted("one", [two.asked, "A weir", END])
    told = await race(ledger, waited_for(one), candidate(two))
    assert told.text == "A weir"
    assert two.closed.is_set()
    assert told.done
    assert [usage.model for usage in told.done.usage] == ["one-model", "two-model"]
    assert ledger.balanced


async def test_no_hedge_is_sent_where_the_first_is_as_fast_as_usual() -> None:
    two = scripted("two")
    told = await race(Kept(), waited_for(scripted("one", ["A weir", END])), candidate(two))
    assert told.text == "A weir"
    assert not two.requests


@pytest.mark.parametrize("failing", ["first", "hedge"])
async def test_a_race_that_one_side_fails_is_the_others(failing: str) -> None:
    ledger, one, two = Kept(), scripted("one"), scripted("two")
    fails: list[Step] = [broken()]
    answers: list[Step] = ["A weir", END]
    one.scripts.append([two.asked, *fails] if failing == "first" else [two.closed, *answers])
    two.scripts.append([one.closed, *answers] if failing == "first" else fails)
    told = await race(ledger, waited_for(one), candidate(two))
    assert told.text == "A weir"
    assert ledger.balanced


async def test_a_third_model_is_tried_where_both_sides_of_a_race_fail() -> None:
    two = scripted("two", [broken()])
    one = scripted("one", [two.closed, broken()])
    ledger, three = Kept(), scripted("three", ["A weir", END])
    told = await race(ledger, waited_for(one), candidate(two), candidate(three))
    assert told.text == "A weir"
    assert told.done
    assert len(told.done.usage) == 3
    assert ledger.balanced


async def test_a_race_that_both_sides_lose_is_an_error_with_the_bill_of_both() -> None:
    two = scripted("two", [broken()])
    ledger, one = Kept(), scripted("one", [two.closed, broken()])
    with pytest.raises(WeirError) as caught:
        await race(ledger, waited_for(one), candidate(two))
    assert caught.value.metadata["attempts"] == "2"
    assert ledger.balanced


async def test_where_the_winner_breaks_the_loser_is_asked_to_go_on() -> None:
    two = scripted("two", ["A weir", broken()])
    one = scripted("one", [asyncio.Event()], [" holds", END])
    ledger = Kept()
    told = await race(ledger, waited_for(one), candidate(two))
    assert told.text == "A weir holds"
    assert [(s.from_model, s.to_model) for s in told.switches] == [("two-model", "one-model")]
    assert ledger.balanced


async def test_the_loser_says_nothing_of_its_circuit_and_its_wait_counts_for_the_next_delay() -> None:
    one = waited_for(scripted("one", [asyncio.Event()]))
    await race(Kept(), one, candidate(scripted("two", ["A weir", END])))
    assert one.breaker.admit()
    assert (one.times.quantile(1.0) or 0) > 0.001


@pytest.mark.parametrize(
    ("share", "limit"), [(0.0, None), (1e-6, None), (1.0, 300_000)], ids=["none", "cap", "max_cost"]
)
async def test_no_hedge_is_sent_without_the_money(share: float, limit: int | None) -> None:
    late, two = asyncio.Event(), scripted("two")
    one = scripted("one", [late, "A weir", END])
    answer = answer_of(hedging(Kept(), share=share), [waited_for(one), candidate(two)], max_cost_nano=limit)
    task = asyncio.create_task(listen(answer))
    await one.asked.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await two.asked.wait()
    late.set()
    assert (await task).text == "A weir"
    assert not two.requests


async def test_a_model_that_is_being_probed_is_no_hedge() -> None:
    late, other = asyncio.Event(), scripted("two")
    two = candidate(other, consecutive_failures=1, open_s=0.001)
    permit = two.breaker.admit()
    assert permit
    permit.failed(broken().code)
    one = scripted("one", [late, "A weir", END])
    task = asyncio.create_task(listen(answer_of(hedging(Kept()), [waited_for(one), two])))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await other.asked.wait()
    late.set()
    assert (await task).text == "A weir"


async def test_a_first_text_that_comes_while_the_hedge_is_planned_makes_it_needless() -> None:
    ledger, late, two = Kept(), asyncio.Event(), scripted("two")
    made, models = hedging(ledger), [candidate(scripted("one", [late, "A weir", END])), candidate(two)]
    first, hedge = [await attempt(made, model) for model in models]
    first.begin()

    async def plan() -> Attempt:
        late.set()
        await asyncio.wait([first.decided])
        return hedge

    leader = await Race(first, made.hedges).leader(0.001, plan, Attempt.begin)
    assert leader is first
    assert [text async for text in first.texts()] == ["A weir"]
    assert not two.requests


async def attempt(made: Means, model: Candidate) -> Attempt:
    plan, permit = await made.planner.plan(model, spec(), "any", None), model.breaker.admit()
    assert permit
    return Attempt(plan, permit, made.ledger, spec())


async def test_a_cancelled_race_closes_and_settles_both_sides() -> None:
    ledger, one, two = Kept(), scripted("one", [asyncio.Event()]), scripted("two", [asyncio.Event()])
    made = hedging(ledger)
    task = asyncio.create_task(listen(answer_of(made, [waited_for(one), candidate(two)])))
    await two.asked.wait()
    task.cancel()
    await asyncio.wait([task])
    assert one.closed.is_set()
    assert two.closed.is_set()
    assert ledger.balanced
    assert len(ledger.charges) == 2
    assert made.hedges.admit(10**9 - ledger.nano), "nothing stays set aside"


async def test_an_answer_that_is_closed_behind_a_race_leaves_nothing_running() -> None:
    ledger, one = Kept(), scripted("one", [asyncio.Event()])
    two = scripted("two", ["A weir", asyncio.Event()])
    async with aclosing(answer_of(hedging(ledger), [waited_for(one), candidate(two)]).stream()) as events:
        assert await anext(events) == "A weir"
    assert one.closed.is_set()
    assert two.closed.is_set()
    assert ledger.balanced


async def test_the_running_proxy_hedges_as_configured(settings: Settings) -> None:
    async with ProviderDouble().running() as first, ProviderDouble().running() as second:
        shared = {"kind": "openai_compatible", "allow_private": True}
        free = {"input_usd_per_million": 0, "output_usd_per_million": 0, "as_of": "2026-01-31"}
        frontier = {
            "providers": {
                "near": {**shared, "base_url": first.url, "models": ["near-1"]},
                "far": {**shared, "base_url": second.url, "models": ["far-1"]},
            },
            "prices": {"near-1": free, "far-1": free},
            "hedging": {"enabled": True, "min_samples": 1, "min_delay_s": 0.01, "max_delay_s": 0.01},
        }
        first.will(Reply(openai_chunks("A dam")), silent := Reply(hold=True))
        second.will(Reply(openai_chunks("A weir")))
        tier = {"frontier": {"model_id": "near-1", "provider": "near"}}
        async with proxy(configured(settings, tiers=tier, frontier=frontier)) as running:
            usual, _ = await running.forward(ask())
            hedged, finished = await running.forward(ask())
            async with asyncio.timeout(2):
                await silent.disconnected.wait()
    assert (usual, hedged) == ("A dam", "A weir")
    assert [usage.model for usage in finished.usage] == ["near-1", "far-1"]
