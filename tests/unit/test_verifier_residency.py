"""Content that must stay here is never forwarded, whatever else is asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.common.config.model import HybridTier
from weir.common.config.routing import Routing
from weir.common.errors import ErrorCode, WeirError
from weir.v1 import types_pb2, verifier_pb2
from weir.verifier import convert
from weir.verifier.events import Residency
from weir.verifier.frontier import Frontier
from weir.verifier.upstream import Upstream

RESIDENCIES = sorted(types_pb2.Residency.values())


def request(**fields: Any) -> verifier_pb2.GenerateVerifiedRequest:
    message = types_pb2.Message(role=types_pb2.ROLE_USER, content="hello")
    return verifier_pb2.GenerateVerifiedRequest(prompt=types_pb2.Prompt(messages=[message]), **fields)


@given(
    stated=st.sampled_from(RESIDENCIES),
    default=st.sampled_from(["local_only", "redacted", "any"]),
    escalate_below=st.floats(0, 1, width=32),
    window=st.integers(0, 1000),
)
async def test_local_only_is_never_forwarded(
    stated: types_pb2.Residency.ValueType, default: Any, escalate_below: float, window: int
) -> None:
    asked = request(residency=stated, escalate_below=escalate_below, window=window)
    job = convert.job(asked, HybridTier(), Routing(default_residency=default))
    stays = stated == types_pb2.RESIDENCY_LOCAL_ONLY or (
        stated == types_pb2.RESIDENCY_UNSPECIFIED and default == "local_only"
    )
    assert (job.residency is Residency.LOCAL_ONLY) == stays
    frontier = Frontier(Upstream((), lambda channel: channel))  # type: ignore[arg-type, return-value]
    assert frontier.may_take(job) != stays
    with pytest.raises(WeirError) as refused:
        await anext(frontier.forward(job, "", 8))
    expected = ErrorCode.RESIDENCY_FORBIDDEN if stays else ErrorCode.TIER_UNAVAILABLE
    assert refused.value.code is expected


@pytest.mark.parametrize("field", ["escalate_below"])
@pytest.mark.parametrize("value", [float("nan"), -0.01, 1.01, float("inf")])
def test_a_share_out_of_range_names_its_field(field: str, value: float) -> None:
    with pytest.raises(WeirError) as refused:
        convert.job(request(**{field: value}), HybridTier(), Routing())
    assert refused.value.code is ErrorCode.INVALID_REQUEST
    assert field in refused.value.fields
