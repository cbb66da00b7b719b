"""JSON Web Tokens (RFC 7519, RFC 8725) of an identity provider: whose they are, where they are valid."""

from __future__ import annotations

from typing import Any, NoReturn

import jwt

from weir.common.config.tenancy import Jwt, valid_tenant
from weir.common.errors import ErrorCode, WeirError
from weir.common.tenancy.jwks import Jwks


class TokenVerifier:
    """Checks signature, issuer, audience and times. Nothing of a token gets into an error."""

    def __init__(self, config: Jwt, keys: Jwks) -> None:
        self._config, self._keys = config, keys
        self._jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})

    async def tenant_of(self, token: str) -> str:
        """Return the tenant that a token names.

        Raises:
            WeirError: UNAUTHENTICATED for a token that is not valid; IDENTITY_UNAVAILABLE.
        """
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, RecursionError) as error:
            _refuse("The token is malformed.", error)
        # The list decides, not the token: neither "none" nor a shared secret is ever on it.
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._config.algorithms:
            _refuse("The token's algorithm is not accepted.")
        key = await self._keys.find(key_id, algorithm)
        if key is None:
            _refuse("The token's key is not one of the identity provider's.")
        return self._tenant(self._claims(token, key, algorithm))

    def _claims(self, token: str, key: jwt.PyJWK, algorithm: str) -> dict[str, Any]:
        try:
            return self._jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._config.audience,
                issuer=self._config.issuer,
                leeway=self._config.leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            _refuse("The token has expired.", error)
        except (jwt.PyJWTError, RecursionError) as error:
            _refuse("The token is not valid here.", error)

    def _tenant(self, claims: dict[str, Any]) -> str:
        tenant = claims.get(self._config.tenant_claim)
        if not isinstance(tenant, str) or not tenant or not valid_tenant(tenant):
            _refuse("The token names no tenant.")
        return tenant


def _refuse(hint: str, error: BaseException | None = None) -> NoReturn:
    # The name alone: the words may repeat a claim.
    internal = type(error).__name__ if error else ""
    raise WeirError(ErrorCode.UNAUTHENTICATED, hint, internal=internal) from None
