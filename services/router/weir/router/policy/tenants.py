"""What holds for single tenants: limits on their requests, and bounds of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from weir.common.config import ConfigError
from weir.common.config.routing import TenantPolicy
from weir.router.case import Bounds
from weir.router.domain import ALL_TIERS, Residency, Tier
from weir.router.policy.limits import Limit


class Tenants:
    """The configured tenants; requests without a tenant have the empty name.

    Raises:
        ConfigError: a policy that leaves no tier, or a target that cannot be held for one tenant.
    """

    def __init__(self, policies: Mapping[str, TenantPolicy]) -> None:
        self._policies = dict(policies)
        self._limits = {tenant: _limit(tenant, policy) for tenant, policy in policies.items()}
        for tenant, limit in self._limits.items():
            _check(tenant, policies[tenant], limit)

    def limit(self, tenant: str) -> Limit | None:
        """Return what the tenant is limited to."""
        return self._limits.get(tenant)

    def bounds(self, tenant: str, bounds: Bounds) -> Bounds:
        """Put the tenant's own target and threshold over the bounds in force.

        A tenant's complexity threshold without a target of its own means the plain mode.
        """
        policy = self._policies.get(tenant)
        if policy is None:
            return bounds
        if policy.target is not None and policy.target.quality is not None:
            return replace(bounds, mode="quality", quality=policy.target.quality)
        if policy.complexity_threshold is not None:
            return replace(bounds, mode="thresholds", complexity=policy.complexity_threshold)
        return bounds


def _limit(tenant: str, policy: TenantPolicy) -> Limit:
    budget = policy.latency_budget_ms
    return Limit(
        f"the policy of tenant '{tenant}'",
        "tenant_policy",
        frozenset(map(Tier, policy.allow)) or ALL_TIERS,
        Residency(policy.residency or "any"),
        policy.max_cost_usd,
        None if budget is None else budget / 1000,
    )


def _check(tenant: str, policy: TenantPolicy, limit: Limit) -> None:
    where = f"routing.tenants.{tenant}"
    if len(limit.bars) == len(Tier):
        raise ConfigError(f"{where}: allow and residency leave no tier together.")
    if policy.target is None:
        return
    if policy.target.quality is None:
        raise ConfigError(
            f"{where}.target: only a quality can be held for one tenant; cost and latency are held over all "
            "traffic (use max_cost_usd or latency_budget_ms here)."
        )
    if policy.complexity_threshold is not None:
        raise ConfigError(f"{where}: give either target or complexity_threshold.")
