"""Statistics, alerts, and the checks of finished answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.metering import metered
from weir.common import conventions as names
from weir.common.config.model import Alerting, Observability
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Constraint
from weir.router.constraints import checker
from weir.router.domain import Finish, Finished, Tier, Usage
from weir.router.metrics import RouterMetrics
from weir.router.statistics import MAX_SAMPLES, STALE_AFTER_S, Answer, Mean, Statistics, Window


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def answer(first_token_s: float, tier: Tier = Tier.SLM, **more: object) -> Answer:
    return Answer(tier, first_token_s, 2 * first_token_s, 10, 0.001, **more)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_percentile_is_a_sample_with_enough_below(samples: list[float], share: float) -> None:
    window = Window(10, lambda: 0.0)
    for sample in samples:
        window.add(sample)
    found = window.percentile(share)
    assert found in samples
    assert found is not None
    assert sum(sample <= found for sample in samples) >= share * len(samples) - 1e-9


def test_window_forgets_what_is_old_and_what_is_too_much() -> None:
    clock = Clock()
    window = Window(10, clock)
    for _ in range(2 * MAX_SAMPLES):
        window.add(1.0)
    assert len(window.samples()) == MAX_SAMPLES
    clock.now = 11
    window.add(5.0)
    assert window.samples() == [5.0]


@given(st.lists(st.floats(0, 1000), min_size=1))
def test_mean_stays_within_its_samples(samples: list[float]) -> None:
    mean = Mean(lambda: 0.0)
    for sample in samples:
        mean.add(sample)
    assert mean.value is not None
    assert min(samples) - 1e-6 <= mean.value <= max(samples) + 1e-6


def test_mean_without_recent_samples_is_unknown() -> None:
    clock = Clock()
    mean = Mean(clock)
    assert mean.value is None
    mean.add(3.0)
    clock.now = STALE_AFTER_S
    assert mean.value is None


def test_alert_is_logged_when_the_bound_is_passed_and_when_it_is_kept_again() -> None:
    clock = Clock()
    statistics = Statistics(300, clock)
    alerting = Alerting(latency_p95_threshold_ms=120, schema_fail_rate_threshold=0.05)
    metrics = RouterMetrics(Observability(alerting=alerting), statistics)
    finished = Finished(Finish.STOP, (), 0, 0, 0, 0, 0, 1)
    with capture_logs() as logs:
        for _ in range(25):
            clock.now += 1
            statistics.add(answer(0.5, schema_valid=False))
            metrics.answered(Tier.SLM, finished, schema_valid=False)
        clock.now = 400
        for _ in range(25):
            clock.now += 1
            statistics.add(answer(0.01, schema_valid=True))
            metrics.answered(Tier.SLM, finished, schema_valid=True)
    events = [(entry["event"], entry["alert"]) for entry in logs]
    assert events == [
        ("alert_raised", "latency_p95"),
        ("alert_raised", "schema_fail_rate"),
        ("alert_cleared", "latency_p95"),
        ("alert_cleared", "schema_fail_rate"),
    ]


def verified(*usage: tuple[int, int]) -> Finished:
    """An answer of the hybrid tier; each attempt drafted and had accepted so many."""
    attempts = (
        Usage(Tier.HYBRID, "m", drafted_tokens=drafted, accepted_tokens=accepted)
        for drafted, accepted in usage
    )
    return Finished(Finish.STOP, tuple(attempts), 0, 0, 0, 0, 0, 1)


@pytest.mark.parametrize("wanted", [[], ["token_acceptance_rate"]])
def test_token_acceptance_rate_is_the_accepted_share_of_an_answers_drafts(wanted: list[str]) -> None:
    metered()
    metrics = RouterMetrics(Observability.model_validate({"metrics": wanted}), Statistics(300, Clock()))
    metrics.answered(Tier.HYBRID, verified((30, 24), (10, 9)), schema_valid=None)
    metrics.answered(Tier.SLM, verified(), schema_valid=None)
    (point,) = metered().points["token_acceptance_rate"]
    assert dict(point.attributes) == {names.TIER: "hybrid"}
    assert (point.count, point.sum) == (1, pytest.approx(33 / 40))
    assert point.bucket_counts[8] == 1
    assert point.explicit_bounds[7:9] == pytest.approx((0.8, 0.9))


def test_token_acceptance_rate_can_be_left_out() -> None:
    metered()
    observability = Observability.model_validate({"metrics": ["cost_per_query"]})
    metrics = RouterMetrics(observability, Statistics(300, Clock()))
    metrics.answered(Tier.HYBRID, verified((30, 24)), schema_valid=None)
    found = metered().points
    assert "token_acceptance_rate" not in found
    assert "cost_per_query" in found


@pytest.mark.parametrize(
    ("kind", "value", "good", "bad"),
    [
        ("json_schema", ('{"type": "integer", "minimum": 3}',), "4", "2"),
        ("json_schema", ('{"type": "string", "pattern": "^a+$"}',), '"aa"', '"b"'),
        ("json_schema", ('{"type": "integer"}',), "4", "four"),
        ("choices", ("yes", "no"), "yes", "maybe"),
        ("regex", ("[0-9]{4}",), "2026", "26"),
    ],
)
def test_answers_are_checked_against_their_constraint(
    kind: str, value: tuple[str, ...], good: str, bad: str
) -> None:
    check = checker(Constraint(kind, value))  # type: ignore[arg-type]
    assert check is not None
    assert check(good) is None
    assert check(bad)


@pytest.mark.parametrize("schema", ["{", '{"type": "nonsense"}', "[1", '{"minimum": "x"}'])
def test_broken_schema_is_refused_with_its_field(schema: str) -> None:
    with pytest.raises(WeirError) as caught:
        checker(Constraint("json_schema", (schema,)))
    assert caught.value.code is ErrorCode.INVALID_CONSTRAINT
    assert "prompt.output.json_schema" in caught.value.fields


def test_pattern_that_backtracks_without_end_is_given_up() -> None:
    check = checker(Constraint("json_schema", ('{"type": "string", "pattern": "^(a|a?)+$"}',)))
    assert check is not None
    assert check('"' + "a" * 40 + '!"') in (None, "$: does not match '^(a|a?)+$'")


def test_remote_reference_is_never_fetched() -> None:
    check = checker(Constraint("json_schema", ('{"$ref": "http://127.0.0.1:9/schema.json"}',)))
    assert check is not None
    assert check("1") is None
