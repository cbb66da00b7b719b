"""Which acceptance rule a request gets: its own over the tier's, and what is refused."""

from __future__ import annotations

import math

import pytest
from google.protobuf.json_format import ParseDict

from weir.common.config.model import HybridTier
from weir.common.errors import ErrorCode, WeirError
from weir.v1 import verifier_pb2
from weir.verifier import convert
from weir.verifier.acceptance import Lossless, Takeover, Threshold

UNSET = verifier_pb2.Acceptance()
TIER = HybridTier(acceptance_threshold=0.88, fallback_below=0.4, takeover="stretch")


def asked(**threshold: float) -> verifier_pb2.Acceptance:
    return verifier_pb2.Acceptance(threshold=verifier_pb2.Threshold(**threshold))  # type: ignore[arg-type]


def test_without_a_threshold_anywhere_verification_is_lossless() -> None:
    assert convert.rule(UNSET, HybridTier()) == Lossless()


def test_the_tiers_threshold_comes_with_its_fallback_and_takeover() -> None:
    assert convert.rule(UNSET, TIER) == Threshold(0.88, 0.4, Takeover.STRETCH)


def test_a_rollback_distance_is_a_threshold() -> None:
    rule = convert.rule(UNSET, HybridTier(rollback_distance=-math.log(0.88)))
    assert isinstance(rule, Threshold)
    assert rule.min_probability == pytest.approx(0.88)


def test_a_request_for_losslessness_goes_over_the_tiers_threshold() -> None:
    assert convert.rule(verifier_pb2.Acceptance(lossless=verifier_pb2.Lossless()), TIER) == Lossless()


def test_a_requests_threshold_goes_over_the_tiers() -> None:
    assert convert.rule(
        asked(min_probability=0.5, fallback_below=0.25, takeover=verifier_pb2.TAKEOVER_TOKEN), TIER
    ) == Threshold(0.5, 0.25, Takeover.TOKEN)


def test_a_requests_threshold_leaves_an_open_takeover_to_the_tier() -> None:
    assert convert.rule(asked(min_probability=0.5), TIER) == Threshold(0.5, 0.0, Takeover.STRETCH)


@pytest.mark.parametrize("field", ["min_probability", "fallback_below"])
@pytest.mark.parametrize("value", [math.nan, -0.01, 1.01, math.inf])
def test_a_share_out_of_range_is_refused_by_its_path(field: str, value: float) -> None:
    with pytest.raises(WeirError) as raised:
        convert.rule(asked(**{field: value}), TIER, "start.acceptance")
    assert raised.value.code is ErrorCode.INVALID_REQUEST
    assert raised.value.fields == {f"start.acceptance.threshold.{field}": "must be between 0 and 1"}


def test_an_unknown_takeover_is_refused_by_its_path() -> None:
    unknown = ParseDict({"threshold": {"minProbability": 0.5, "takeover": 9}}, verifier_pb2.Acceptance())
    with pytest.raises(WeirError) as raised:
        convert.rule(unknown, TIER)
    assert raised.value.code is ErrorCode.INVALID_REQUEST
    assert raised.value.fields == {"acceptance.threshold.takeover": "is not a known value"}
