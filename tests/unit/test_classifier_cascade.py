"""The cascade: only doubtful prompts reach the large classifier, and without it the small one stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from tests.unit.classifier_doubles import PRIOR, UNSURE, ScriptedClassifier
from weir.common.config import routing as config
from weir.common.errors import ErrorCode, WeirError
from weir.router.classifier.batching import Batcher
from weir.router.classifier.cascade import Cascade, Stage, sets_if_known, sets_of
from weir.router.classifier.limits import Guard

SETTINGS = config.Cascade(error_rate=0.1)
Build = Callable[..., Cascade]


@pytest.fixture
def small() -> ScriptedClassifier:
    return ScriptedClassifier("small")


@pytest.fixture
def large() -> ScriptedClassifier:
    return ScriptedClassifier("large", shift=0.05)


@pytest.fixture
async def build(small: ScriptedClassifier, large: ScriptedClassifier) -> AsyncIterator[Build]:
    async with AsyncExitStack() as cleanup:

        def stage(classifier: ScriptedClassifier) -> Stage:
            batcher = Batcher(classifier, max_batch=4)
            cleanup.push_async_callback(batcher.aclose)
            return Stage(batcher, Guard(classifier.revision))

        def made(*, with_large: bool = True, limit_s: float = 30.0) -> Cascade:
            sets = sets_if_known(small, SETTINGS)
            return Cascade(stage(small), stage(large) if with_large else None, sets, limit_s)

        yield made
        small.gate.set()
        large.gate.set()


@pytest.mark.parametrize("complexity", ["0.1", "0.17", "0.83", "0.95"])
async def test_where_the_small_one_is_sure_the_large_one_is_not_asked(
    build: Build, large: ScriptedClassifier, complexity: str
) -> None:
    judgment = await build().judge(f"{complexity} sure")
    assert (judgment.by, judgment.revision, judgment.note) == ("classifier", "small+large", "")
    assert judgment.assessment.complexity == float(complexity)
    assert large.asked == []


@pytest.mark.parametrize("complexity", [0.21, 0.5, 0.79])
async def test_a_doubtful_prompt_is_judged_by_the_large_one(build: Build, complexity: float) -> None:
    judgment = await build().judge(f"{complexity} doubtful")
    assert judgment.by == "cascade"
    assert judgment.assessment.complexity == pytest.approx(complexity + 0.05)


async def test_without_a_large_one_the_doubt_is_told(build: Build) -> None:
    cascade = build(with_large=False)
    judgment = await cascade.judge("0.5 doubtful")
    assert (judgment.by, judgment.revision) == ("classifier", "small")
    assert judgment.assessment.doubtful
    assert not (await cascade.judge("0.1 sure")).assessment.doubtful


async def test_where_the_large_one_fails_the_small_one_stands(
    build: Build, large: ScriptedClassifier
) -> None:
    large.prior = PRIOR
    large.assess = lambda texts: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    judgment = await build().judge("0.5 doubtful")
    assert (judgment.by, judgment.note) == ("classifier", "cascade_failed")
    assert judgment.assessment.complexity == 0.5


async def test_where_the_large_one_is_slow_the_small_one_stands(
    build: Build, large: ScriptedClassifier
) -> None:
    large.hold()
    judgment = await build(limit_s=0.05).judge("0.5 doubtful")
    assert (judgment.by, judgment.note) == ("classifier", "cascade_slow")
    assert judgment.assessment.complexity == 0.5


async def test_where_the_small_one_is_slow_the_prior_stands_in(
    build: Build, small: ScriptedClassifier
) -> None:
    small.hold()
    judgment = await build(limit_s=0.02).judge("0.5 late")
    assert (judgment.by, judgment.note) == ("prior", "classifier_slow")
    assert judgment.assessment == PRIOR


async def test_both_share_one_time_limit(build: Build, small: ScriptedClassifier) -> None:
    cascade = build(limit_s=0.2)
    loop = asyncio.get_running_loop()
    started = loop.time()
    small.hold()
    judging = asyncio.create_task(cascade.judge("0.5 doubtful"))
    await asyncio.to_thread(small.entered.wait, 10)
    small.gate.set()
    await judging
    assert loop.time() - started < 10


def test_a_small_one_without_calibration_is_refused() -> None:
    with pytest.raises(WeirError, match="conformal calibration") as caught:
        sets_of(ScriptedClassifier(conformal={}), SETTINGS)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert sets_if_known(ScriptedClassifier(conformal={}), SETTINGS) is None


def test_the_error_rate_moves_the_bounds() -> None:
    strict = sets_of(ScriptedClassifier(conformal=UNSURE), config.Cascade(error_rate=0.05))
    loose = sets_of(ScriptedClassifier(conformal=UNSURE), config.Cascade(error_rate=0.2))
    assert strict.fit_up_to > loose.fit_up_to
    assert strict.unfit_from < loose.unfit_from
