"""Batching: who is judged together, who is left out, and how it ends."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.classifier_doubles import ScriptedClassifier
from weir.router.classifier.batching import Batcher, BusyError, batch_of
from weir.router.classifier.pace import BATCH_SHARE, Pace


@asynccontextmanager
async def batching(classifier: ScriptedClassifier, **options: float) -> AsyncIterator[Batcher]:
    batcher = Batcher(classifier, **{"max_batch": 8, **options})  # type: ignore[arg-type]
    try:
        yield batcher
    finally:
        classifier.gate.set()
        await batcher.aclose()


async def running(classifier: ScriptedClassifier, batcher: Batcher) -> asyncio.Future[object]:
    """Begin a batch that does not end before the gate opens."""
    classifier.hold()
    first = batcher.submit("0.1 first")
    await asyncio.to_thread(classifier.entered.wait, 10)
    return first  # type: ignore[return-value]


@given(sizes=st.lists(st.integers(1, 2_100), min_size=1, max_size=40), max_batch=st.integers(1, 32))
def test_a_batch_has_the_oldest_in_it_and_little_padding(sizes: list[int], max_batch: int) -> None:
    chosen = batch_of(sizes, max_batch)
    assert chosen[0] == 0
    assert len(set(chosen)) == len(chosen) <= max_batch
    taken = [sizes[index] for index in chosen]
    padded = max(taken) * len(taken)
    assert len(taken) == 1 or padded <= min(8_192, 1.25 * sum(taken))


def test_equal_lengths_fill_a_batch() -> None:
    assert batch_of([300] * 40, 16) == list(range(16))


async def test_a_lone_prompt_is_judged_alone_and_at_once() -> None:
    classifier = ScriptedClassifier()
    async with batching(classifier) as batcher:
        assert (await batcher.submit("0.7 alone")).complexity == 0.7
        assert classifier.batches == [["0.7 alone"]]


async def test_what_gathers_while_a_batch_runs_is_judged_together() -> None:
    classifier = ScriptedClassifier()
    async with batching(classifier) as batcher:
        first = await running(classifier, batcher)
        others = [batcher.submit(f"0.{digit} text") for digit in (2, 3, 4)]
        classifier.gate.set()
        found = [each.complexity for each in await asyncio.gather(*others)]
        await first
    assert found == [0.2, 0.3, 0.4]
    assert classifier.batches[1:] == [["0.2 text", "0.3 text", "0.4 text"]]


async def test_long_prompts_are_not_padded_onto_short_ones_and_do_not_starve() -> None:
    classifier = ScriptedClassifier()
    async with batching(classifier) as batcher:
        await running(classifier, batcher)
        long_one = batcher.submit("0.9 " + "x" * 1_500)
        short = [batcher.submit(f"0.2 {digit}") for digit in range(20)]
        classifier.gate.set()
        await asyncio.gather(long_one, *short)
    assert [len(batch) for batch in classifier.batches[1:]] == [1, 8, 8, 4]


async def test_max_batch_of_one_turns_batching_off() -> None:
    classifier = ScriptedClassifier()
    async with batching(classifier, max_batch=1) as batcher:
        await running(classifier, batcher)
        others = [batcher.submit(f"0.2 {digit}") for digit in range(3)]
        classifier.gate.set()
        await asyncio.gather(*others)
    assert [len(batch) for batch in classifier.batches] == [1, 1, 1, 1]


async def test_a_cancelled_waiter_costs_nothing() -> None:
    classifier = ScriptedClassifier()
    async with batching(classifier) as batcher:
        await running(classifier, batcher)
        gone, stays = batcher.submit("0.2 gone"), batcher.submit("0.3 stays")
        gone.cancel()
        classifier.gate.set()
        await stays
    assert "0.2 gone" not in classifier.asked


async def test_one_failing_prompt_fails_alone() -> None:
    classifier = ScriptedClassifier()
    async with batching(classifier) as batcher:
        await running(classifier, batcher)
        bad, fine = batcher.submit("fail this"), batcher.submit("0.3 fine")
        classifier.gate.set()
        assert (await fine).complexity == 0.3
        with pytest.raises(RuntimeError):
            await bad


async def test_past_the_bound_it_is_busy_at_once() -> None:
    classifier = ScriptedClassifier()
    async with batching(classifier, max_waiting=2) as batcher:
        await running(classifier, batcher)
        waiting = [batcher.submit("0.2 a"), batcher.submit("0.2 b")]
        with pytest.raises(BusyError):
            batcher.submit("0.2 c")
        classifier.gate.set()
        await asyncio.gather(*waiting)


async def test_nothing_is_handed_to_a_classifier_that_hangs() -> None:
    classifier = ScriptedClassifier()
    async with batching(classifier, limit_s=0) as batcher:
        await running(classifier, batcher)
        with pytest.raises(BusyError):
            batcher.submit("0.2 late")


async def test_closing_ends_what_was_handed_in_and_takes_no_more() -> None:
    classifier = ScriptedClassifier()
    async with batching(classifier) as batcher:
        await running(classifier, batcher)
        waiting = [batcher.submit(f"0.2 {digit}") for digit in range(20)]
        closing = asyncio.create_task(batcher.aclose())
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            batcher.submit("0.2 late")
        classifier.gate.set()
        assert len(await asyncio.gather(*waiting)) == 20
        await closing


async def test_what_would_wait_past_the_limit_is_busy_at_once() -> None:
    classifier = ScriptedClassifier()
    async with batching(classifier, limit_s=30) as batcher:
        batcher._pace.measured(100, 10.0)
        await running(classifier, batcher)
        waiting = [batcher.submit("0.2 a"), batcher.submit("0.2 b")]
        with pytest.raises(BusyError):
            batcher.submit("0.2 c")
        waiting[0].cancel()
        classifier.gate.set()
        await waiting[1]
        assert (await batcher.submit("0.2 later")).complexity == 0.2


async def test_batches_stay_short_against_the_limit() -> None:
    classifier = ScriptedClassifier()
    async with batching(classifier, limit_s=30) as batcher:
        batcher._pace.measured(100, 2.5)
        await running(classifier, batcher)
        waiting = [batcher.submit(f"0.2 {number}") for number in range(5)]
        classifier.gate.set()
        await asyncio.gather(*waiting)
    assert len(classifier.batches[1]) == 3


@given(st.lists(st.tuples(st.integers(96, 20_000), st.floats(1e-6, 100)), min_size=1, max_size=20))
def test_the_pace_bounds_a_batch_to_its_share_of_the_limit(batches: list[tuple[int, float]]) -> None:
    pace = Pace(0.25)
    for size, seconds in batches:
        pace.measured(size, seconds)
    rates = [seconds / size for size, seconds in batches]
    assert 0.9 * min(rates) <= BATCH_SHARE * 0.25 / pace.batch_size <= 1.1 * max(rates)
    assert pace.queue_size == pytest.approx(2 * pace.batch_size)


def test_an_unmeasured_pace_bounds_nothing() -> None:
    assert Pace(0.25).queue_size == Pace(0.25).batch_size == math.inf


async def test_other_scripts_count_by_their_bytes() -> None:
    classifier = ScriptedClassifier()
    async with batching(classifier) as batcher:
        await running(classifier, batcher)
        texts = ["0.2 " + "語" * 100, "0.2 " + "x" * 50, "0.2 " + "x" * 300]
        waiting = [batcher.submit(text) for text in texts]
        classifier.gate.set()
        await asyncio.gather(*waiting)
    assert sorted(map(len, classifier.batches[1:])) == [1, 2]
    assert [texts[0], texts[2]] in classifier.batches
