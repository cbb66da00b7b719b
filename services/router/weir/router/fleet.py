"""The three tiers as they are now: configuration, what the replicas report, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from weir.common.config import Settings
from weir.common.config import model as config
from weir.common.config.model import EMBEDDED_MODEL
from weir.models.configured import has_stand_in
from weir.models.manifest import load_manifest
from weir.router.domain import Tier, TierState
from weir.router.statistics import Statistics
from weir.router.upstreams.balancing import ReplicaLoad
from weir.router.upstreams.kinds import FRONTIER_PROXY, SLM_WORKER, VERIFIER
from weir.router.upstreams.pool import ReplicaPool
from weir.v1 import frontier_proxy_pb2, slm_worker_pb2

LOCAL_CONSTRAINTS = frozenset({"json_schema", "regex", "choices", "grammar"})
# What providers can be held to; a stand-in, being local, decodes under any.
FRONTIER_CONSTRAINTS = frozenset({"json_schema", "choices"})
_IDLE = ReplicaLoad("")


@dataclass(frozen=True, slots=True)
class _Listed:
    """The frontier model that would answer now."""

    model: str
    available: bool
    stand_in: bool
    max_context: int
    input_usd_per_million: float
    output_usd_per_million: float


class Fleet:
    """One pool per tier. Not a component itself: the app starts and closes the pools."""

    def __init__(self, settings: Settings, statistics: Statistics) -> None:
        router = settings.services.router
        self.pools: Mapping[Tier, ReplicaPool] = {
            Tier.SLM: ReplicaPool("slm_worker", router.slm_worker, SLM_WORKER),
            Tier.HYBRID: ReplicaPool("verifier", router.verifier, VERIFIER),
            Tier.FRONTIER: ReplicaPool("frontier_proxy", router.frontier_proxy, FRONTIER_PROXY),
        }
        self.tiers: Mapping[Tier, config.Tier] = {
            Tier.SLM: settings.tiers.slm,
            Tier.HYBRID: settings.tiers.hybrid,
            Tier.FRONTIER: settings.tiers.frontier,
        }
        self._settings = settings.tiers
        self._prices = settings.frontier.prices
        self._statistics = statistics
        hybrid, manifest = settings.tiers.hybrid, load_manifest(settings.models.manifest)
        # Until a verifier's first answer tells, the configuration does.
        stand_in = has_stand_in(hybrid.verifier_model, hybrid.run, manifest)
        self._seen = {Tier.HYBRID: (EMBEDDED_MODEL if stand_in else hybrid.verifier_model, stand_in)}
        self._listing: frontier_proxy_pb2.ListModelsResponse | None = None
        self._frontier_model: _Listed | None = None

    @property
    def healthy(self) -> bool:
        """Whether any tier can be reached."""
        return any(pool.available for pool in self.pools.values())

    def states(self) -> dict[Tier, TierState]:
        """Return what is known of each tier now."""
        return {Tier.SLM: self._slm(), Tier.HYBRID: self._hybrid(), Tier.FRONTIER: self._frontier()}

    def saw(self, tier: Tier, model: str, *, stand_in: bool) -> None:
        """Remember which model answered in a tier: a verifier tells it in its usage alone."""
        self._seen[tier] = (model, stand_in)

    def _slm(self) -> TierState:
        settings = self._settings.slm
        infos: Sequence[slm_worker_pb2.GetModelInfoResponse] = self.pools[Tier.SLM].descriptions()
        model = infos[0].model if infos else settings.model_id
        contexts = [info.max_context for info in infos if info.max_context]
        can = [LOCAL_CONSTRAINTS.intersection(info.capabilities) for info in infos]
        shared = set.intersection(*(set(info.adapters) for info in infos)) if infos else set()
        return self._state(
            Tier.SLM,
            model,
            max_context=min([settings.max_context, *contexts]),
            constraints=frozenset.intersection(*can) if can else LOCAL_CONSTRAINTS,
            adapters=tuple(sorted({**{name: name for name in shared}, **settings.domains}.items())),
            prices=(settings.run.input_usd_per_million, settings.run.output_usd_per_million),
            stand_in=any(info.model != settings.model_id for info in infos),
        )

    def _hybrid(self) -> TierState:
        settings, drafts = self._settings.hybrid, self._settings.slm.run
        model, stand_in = self._seen[Tier.HYBRID]
        return self._state(
            Tier.HYBRID,
            model,
            max_context=settings.max_context,
            constraints=LOCAL_CONSTRAINTS,
            prices=(
                settings.run.input_usd_per_million + drafts.input_usd_per_million,
                settings.run.output_usd_per_million + drafts.output_usd_per_million,
            ),
            stand_in=stand_in or model != settings.verifier_model,
        )

    def _frontier(self) -> TierState:
        settings = self._settings.frontier
        listed = self._listed()
        if listed is None:
            return self._state(
                Tier.FRONTIER,
                settings.model_id,
                max_context=settings.max_context,
                constraints=FRONTIER_CONSTRAINTS,
            )
        return self._state(
            Tier.FRONTIER,
            listed.model,
            reachable=listed.available,
            max_context=min(settings.max_context, listed.max_context or settings.max_context),
            constraints=LOCAL_CONSTRAINTS if listed.stand_in else FRONTIER_CONSTRAINTS,
            prices=(listed.input_usd_per_million, listed.output_usd_per_million),
            cached_input=self._cached_price(listed.model),
            stand_in=listed.stand_in,
        )

    def _cached_price(self, model: str) -> float | None:
        """The configured one alone: a proxy lists prices of fresh prompts."""
        price = self._prices.get(model)
        return price.cached_input_usd_per_million if price else None

    def _listed(self) -> _Listed | None:
        """Read each list of models once: it comes anew every half minute, decisions by the hundred."""
        lists: Sequence[frontier_proxy_pb2.ListModelsResponse] = self.pools[Tier.FRONTIER].descriptions()
        latest = lists[0] if lists else None
        if latest is not self._listing:
            self._listing = latest
            self._frontier_model = _preferred(latest, self._settings.frontier.model_id) if latest else None
        return self._frontier_model

    def _state(
        self,
        tier: Tier,
        model: str,
        *,
        max_context: int,
        constraints: frozenset[str],
        reachable: bool = True,
        adapters: tuple[tuple[str, str], ...] = (),
        prices: tuple[float, float] = (0.0, 0.0),
        cached_input: float | None = None,
        stand_in: bool = False,
    ) -> TierState:
        pool, measured = self.pools[tier], self._statistics.tiers[tier]
        loads = pool.loads()
        idlest = min(loads, key=lambda load: load.pressure, default=_IDLE)
        return TierState(
            tier=tier,
            model=model,
            configured=pool.configured,
            reachable=pool.available and reachable,
            max_context=max_context,
            default_max_tokens=self.tiers[tier].max_tokens,
            constraints=constraints,
            adapters=adapters,
            input_usd_per_million=prices[0],
            output_usd_per_million=prices[1],
            cached_input_usd_per_million=cached_input,
            stand_in=stand_in,
            in_flight=sum(load.in_flight for load in loads),
            waiting=idlest.waiting,
            capacity=idlest.capacity,
            first_token_s=measured.first_token_s.value,
            latency_s=measured.latency_s.value,
            mean_completion_tokens=measured.completion_tokens.value,
        )


def _preferred(listing: frontier_proxy_pb2.ListModelsResponse, wanted: str) -> _Listed | None:
    """Return the configured model where it is available, else the first that is, else the first listed."""
    ranked = sorted(listing.models, key=lambda model: (not model.available, model.model != wanted))
    if not ranked:
        return None
    best = ranked[0]
    return _Listed(
        best.model,
        best.available,
        best.stand_in,
        best.max_context,
        best.input_usd_per_million,
        best.output_usd_per_million,
    )
