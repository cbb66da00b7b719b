"""What each tenant may do, by configuration."""

from __future__ import annotations

from weir.common.config.base import ResidencyName
from weir.common.config.tenancy import Tenancy, Tenant
from weir.common.context import CallInfo
from weir.common.errors import ErrorCode, WeirError


class Rights:
    """Looks tenants up; those without an entry of their own have ``tenancy.default``."""

    def __init__(self, config: Tenancy) -> None:
        self._tenants, self._default = config.tenants, config.default
        self._models = {name: frozenset(tenant.models) or None for name, tenant in config.tenants.items()}
        self._default_models = frozenset(config.default.models) or None

    def of(self, tenant: str) -> Tenant:
        """Return the tenant's entry."""
        return self._tenants.get(tenant, self._default)

    def allowed_models(self, tenant: str) -> frozenset[str] | None:
        """Return the frontier models that the tenant may use; ``None`` is all of them."""
        return self._models.get(tenant, self._default_models)

    def residency(self, tenant: str) -> ResidencyName | None:
        """Return the residency of the tenant's requests that state none; ``None`` leaves the general one."""
        return self.of(tenant).residency


def visible_tenant(call: CallInfo, wanted: str) -> str | None:
    """Return whose spending a call may read: one tenant's, or ``None`` for everybody's.

    Args:
        call: who asks.
        wanted: the tenant that is asked for; empty for all that the caller may see.

    Raises:
        WeirError: TENANT_FORBIDDEN where another tenant's is asked for.
    """
    if call.operator:
        return wanted or None
    if wanted not in ("", call.tenant):
        raise WeirError(ErrorCode.TENANT_FORBIDDEN, "What another tenant spent is shown to operators alone.")
    return call.tenant
