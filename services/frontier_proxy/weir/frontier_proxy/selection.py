"""Which provider and model may answer, in the configured order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.breaker import Breaker
from weir.frontier_proxy.prices import ModelPrice
from weir.frontier_proxy.providers.base import Provider


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model of one provider, with its price and its breaker."""

    provider: Provider
    price: ModelPrice
    breaker: Breaker = field(default_factory=Breaker)

    @property
    def model(self) -> str:
        """The model's name."""
        return self.price.model


@dataclass(frozen=True, slots=True)
class Missing:
    """A model that is known and has no key; ``key_source`` says where one is looked for."""

    provider: str
    price: ModelPrice
    key_source: str


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One entry of the list of models."""

    model: str
    provider: str
    price: ModelPrice
    available: bool
    stand_in: bool = False


class Selection:
    """The models on offer.

    Args:
        default_model: the model of the frontier tier.
        candidates: what has a key, the most preferred first.
        missing: what is known and has none.
        order: the candidates that may answer a request that names no model.
        stand_in: answers for the default model where ``order`` is empty.
    """

    def __init__(
        self,
        default_model: str,
        candidates: Sequence[Candidate],
        *,
        missing: Sequence[Missing] = (),
        order: Sequence[Candidate] = (),
        stand_in: Candidate | None = None,
    ) -> None:
        self._default = default_model
        self._candidates, self._order = tuple(candidates), tuple(order)
        self._missing, self._stand_in = tuple(missing), stand_in

    @property
    def stand_in(self) -> bool:
        """Whether requests that name no model get the stand-in."""
        return not self._order and self._stand_in is not None

    def candidates(self, model: str) -> tuple[Candidate, ...]:
        """Return who may answer, the preferred first; a named model is never replaced by another.

        Raises:
            WeirError: UNKNOWN_MODEL, naming the known ones; PROVIDER_AUTH where a key is missing;
                PROVIDER_FAILED where every circuit is open.
        """
        named = [candidate for candidate in self._candidates if candidate.model == model]
        found = self._order if not model else tuple(named)
        if not found and self._stand_in and model in ("", self._default):
            return (self._stand_in,)
        if not found:
            raise self._unavailable(model or self._default)
        closed = tuple(candidate for candidate in found if not candidate.breaker.open_for())
        if not closed:
            raise _all_open(found)
        return closed

    def _unavailable(self, model: str) -> WeirError:
        missing = next((entry for entry in self._missing if entry.price.model == model), None)
        if missing:
            hint = f"Model '{model}' needs a key of provider '{missing.provider}': set {missing.key_source}."
            return WeirError(ErrorCode.PROVIDER_AUTH, hint, metadata={"provider": missing.provider})
        known = sorted({status.model for status in self.models() if status.available})
        return WeirError(
            ErrorCode.UNKNOWN_MODEL,
            f"No model '{model}' is configured; known are: {', '.join(known) or 'none'}.",
            metadata={"model": model},
        )

    def models(self) -> list[ModelStatus]:
        """List every model with its price, the default one first."""
        listed = [
            ModelStatus(c.model, c.provider.access.name, c.price, not c.breaker.open_for())
            for c in self._candidates
        ]
        if self._stand_in and not any(status.model == self._default for status in listed):
            access = self._stand_in.provider.access
            listed.append(ModelStatus(self._default, access.name, self._stand_in.price, True, stand_in=True))
        taken = {status.model for status in listed}
        listed += [
            ModelStatus(entry.price.model, entry.provider, entry.price, available=False)
            for entry in self._missing
            if entry.price.model not in taken
        ]
        return sorted(listed, key=lambda status: status.model != self._default)


def _all_open(found: Sequence[Candidate]) -> WeirError:
    soonest = min(found, key=lambda candidate: candidate.breaker.open_for())
    names = ", ".join(sorted({candidate.provider.access.name for candidate in found}))
    reason = soonest.breaker.reason
    code = reason if reason is ErrorCode.RATE_LIMITED else ErrorCode.PROVIDER_FAILED
    hint = f"No provider ({names}) is asked for a while, since each has been failing; the last said {reason}."
    return WeirError(code, hint, retry_after_s=soonest.breaker.open_for())
