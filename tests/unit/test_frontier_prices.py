"""Prices, bounds and estimates; and what a provider's delay says."""

from __future__ import annotations

import email.utils
import time
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.common.config.frontier import Price
from weir.engines.base import ChatMessage, Sampling
from weir.frontier_proxy.domain import TokenCounts, to_nano, to_usd
from weir.frontier_proxy.estimates import prompt_bound, prompt_estimate
from weir.frontier_proxy.prices import load_prices
from weir.frontier_proxy.providers.base import ProviderRequest
from weir.frontier_proxy.providers.failures import retry_after

TABLE = load_prices({})
TOKENS = st.integers(0, 200_000)


@pytest.mark.parametrize("price", TABLE.values(), ids=TABLE)
def test_every_packaged_price_is_complete_and_dated(price: object) -> None:
    entry = TABLE[price.model]  # type: ignore[attr-defined]
    assert date.fromisoformat(entry.as_of) <= date.today()
    assert entry.source.startswith("https://")
    assert 0 < entry.cached_input <= entry.input <= entry.cache_write
    assert entry.output > entry.input
    assert entry.max_context >= 100_000


def test_an_attempt_is_priced_by_kind_of_token() -> None:
    counts = TokenCounts(prompt=1000, completion=100, cached=400, cache_write=100)
    price = TABLE["claude-haiku-4-5"]
    assert price.cost(counts) == to_nano((500 * 1 + 400 * 0.1 + 100 * 1.25 + 100 * 5) / 1e6)


@given(TOKENS, TOKENS, st.floats(0, 1), st.sampled_from(sorted(TABLE)))
def test_no_attempt_within_its_tokens_costs_more_than_the_bound(
    prompt: int, completion: int, share: float, model: str
) -> None:
    price = TABLE[model]
    cached = int(prompt * share)
    bound = price.bound(prompt, completion)
    assert price.cost(TokenCounts(prompt, completion, cached)) <= bound
    assert price.cost(TokenCounts(prompt, completion, 0, cached)) <= bound


@given(TOKENS, st.integers(0, 10**10), st.sampled_from(sorted(TABLE)))
def test_what_is_affordable_fits_and_one_token_more_does_not(prompt: int, limit: int, model: str) -> None:
    price = TABLE[model]
    tokens = price.affordable(prompt, limit)
    if tokens < 0:
        assert price.bound(prompt, 0) > limit
    else:
        assert price.bound(prompt, tokens) <= limit
        assert price.bound(prompt, tokens + 1) > limit


def test_a_configured_price_goes_over_the_packaged_one() -> None:
    override = Price(input_usd_per_million=1, output_usd_per_million=2, as_of="2026-11-01")
    prices = load_prices({"gpt-4o": override, "own": override})
    assert prices["gpt-4o"].input == prices["gpt-4o"].cached_input == Decimal("1.0")
    assert (prices["gpt-4o"].kind, prices["own"].kind) == ("openai", "")
    assert prices["gpt-4o-mini"] == TABLE["gpt-4o-mini"]


@given(st.integers(0, 10**15))
def test_nano_dollars_survive_the_way_through_dollars(nano: int) -> None:
    assert to_nano(to_usd(nano)) == nano


@given(st.text(max_size=200))
def test_the_prompt_bound_holds_one_token_per_byte(text: str) -> None:
    request = ProviderRequest("m", (ChatMessage("user", text),), Sampling())
    estimate = prompt_estimate(request.messages, request.prefix, request.constraint)
    assert prompt_bound(request) >= len(text.encode()) >= estimate - 5


def test_answer_text_that_stands_is_estimated_as_a_turn_of_its_own() -> None:
    question, standing = ChatMessage("user", "What now?"), "It is a weir."
    turns = (question, ChatMessage("assistant", standing))
    assert prompt_estimate((question,), standing, None) == prompt_estimate(turns, "", None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_the_providers_delay_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_is_a_delay_too() -> None:
    later = email.utils.formatdate(time.time() + 60, usegmt=True)
    delay = retry_after({"Retry-After": later})
    assert delay is not None
    assert 55 < delay <= 60
