"""Whether and when a model is tried again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.common.config.frontier import Retries
from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.retries import RetryPolicy


def policy(seed: int = 0, **config: float) -> RetryPolicy:
    return RetryPolicy(Retries.model_validate(config), random.Random(seed))


def failed(wait: float | None = None, code: ErrorCode = ErrorCode.PROVIDER_FAILED) -> WeirError:
    return WeirError(code, retry_after_s=wait)


def test_no_more_tries_than_configured() -> None:
    twice = policy(per_model=2)
    assert twice.delay(2, failed(), None) is not None
    assert twice.delay(3, failed(), None) is None
    assert policy(per_model=0).delay(1, failed(), None) is None


@pytest.mark.parametrize("code", sorted(set(ErrorCode) - {ErrorCode.PROVIDER_FAILED, ErrorCode.RATE_LIMITED}))
def test_what_does_not_pass_by_itself_is_not_tried_again(code: ErrorCode) -> None:
    assert policy().delay(1, failed(code=code), None) is None


@given(st.integers(0, 2**32), st.integers(1, 5))
def test_the_delay_is_anything_up_to_a_bound_that_doubles_up_to_the_longest(seed: int, attempt: int) -> None:
    delay = policy(seed, per_model=5, base_delay_s=0.2, longest_delay_s=2).delay(attempt, failed(), None)
    assert delay is not None
    assert 0 <= delay <= min(2.0, 0.2 * 2 ** (attempt - 1))


def test_the_jitter_is_full() -> None:
    source = policy(7, base_delay_s=1, longest_delay_s=10)
    delays = [source.delay(1, failed(), None) or 0 for _ in range(200)]
    assert min(delays) < 0.1
    assert max(delays) > 0.9


@given(st.integers(0, 2**32), st.floats(0.001, 2))
def test_a_named_wait_is_never_shortened(seed: int, wait: float) -> None:
    error = failed(wait, ErrorCode.RATE_LIMITED)
    delay = policy(seed, base_delay_s=0.2, longest_delay_s=2).delay(1, error, None)
    assert delay is not None
    assert wait <= delay <= wait + 0.2


def test_a_provider_that_asks_for_a_longer_wait_is_passed_over() -> None:
    assert policy(longest_delay_s=2).delay(1, failed(2.5, ErrorCode.RATE_LIMITED), None) is None


@given(st.integers(0, 2**32), st.floats(0, 10))
def test_a_try_has_at_least_as_long_as_it_was_waited_for(seed: int, remaining: float) -> None:
    source = policy(seed, per_model=5, base_delay_s=1, longest_delay_s=4)
    delay = source.delay(3, failed(), remaining)
    assert delay is None or remaining - delay > delay


def test_nothing_is_tried_again_behind_the_deadline() -> None:
    assert policy().delay(1, failed(), 0.0) is None
    assert policy().delay(1, failed(), -3.0) is None
