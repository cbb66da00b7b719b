"""The shape of the tenants' configuration: who they are, and what each may use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from weir.common.config.base import ResidencyName, Seconds, Section


class ApiKey(Section):
    """A tenant's key, or its hash; exactly one of them is given."""

    env: str | None = None
    # Read again when it changes.
    file: Path | None = None
    # SHA-256 of the key, hexadecimal.
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(given is not None for given in (self.env, self.file, self.sha256)) != 1:
            raise ValueError("give one of env, file and sha256")
        return self


class Jwt(Section):
    """Tokens of an identity provider, as `authorization: Bearer ...`."""

    issuer: str
    audience: str
    # Where its keys are: an address (cached) or a file.
    jwks_url: str | None = None
    jwks_file: Path | None = None
    algorithms: list[str] = ["RS256", "ES256", "EdDSA"]
    # The claim that names the tenant.
    tenant_claim: str = "tenant"
    # Difference of clocks that is overlooked.
    leeway_s: Annotated[float, Field(ge=0)] = 30
    jwks_cache_s: Seconds = 600

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("give one of jwks_url and jwks_file")
        return self


class Tenant(Section):
    """One tenant. Its routing policy is in `routing.tenants`, its budgets in `frontier.budgets`."""

    api_keys: list[ApiKey] = []
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    # Read and written, of all tiers at the router and of the frontier's at the proxy.
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    # Frontier models that it may use; empty: all.
    models: list[str] = []
    # Of its requests that state none.
    residency: ResidencyName | None = None
    # Whether it may read what others spent.
    operator: bool = False


class Tenancy(Section):
    """Who may call router and frontier proxy.

    Without any key or token configured the tenant is what the metadata `x-weir-tenant` says: for trusted
    networks. With one, that is refused unless it names the tenant that the credentials belong to.
    """

    tenants: dict[str, Tenant] = {}
    jwt: Jwt | None = None
    # Whether calls without credentials are refused; they have the empty tenant otherwise.
    required: bool = False
    # Limits of tenants that have no entry of their own.
    default: Tenant = Tenant()
