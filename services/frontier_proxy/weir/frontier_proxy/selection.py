"""Which provider and model may answer, in the configured order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from weir.common.config.frontier import CircuitBreaker
from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.breaker import Breaker, CircuitState
from weir.frontier_proxy.latency import FirstTextTimes
from weir.frontier_proxy.prices import ModelPrice
from weir.frontier_proxy.providers.base import Provider


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model of one provider, with its price, its circuit and how long its first texts take."""

    provider: Provider
    price: ModelPrice
    breaker: Breaker = field(default_factory=lambda: Breaker(CircuitBreaker()))
    times: FirstTextTimes = field(default_factory=FirstTextTimes)

    @property
    def model(self) -> str:
        """The model's name."""
        return self.price.model

    @property
    def keyed(self) -> bool:
        """Whether it can be asked: it has its key, or needs none."""
        return not self.provider.access.entry.pending

    def open_for(self) -> float:
        """Return the seconds for which it is not asked; 0 where it may be.

        A circuit that a refused key had opened closes once another key is there, so that one is looked for.
        """
        left = self.breaker.open_for()
        if not left or self.breaker.reason is not ErrorCode.PROVIDER_AUTH:
            return left
        self.provider.access.entry.current()
        return self.breaker.open_for()


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
    replay: bool = False
    circuit: CircuitState = CircuitState.CLOSED


class Selection:
    """The models on offer.

    Args:
        default_model: the model of the frontier tier.
        candidates: what has a key or waits for one, the most preferred first.
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
    def offered(self) -> tuple[Candidate, ...]:
        """Every candidate, the most preferred first; also those that wait for their key."""
        return self._candidates

    @property
    def stand_in(self) -> bool:
        """Whether requests that name no model get the stand-in."""
        return not _keyed(self._order) and self._stand_in is not None

    def candidates(self, model: str, allowed: frozenset[str] | None = None) -> tuple[Candidate, ...]:
        """Return who may answer, the preferred first; a named model is never replaced by another.

        Args:
            model: the one that is asked for; empty leaves the choice.
            allowed: the models that the tenant may use; ``None`` is all of them.

        Raises:
            WeirError: UNKNOWN_MODEL, naming the known ones; PROVIDER_AUTH where a key is missing;
                TENANT_FORBIDDEN; PROVIDER_FAILED where every circuit is open.
        """
        named = (candidate for candidate in self._candidates if candidate.model == model)
        found = _keyed(named if model else self._order)
        if not found and self._stand_in and model in ("", self._default):
            found = (self._stand_in,)
        if allowed is not None:
            found = self._permitted(found, model, allowed)
        if not found:
            raise self._unavailable(model or self._default)
        closed = tuple(candidate for candidate in found if not candidate.open_for())
        if not closed:
            raise all_open(found)
        return closed

    def _permitted(
        self, found: Sequence[Candidate], model: str, allowed: frozenset[str]
    ) -> tuple[Candidate, ...]:
        """Keep what is allowed; of a free choice that leaves nothing, what else is allowed and offered."""
        kept = tuple(candidate for candidate in found if candidate.model in allowed)
        if not kept and not model:
            kept = tuple(candidate for candidate in _keyed(self._candidates) if candidate.model in allowed)
        if not kept and (found or not model):
            names = ", ".join(sorted(allowed))
            hint = f"Of the frontier's models the tenant may use: {names}."
            raise WeirError(ErrorCode.TENANT_FORBIDDEN, hint)
        return kept

    def _unavailable(self, model: str) -> WeirError:
        missing = next((entry for entry in self._keyless() if entry.price.model == model), None)
        if missing:
            hint = f"Model '{model}' needs a key of provider '{missing.provider}': set {missing.key_source}."
            return WeirError(ErrorCode.PROVIDER_AUTH, hint, metadata={"provider": missing.provider})
        known = sorted({status.model for status in self.models() if status.available})
        return WeirError(
            ErrorCode.UNKNOWN_MODEL,
            f"No model '{model}' is configured; known are: {', '.join(known) or 'none'}.",
            metadata={"model": model},
        )

    def _keyless(self) -> list[Missing]:
        """Return what has no key now."""
        pending = [candidate for candidate in self._candidates if not candidate.keyed]
        return [*(_missing(candidate) for candidate in pending), *self._missing]

    def models(self) -> list[ModelStatus]:
        """List every model with its price, the default one first."""
        listed = [_status(candidate) for candidate in _keyed(self._candidates)]
        if self._stand_in and not any(status.model == self._default for status in listed):
            access = self._stand_in.provider.access
            listed.append(ModelStatus(self._default, access.name, self._stand_in.price, True, stand_in=True))
        taken = {status.model for status in listed}
        listed += [
            ModelStatus(entry.price.model, entry.provider, entry.price, available=False)
            for entry in self._keyless()
            if entry.price.model not in taken
        ]
        return sorted(listed, key=lambda status: status.model != self._default)


def _keyed(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    return tuple(candidate for candidate in candidates if candidate.keyed)


def _missing(candidate: Candidate) -> Missing:
    access = candidate.provider.access
    return Missing(access.name, candidate.price, access.key_source)


def _status(candidate: Candidate) -> ModelStatus:
    circuit, access = candidate.breaker.state, candidate.provider.access
    available = circuit is not CircuitState.OPEN
    return ModelStatus(
        candidate.model, access.name, candidate.price, available, replay=access.replay, circuit=circuit
    )


def all_open(found: Sequence[Candidate]) -> WeirError:
    """Return the error for candidates none of which is asked now, with the time until the first may be."""
    soonest = min(found, key=lambda candidate: candidate.breaker.open_for())
    names = ", ".join(sorted({candidate.provider.access.name for candidate in found}))
    reason = soonest.breaker.reason
    code = reason if reason is ErrorCode.RATE_LIMITED else ErrorCode.PROVIDER_FAILED
    hint = f"No provider ({names}) is asked for a while, since each has been failing; the last said {reason}."
    return WeirError(code, hint, retry_after_s=soonest.breaker.open_for() or None)
