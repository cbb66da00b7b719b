"""What the requests of a log cost: as the log says, else by the dated price table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from weir.common.config import Settings
from weir.frontier_proxy.prices import ModelPrice, load_prices
from weir.router.audit.entries import Entry

_MILLION = 1_000_000
# Releases of a model by date, and what gateways put around names.
_RELEASE = re.compile(r"(?:[-@]20\d{6}|-20\d\d-\d\d-\d\d|-latest|-v\d+(?::\d+)?|:latest)$")


@dataclass(frozen=True, slots=True)
class Rate:
    """USD per million tokens. ``basis`` says where from; ``known`` whether for the model itself."""

    input: float
    cached_input: float
    output: float
    basis: str
    known: bool

    def cost_usd(self, prompt: float, cached: float, completion: float) -> float:
        """Price a number of tokens, the cached ones among the prompt's."""
        fresh = (prompt - cached) * self.input + cached * self.cached_input
        return (fresh + completion * self.output) / _MILLION


class PriceBook:
    """Rates by the names that logs have for models."""

    def __init__(self, prices: Mapping[str, ModelPrice], frontier: str, fallback: Rate) -> None:
        self._prices = {name.lower(): price for name, price in prices.items()}
        self._found: dict[str, Rate] = {}
        self.frontier = frontier
        self.fallback = fallback

    def rate(self, model: str) -> Rate:
        """Return a model's rate, the fallback where its name is unknown."""
        if model not in self._found:
            self._found[model] = self._look_up(model)
        return self._found[model]

    def cost_usd(self, entry: Entry, completion_tokens: float) -> float:
        """Return what a request cost: as stated, else by its model's rate."""
        if entry.cost_usd is not None:
            return entry.cost_usd
        return self.rate(entry.model).cost_usd(entry.prompt_tokens, entry.cached_tokens, completion_tokens)

    def _look_up(self, model: str) -> Rate:
        # "provider/name", "region.provider.name-v1:0", "name-2024-08-06"
        name = model.strip().lower().rsplit("/", 1)[-1]
        for _ in range(3):
            for candidate in (name, name.split(".", 1)[-1], name.rsplit(".", 1)[-1]):
                if price := self._prices.get(candidate):
                    return _rate(price)
            name = _RELEASE.sub("", name)
        return self.fallback


def price_book(settings: Settings, input_price: float | None, output_price: float | None) -> PriceBook:
    """Return the rates: the configuration's over the packaged table.

    Args:
        settings: names the frontier's model, whose price stands in for unknown ones.
        input_price, output_price: USD per million tokens for unknown models instead, both or none.
    """
    prices = load_prices(settings.frontier.prices)
    frontier = settings.tiers.frontier.model_id
    if input_price is not None and output_price is not None:
        fallback = Rate(input_price, input_price, output_price, "--input-price and --output-price", False)
    elif frontier in prices:
        priced = _rate(prices[frontier])
        basis = f"{frontier}, the configured frontier model ({priced.basis})"
        fallback = Rate(priced.input, priced.cached_input, priced.output, basis, False)
    else:
        fallback = Rate(0.0, 0.0, 0.0, f"nothing: no price is known for {frontier}", False)
    return PriceBook(prices, frontier, fallback)


def _rate(price: ModelPrice) -> Rate:
    def usd(amount: Decimal) -> float:
        return float(amount)

    return Rate(
        usd(price.input), usd(price.cached_input), usd(price.output), f"list price of {price.as_of}", True
    )
