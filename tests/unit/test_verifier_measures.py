"""What a verified answer tells: counters with few labels, and rounds on its span whatever ends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.metering import Metered, metered
from tests.tracing import test_tracing as tracing
from weir.common import conventions as names
from weir.common.inference import Inference
from weir.engines.base import EngineInfo, Sampling
from weir.verifier.events import Attempt, Ending, Finished, Handoff, Stats
from weir.verifier.measures import MAX_EVENTS, POSITIONS, ROUNDS_AN_EVENT, Recorder, RoundFacts

ROUND = RoundFacts("model", drafted=5, accepted=3, produced=4, draft_s=0.04, verify_s=0.06, wait_s=0.001)
PAUSED = RoundFacts("paused", drafted=0, accepted=0, produced=1, verify_s=0.05)
PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
INFO = EngineInfo("m", "openvino", "none", 8, 12, "", frozenset())


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    tracing().add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture(autouse=True)
def _fresh(spans: InMemorySpanExporter) -> None:
    spans.clear()
    metered()


@contextmanager
def recorder() -> Iterator[Recorder]:
    with Inference("chat", INFO, Sampling()) as inference, Recorder(inference, "m") as recorder:
        yield recorder


def told(spans: InMemorySpanExporter) -> list[dict[str, Any]]:
    """Return the attributes of the events with rounds, in order."""
    (span,) = spans.get_finished_spans()
    return [dict(event.attributes or {}) for event in span.events if event.name == names.ROUNDS_EVENT]


def attributes(spans: InMemorySpanExporter) -> dict[str, Any]:
    (span,) = spans.get_finished_spans()
    assert isinstance(span, ReadableSpan)
    return dict(span.attributes or {})


def finish(stats: Stats) -> Metered:
    own = Attempt("m", 4, stats.draft_tokens + stats.verifier_tokens, drafted_tokens=10, accepted_tokens=6)
    with recorder() as recording:
        recording.note(Finished(Ending.STOP, (own,), stats.passes, 0.0, 0.1, 0.2, stats))
    return metered()


def test_rounds_are_counted_by_where_their_drafts_came_from() -> None:
    with recorder() as recording:
        for facts in (ROUND, ROUND, PAUSED):
            recording.round_done(facts)
    found = metered()
    assert found.by(names.VERIFY_ROUNDS, names.DRAFT_METHOD) == {"model": 2, "paused": 1}
    assert found.by(names.VERIFY_DRAFTED, names.DRAFT_METHOD) == {"model": 10}
    assert found.by(names.VERIFY_ACCEPTED, names.DRAFT_METHOD) == {"model": 6}


def test_draft_length_is_of_rounds_that_have_drafts() -> None:
    with recorder() as recording:
        recording.round_done(ROUND)
        recording.round_done(PAUSED)
    found = metered()
    assert found.count(names.VERIFY_DRAFT_LENGTH) == 1
    assert found.total(names.VERIFY_DRAFT_LENGTH) == 5


def test_each_part_of_a_round_has_its_time() -> None:
    with recorder() as recording:
        recording.round_done(ROUND)
        recording.round_done(PAUSED)
    found = metered()
    times = {
        part: found.total(names.VERIFY_PART_DURATION, **{names.PART: part})
        for part in ("draft", "verify", "wait")
    }
    assert times == pytest.approx({"draft": 0.04, "verify": 0.11, "wait": 0.001})


def test_rounds_reach_the_span_in_order_and_in_batches(spans: InMemorySpanExporter) -> None:
    with recorder() as recording:
        for length in range(ROUNDS_AN_EVENT + 6):
            recording.round_done(RoundFacts("model", length, 0, 1))
    first, second = told(spans)
    drafted = [*first[names.ROUND_DRAFTED], *second[names.ROUND_DRAFTED]]
    assert drafted == list(range(ROUNDS_AN_EVENT + 6))
    assert len(second[names.ROUND_METHODS]) == 6


def test_rounds_reach_the_span_of_an_answer_that_fails(spans: InMemorySpanExporter) -> None:
    with pytest.raises(RuntimeError), recorder() as recording:
        recording.round_done(ROUND)
        raise RuntimeError
    (event,) = told(spans)
    assert event[names.ROUND_ACCEPTED] == (3,)
    assert event[names.ROUND_VERIFY_US] == (60_000,)


def test_a_span_takes_no_more_rounds_than_it_can_hold(spans: InMemorySpanExporter) -> None:
    with recorder() as recording:
        for _ in range(ROUNDS_AN_EVENT * (MAX_EVENTS + 2)):
            recording.round_done(PAUSED)
    assert len(told(spans)) == MAX_EVENTS
    assert metered().total(names.VERIFY_ROUNDS) == ROUNDS_AN_EVENT * (MAX_EVENTS + 2)


def test_an_answer_tells_its_sources_passes_and_positions(spans: InMemorySpanExporter) -> None:
    stats = Stats(
        passes=7,
        draft_tokens=12,
        verifier_tokens=6,
        frontier_tokens=3,
        judged_by_position=(5, 4),
        accepted_by_position=(4, 2),
        level="token",
    )
    found = finish(stats)
    assert found.by(names.VERIFY_TOKENS, names.TOKEN_SOURCE) == {"draft": 12, "verifier": 6, "frontier": 3}
    assert found.total(names.VERIFY_PASSES) == 7
    assert found.total(names.VERIFY_SAVED) == 11
    assert found.by(names.VERIFY_JUDGED_AT, names.DRAFT_POSITION) == {"1": 5, "2": 4}
    assert found.by(names.VERIFY_ACCEPTED_AT, names.DRAFT_POSITION) == {"1": 4, "2": 2}
    assert found.total(names.VERIFY_SHARE) == pytest.approx(0.6)
    on_span = attributes(spans)
    assert on_span[names.TOKENS_BY_SOURCE] == (12, 6, 3)
    assert on_span[names.ACCEPTED_BY_POSITION] == (4, 2)
    assert (on_span[names.PASSES], on_span[names.LEVEL]) == (7, "token")


def test_more_passes_than_tokens_save_nothing() -> None:
    assert finish(Stats(passes=4, verifier_tokens=3)).total(names.VERIFY_SAVED) == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=64))
def test_positions_have_few_labels_and_lose_no_token(judged: list[int]) -> None:
    metered()
    found = finish(Stats(judged_by_position=tuple(judged))).by(names.VERIFY_JUDGED_AT, names.DRAFT_POSITION)
    assert set(found) <= {*map(str, range(1, POSITIONS + 1)), f"{POSITIONS + 1}+"}
    assert sum(found.values()) == sum(judged)


def test_handovers_are_counted_by_their_code() -> None:
    with recorder() as recording:
        recording.note(Handoff("low_acceptance", "17% of the last 64", 12))
    assert metered().by(names.VERIFY_ESCALATIONS, names.REASON) == {"low_acceptance": 1}


def test_the_page_of_metrics_has_each_of_them() -> None:
    page = PAGE.read_text(encoding="utf-8")
    metrics = {name: value for name, value in vars(names).items() if name.startswith(("VERIFY_", "DRAFT_"))}
    assert len(metrics) > 10
    assert not [value for value in metrics.values() if f"`{value}`" not in page]
