"""Judgments of identical prompts: kept, bounded, made once, and nothing left of what must not be kept."""

from __future__ import annotations

import asyncio
import gc

from hypothesis import given, settings
from hypothesis import strategies as st

from weir.router.classifier.base import Assessment, JudgedBy, Judgment, Question
from weir.router.classifier.cache import JudgmentCache


class Judging:
    """Counts what it is asked; holds its answers back until ``release`` is set."""

    def __init__(self, note: str = "") -> None:
        self.asked: list[str] = []
        self.started, self.release = asyncio.Event(), asyncio.Event()
        self.release.set()
        self._note = note

    async def __call__(self, text: str) -> Judgment:
        self.asked.append(text)
        self.started.set()
        await self.release.wait()
        by: JudgedBy = "prior" if self._note.startswith("classifier") else "classifier"
        return Judgment(Assessment(0.5, 0.1, len(text), ()), "r1", by, note=self._note)


async def test_an_identical_prompt_is_not_judged_again() -> None:
    cache, judging = JudgmentCache("r1", 10), Judging()
    first = await cache.ask(Question("same"), judging)
    again = await cache.ask(Question("same", tenant="other", key="k"), judging)
    assert (first.by, again.by) == ("classifier", "cache")
    assert again.assessment == first.assessment
    assert judging.asked == ["same"]


async def test_another_prompt_is_judged() -> None:
    cache, judging = JudgmentCache("r1", 10), Judging()
    for text in ("same", "same ", "\ud800", ""):
        assert (await cache.ask(Question(text), judging)).by == "classifier"


async def test_nothing_is_kept_of_a_question_that_must_leave_nothing() -> None:
    cache, judging = JudgmentCache("r1", 10), Judging()
    await cache.ask(Question("secret", keep=False), judging)
    assert len(cache) == 0
    await cache.ask(Question("secret", keep=False), judging)
    assert judging.asked == ["secret", "secret"]


async def test_no_text_stays_in_memory() -> None:
    cache, judging = JudgmentCache("r1", 10), Judging()
    await cache.ask(Question("a text to look for"), judging)
    judging.asked.clear()
    kept = [each for each in gc.get_referents(cache._kept) if isinstance(each, str)]
    assert kept == []
    assert "a text to look for" not in repr(cache._kept)


async def test_a_fallback_is_not_kept() -> None:
    for note in ("classifier_slow", "cascade_failed"):
        cache, judging = JudgmentCache("r1", 10), Judging(note)
        await cache.ask(Question("same"), judging)
        await cache.ask(Question("same"), judging)
        assert judging.asked == ["same", "same"]


async def test_without_entries_every_prompt_is_judged() -> None:
    cache, judging = JudgmentCache("r1", 0), Judging()
    await cache.ask(Question("same"), judging)
    await cache.ask(Question("same"), judging)
    assert judging.asked == ["same", "same"]


async def test_concurrent_identical_prompts_are_judged_once() -> None:
    cache, judging = JudgmentCache("r1", 10), Judging()
    judging.release.clear()
    asking = [asyncio.create_task(cache.ask(Question("same"), judging)) for _ in range(5)]
    await judging.started.wait()
    judging.release.set()
    found = await asyncio.gather(*asking)
    assert sorted(judgment.by for judgment in found) == ["cache"] * 4 + ["classifier"]
    assert judging.asked == ["same"]


async def test_where_the_first_is_cancelled_another_takes_its_place() -> None:
    cache, judging = JudgmentCache("r1", 10), Judging()
    judging.release.clear()
    first = asyncio.create_task(cache.ask(Question("same"), judging))
    await judging.started.wait()
    others = [asyncio.create_task(cache.ask(Question("same"), judging)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    judging.release.set()
    found = await asyncio.gather(*others)
    assert sorted(judgment.by for judgment in found) == ["cache", "cache", "classifier"]
    assert judging.asked == ["same", "same"]


async def test_a_cancelled_follower_disturbs_nobody() -> None:
    cache, judging = JudgmentCache("r1", 10), Judging()
    judging.release.clear()
    first = asyncio.create_task(cache.ask(Question("same"), judging))
    await judging.started.wait()
    follower = asyncio.create_task(cache.ask(Question("same"), judging))
    await asyncio.sleep(0)
    follower.cancel()
    await asyncio.wait([follower])
    judging.release.set()
    assert (await first).by == "classifier"


async def test_who_must_leave_nothing_shares_a_judgment_without_keeping_it() -> None:
    cache, judging = JudgmentCache("r1", 10), Judging()
    judging.release.clear()
    asking = [asyncio.create_task(cache.ask(Question("same", keep=False), judging)) for _ in range(2)]
    await judging.started.wait()
    judging.release.set()
    await asyncio.gather(*asking)
    assert judging.asked == ["same"]
    assert len(cache) == 0


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.sampled_from("abcdefgh"), max_size=60), entries=st.integers(1, 4))
async def test_the_least_recently_used_goes_first(texts: list[str], entries: int) -> None:
    cache, judging = JudgmentCache("r1", entries), Judging()
    expected: list[str] = []
    for text in texts:
        judgment = await cache.ask(Question(text), judging)
        assert (judgment.by == "cache") == (text in expected)
        expected = [*(other for other in expected if other != text), text][-entries:]
        assert len(cache) <= entries
