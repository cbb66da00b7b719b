"""From a call's credentials to its tenant."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from weir.common.config.tenancy import Tenancy, valid_tenant
from weir.common.context import CallInfo
from weir.common.errors import ErrorCode, WeirError
from weir.common.propagation import API_KEY_KEY, AUTHORIZATION_KEY, TENANT_KEY
from weir.common.tenancy.api_keys import KeyRing
from weir.common.tenancy.rights import Rights

if TYPE_CHECKING:
    from weir.common.tenancy.jwks import Jwks
    from weir.common.tenancy.tokens import TokenVerifier


class Authenticator:
    """A component. Credentials that are given must be valid, also where none are required.

    Raises:
        ConfigError: keys that cannot be used (see ``KeyRing``).
    """

    def __init__(
        self,
        config: Tenancy,
        rights: Rights,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._rights = config, rights
        self._keys = KeyRing(config.tenants, environ, clock)
        self._jwks: Jwks | None = None
        self._tokens: TokenVerifier | None = None
        if config.jwt:
            # A tenth of a second of cryptography, for those who have tokens.
            from weir.common.tenancy.jwks import configured_jwks
            from weir.common.tenancy.tokens import TokenVerifier

            self._jwks = configured_jwks(config.jwt)
            self._tokens = TokenVerifier(config.jwt, self._jwks)

    async def start(self) -> None:
        """Fetch the keys of the identity provider, where there is one."""
        if self._jwks:
            await self._jwks.start()

    async def aclose(self) -> None:
        """Stop fetching; idempotent."""
        if self._jwks:
            await self._jwks.aclose()

    async def identify(self, call: CallInfo) -> None:
        """Set the call's tenant, and whether it is an operator.

        Raises:
            WeirError: UNAUTHENTICATED, IDENTITY_UNAVAILABLE; TENANT_FORBIDDEN where ``x-weir-tenant`` names
                another tenant than the credentials; INVALID_REQUEST for a name that no tenant can have.
        """
        claimed, call.tenant = call.tenant, ""
        if not valid_tenant(claimed):
            raise _invalid_name()
        if self._config.authenticates:
            call.tenant = await self._tenant(call, claimed)
            call.operator = self._rights.of(call.tenant).operator
        else:
            call.tenant = claimed
            call.operator = not claimed or self._rights.of(claimed).operator

    async def _tenant(self, call: CallInfo, claimed: str) -> str:
        given = dict(call.credentials)
        if API_KEY_KEY in given:
            tenant = await self._of_key(given[API_KEY_KEY])
        elif AUTHORIZATION_KEY in given:
            tenant = await self._of_bearer(given[AUTHORIZATION_KEY])
        elif claimed or self._config.required:
            raise _unauthenticated("The call has no credentials; send x-api-key or authorization.")
        else:
            return ""
        if claimed not in ("", tenant):
            raise WeirError(
                ErrorCode.TENANT_FORBIDDEN, f"{TENANT_KEY} names another tenant than the credentials."
            )
        return tenant

    async def _of_key(self, key: str) -> str:
        tenant = await self._keys.tenant_of(key.strip())
        if tenant is None:
            raise _unauthenticated("The API key is not known.")
        return tenant

    async def _of_bearer(self, value: str) -> str:
        """Take a token, or an API key: clients of OpenAI's protocol send their keys this way."""
        scheme, _, token = value.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthenticated("authorization must be 'Bearer' and a token.")
        tenant = await self._keys.tenant_of(token.strip())
        if tenant is not None:
            return tenant
        if self._tokens is None:
            raise _unauthenticated("The API key is not known.")
        return await self._tokens.tenant_of(token.strip())


def _unauthenticated(hint: str) -> WeirError:
    return WeirError(ErrorCode.UNAUTHENTICATED, hint)


def _invalid_name() -> WeirError:
    problem = "is no name that a tenant can have"
    return WeirError(ErrorCode.INVALID_REQUEST, f"{TENANT_KEY} {problem}.", fields={TENANT_KEY: problem})
