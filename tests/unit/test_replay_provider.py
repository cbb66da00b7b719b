"""Playing a recording: its pace by the clock, what it counts, and how it goes on from text that stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weir.engines.base import ChatMessage, Constraint, FinishReason, Sampling
from weir.frontier_proxy.providers.base import Access, Delta, Finished, ProviderEvent, ProviderRequest
from weir.frontier_proxy.providers.replay import ReplayProvider

ANSWER = "A weir holds the river back. It is older than any lock."
TOKENS = 14


class Clock:
    """Time that passes while something sleeps, each time ``late_s`` longer than asked."""

    def __init__(self, late_s: float = 0.0) -> None:
        self.now = 100.0
        self.late_s = late_s

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds + self.late_s


def replay(folder: Path, clock: Clock, **row: object) -> ReplayProvider:
    path = folder / "recording.jsonl"
    path.write_text(json.dumps({"prompt": "What is a weir?", "answer": ANSWER, **row}), encoding="utf-8")
    return ReplayProvider(Access("demo", "replay", ""), path, 10, 0.5, clock=clock, sleep=clock.sleep)


def request(prefix: str = "", max_tokens: int | None = None) -> ProviderRequest:
    messages = (ChatMessage("user", "What is a weir?"),)
    return ProviderRequest("gpt-4o", messages, Sampling(max_tokens=max_tokens), prefix=prefix)


async def played(provider: ReplayProvider, asked: ProviderRequest) -> tuple[str, Finished]:
    events = [event async for event in provider.stream(asked)]
    *deltas, end = events
    assert isinstance(end, Finished)
    return "".join(delta.text for delta in deltas if isinstance(delta, Delta)), end


async def test_the_answer_is_played_and_counted(tmp_path: Path) -> None:
    text, end = await played(replay(tmp_path, Clock()), request())
    assert text == ANSWER
    assert end.reason is FinishReason.STOP
    assert end.counts
    assert (end.counts.prompt, end.counts.completion) == (5, TOKENS)


async def test_tokens_come_at_the_set_rate_behind_the_first(tmp_path: Path) -> None:
    clock = Clock()
    times = [clock.now - 100.0 async for event in replay(tmp_path, clock).stream(request())]
    assert times[:4] == pytest.approx([0, 0.5, 0.6, 0.7])
    assert times[-1] == pytest.approx(0.5 + (TOKENS - 1) / 10)


async def test_a_late_wake_up_is_made_up_for(tmp_path: Path) -> None:
    clock = Clock(late_s=0.25)
    events = [event async for event in replay(tmp_path, clock).stream(request())]
    assert len(events) < TOKENS
    assert clock.now - 100.0 == pytest.approx(0.5 + (TOKENS - 1) / 10, abs=0.36)


async def test_recorded_counts_are_told_and_set_the_pace(tmp_path: Path) -> None:
    clock = Clock()
    _, end = await played(replay(tmp_path, clock, completion_tokens=2 * TOKENS), request())
    assert end.counts
    assert end.counts.completion == 2 * TOKENS
    assert clock.now - 100.0 == pytest.approx(0.5 + 2 * (TOKENS - 1) / 10)


async def test_what_has_been_played_so_far_is_counted(tmp_path: Path) -> None:
    seen: list[ProviderEvent] = []
    async for event in replay(tmp_path, Clock()).stream(request()):
        seen.append(event)
        if len(seen) == 4:
            break
    counts = [event.counts.completion for event in seen if event.counts]
    assert counts == [0, 1, 2, 3]


@pytest.mark.parametrize("recorded", [None, 3 * TOKENS])
async def test_the_length_asked_for_is_kept(tmp_path: Path, recorded: int | None) -> None:
    row = {} if recorded is None else {"completion_tokens": recorded}
    text, end = await played(replay(tmp_path, Clock(), **row), request(max_tokens=6))
    assert ANSWER.startswith(text)
    assert text != ANSWER
    assert end.reason is FinishReason.LENGTH
    assert end.counts
    assert end.counts.completion == 6


@pytest.mark.parametrize("cut", range(1, len(ANSWER)))
async def test_text_that_stands_is_gone_on_from(tmp_path: Path, cut: int) -> None:
    provider, asked = replay(tmp_path, Clock()), request(prefix=ANSWER[:cut])
    assert provider.prefills(asked)
    text, _ = await played(provider, asked)
    assert ANSWER[:cut].rstrip() + text == ANSWER


async def test_other_text_is_followed_by_the_whole_answer(tmp_path: Path) -> None:
    provider, asked = replay(tmp_path, Clock()), request(prefix="A dam")
    assert not provider.prefills(asked)
    assert (await played(provider, asked))[0] == ANSWER


def test_no_format_is_promised(tmp_path: Path) -> None:
    assert not replay(tmp_path, Clock()).supports(Constraint("json_schema", ("{}",)))
