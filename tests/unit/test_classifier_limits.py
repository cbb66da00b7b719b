"""The time limit: late, failing and overloaded classifiers, and what the log says of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from tests.unit.classifier_doubles import ScriptedClassifier
from weir.router.classifier.batching import Batcher
from weir.router.classifier.limits import RECOVERED_AFTER_S, Guard, NotJudgedError

LONG_S = 30.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def classifier() -> ScriptedClassifier:
    return ScriptedClassifier()


@pytest.fixture
async def batcher(classifier: ScriptedClassifier) -> AsyncIterator[Batcher]:
    made = Batcher(classifier, max_batch=4, max_waiting=2, limit_s=LONG_S)
    yield made
    classifier.gate.set()
    await made.aclose()


async def ask(guard: Guard, batcher: Batcher, text: str, within_s: float = LONG_S) -> str:
    """Return the cause of there being no assessment, empty where there is one."""
    try:
        await guard.assess(batcher, text, asyncio.get_running_loop().time() + within_s)
    except NotJudgedError as error:
        return error.cause
    return ""


async def test_in_time_there_is_an_assessment(batcher: Batcher) -> None:
    assert await ask(Guard("present"), batcher, "0.4 quick") == ""


async def test_a_late_classifier_is_not_waited_for(classifier: ScriptedClassifier, batcher: Batcher) -> None:
    classifier.hold()
    assert await ask(Guard("present"), batcher, "0.4 late", 0.02) == "slow"


async def test_late_work_that_still_waited_is_dropped(
    classifier: ScriptedClassifier, batcher: Batcher
) -> None:
    classifier.hold()
    guard = Guard("present")
    assert await ask(guard, batcher, "0.4 first", 0.02) == "slow"
    assert await ask(guard, batcher, "0.4 second", 0.02) == "slow"
    classifier.gate.set()
    assert await ask(guard, batcher, "0.4 third") == ""
    assert classifier.asked == ["0.4 first", "0.4 third"]


async def test_a_failing_classifier_is_said_to_fail(batcher: Batcher) -> None:
    assert await ask(Guard("present"), batcher, "fail now") == "failed"


async def test_past_the_queue_s_bound_it_is_busy_at_once(
    classifier: ScriptedClassifier, batcher: Batcher
) -> None:
    classifier.hold()
    running = batcher.submit("0.1 running")
    await asyncio.to_thread(classifier.entered.wait, 10)
    waiting = [batcher.submit("0.1 a"), batcher.submit("0.1 b")]
    assert await ask(Guard("present"), batcher, "0.1 c") == "busy"
    classifier.gate.set()
    await asyncio.gather(running, *waiting)


async def test_the_log_tells_of_each_change_once(batcher: Batcher) -> None:
    clock = Clock()
    guard = Guard("present", clock)
    with capture_logs() as logs:
        for text in ("fail a", "fail b", "0.1 fine", "fail c"):
            await ask(guard, batcher, text)
        clock.now = RECOVERED_AFTER_S
        await ask(guard, batcher, "0.1 fine again")
        await ask(guard, batcher, "0.1 and again")
    assert [entry["event"] for entry in logs] == ["classifier_falls_back", "classifier_answers_again"]
    assert not any("fail a" in str(entry) for entry in logs)


async def test_a_caller_s_own_cancellation_is_no_fallback(
    classifier: ScriptedClassifier, batcher: Batcher
) -> None:
    classifier.hold()
    task = asyncio.create_task(ask(Guard("present"), batcher, "0.1 cancelled"))
    await asyncio.to_thread(classifier.entered.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
