"""What models cost: the packaged table, the configuration over it, and prices of whole attempts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from importlib.resources import files
from typing import Any

import yaml

from weir.common.config.frontier import Price
from weir.frontier_proxy.domain import TokenCounts

_NANO_PER_TOKEN = 1000  # one USD per million tokens


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Prices of one model in USD per million tokens, as they were on the day ``as_of``.

    ``kind`` is the kind of provider that sells it, empty for models of the configuration alone.
    ``max_context`` is in tokens; ``source`` says where the prices were read.
    """

    model: str
    input: Decimal
    cached_input: Decimal
    cache_write: Decimal
    output: Decimal
    reasoning: Decimal
    max_context: int
    as_of: str
    source: str
    kind: str = ""
    traits: frozenset[str] = frozenset()

    def cost(self, counts: TokenCounts) -> int:
        """Price one attempt, in nano-dollars."""
        fresh = max(0, counts.prompt - counts.cached - counts.cache_write)
        total = (
            fresh * self.input
            + counts.cached * self.cached_input
            + counts.cache_write * self.cache_write
            + (counts.completion - counts.reasoning) * self.output
            + counts.reasoning * self.reasoning
        )
        return int((total * _NANO_PER_TOKEN).to_integral_value(ROUND_HALF_UP))

    def bound(self, prompt_tokens: int, max_tokens: int) -> int:
        """Return the most, in nano-dollars, that so many tokens can cost."""
        total = prompt_tokens * max(self.input, self.cache_write) + max_tokens * self._dearest_output
        return int((total * _NANO_PER_TOKEN).to_integral_value(ROUND_CEILING))

    def affordable(self, prompt_tokens: int, limit_nano: int) -> int:
        """Return how many output tokens fit under a limit; negative where the prompt alone does not."""
        left = limit_nano - prompt_tokens * max(self.input, self.cache_write) * _NANO_PER_TOKEN
        if left < 0 or self._dearest_output == 0:
            return -1 if left < 0 else 2**31 - 1
        return int(left / (self._dearest_output * _NANO_PER_TOKEN))

    @property
    def _dearest_output(self) -> Decimal:
        return max(self.output, self.reasoning)


def load_prices(overrides: Mapping[str, Price]) -> dict[str, ModelPrice]:
    """Return every known price by model, the configuration's over the packaged ones."""
    prices = {price.model: price for price in _packaged()}
    for model, override in overrides.items():
        prices[model] = _override(model, override, prices.get(model))
    return prices


def _packaged() -> list[ModelPrice]:
    table = yaml.safe_load((files("weir.frontier_proxy") / "prices.yaml").read_text(encoding="utf-8"))
    return [
        _entry(kind, group["source"], model, entry)
        for kind, group in table.items()
        for model, entry in group["models"].items()
    ]


def _entry(kind: str, source: str, model: str, entry: Mapping[str, Any]) -> ModelPrice:
    price, output = Decimal(str(entry["input"])), Decimal(str(entry["output"]))
    return ModelPrice(
        model=model,
        input=price,
        cached_input=Decimal(str(entry.get("cached_input", price))),
        cache_write=Decimal(str(entry.get("cache_write", price))),
        output=output,
        reasoning=Decimal(str(entry.get("reasoning", output))),
        max_context=entry["max_context"],
        as_of=str(entry["as_of"]),
        source=source,
        kind=kind,
        traits=frozenset(entry.get("traits", ())),
    )


def _override(model: str, price: Price, known: ModelPrice | None) -> ModelPrice:
    fresh = Decimal(str(price.input_usd_per_million))
    cached, written = price.cached_input_usd_per_million, price.cache_write_usd_per_million
    output = Decimal(str(price.output_usd_per_million))
    reasoning = price.reasoning_usd_per_million
    configured = ModelPrice(
        model=model,
        input=fresh,
        cached_input=fresh if cached is None else Decimal(str(cached)),
        cache_write=fresh if written is None else Decimal(str(written)),
        output=output,
        reasoning=output if reasoning is None else Decimal(str(reasoning)),
        max_context=price.max_context,
        as_of=price.as_of,
        source="configuration",
    )
    return replace(configured, kind=known.kind, traits=known.traits) if known else configured
