"""The shape of the tenants' configuration: who they are, and what each may use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from weir.common.config.base import ResidencyName, Seconds, Section

MAX_TENANT_CHARS = 128
# In budgets this stands for all tenants together.
ALL_TENANTS = "*"
# Signatures by a private key alone: with a shared secret whoever checks a token could also issue it.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def valid_tenant(name: str) -> bool:
    """Whether a tenant can have this name: printable ASCII, as metadata carries it, and not all of them."""
    return len(name) <= MAX_TENANT_CHARS and name.isascii() and name.isprintable() and name != ALL_TENANTS


def _tenant_name(name: str) -> str:
    if not valid_tenant(name):
        raise ValueError(
            f"a tenant's name is printable ASCII of at most {MAX_TENANT_CHARS} characters, not '*'"
        )
    return name


TenantName = Annotated[str, AfterValidator(_tenant_name)]


class ApiKey(Section):
    """A tenant's key, or its hash; exactly one of them is given."""

    env: str | None = None
    # One key a line, so that an old and a new one may overlap. Read again when it changes.
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
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["RS256", "ES256", "EdDSA"]
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

    @model_validator(mode="after")
    def _fetched_safely(self) -> Self:
        parts = urlsplit(self.jwks_url or "https:")
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise ValueError("jwks_url must begin with https://, or whoever is on the way could issue tokens")
        return self


class Tenant(Section):
    """One tenant. Its routing policy is in `routing.tenants`, its budgets in `frontier.budgets`."""

    api_keys: list[ApiKey] = []
    # Of each router and each proxy, in any 60 seconds.
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    # Read and written, of all tiers at the router and of the frontier's at the proxy.
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
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

    tenants: dict[TenantName, Tenant] = {}
    jwt: Jwt | None = None
    # Whether calls without credentials are refused; they have the empty tenant otherwise.
    required: bool = False
    # Limits of tenants that have no entry of their own.
    default: Tenant = Tenant()

    @property
    def authenticates(self) -> bool:
        """Whether any key or token is configured."""
        return self.jwt is not None or any(tenant.api_keys for tenant in self.tenants.values())

    @model_validator(mode="after")
    def _keys_of_named_tenants(self) -> Self:
        if self.default.api_keys or ("" in self.tenants and self.tenants[""].api_keys):
            raise ValueError("api_keys belong to a tenant with a name, under tenants")
        if self.required and not self.authenticates:
            raise ValueError("required is set but neither jwt nor any tenant's api_keys; no call could pass")
        return self
