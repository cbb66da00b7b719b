"""A JSON Web Key Set (RFC 7517): the public keys of an identity provider."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jwt

# What each family of algorithms (RFC 7518, RFC 8037) is signed with: a key of another type is never tried.
_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class KeySet:
    """Keys by which signatures can be checked.

    Raises:
        ValueError: ``content`` is no key set, or holds no public key for signatures.
    """

    def __init__(self, content: bytes) -> None:
        try:
            parsed = json.loads(content)
        except RecursionError:
            raise ValueError("nested too deep") from None
        listed = parsed.get("keys") if isinstance(parsed, dict) else None
        entries = [entry for entry in listed if _signs(entry)] if isinstance(listed, list) else []
        if not entries:
            raise ValueError("no key for signatures")
        self._entries: list[dict[str, Any]] = entries
        self._found: dict[tuple[str | None, str], jwt.PyJWK | None] = {}

    def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key of this name for this algorithm; without a name, the only one that fits."""
        fitting = [entry for entry in self._entries if _fits(entry, key_id, algorithm)]
        if len(fitting) != 1:
            return None
        wanted = (fitting[0].get("kid"), algorithm)
        if wanted not in self._found:
            self._found[wanted] = _build(fitting[0], algorithm)
        return self._found[wanted]


def _signs(entry: object) -> bool:
    if not isinstance(entry, Mapping) or entry.get("kty") not in _KEY_TYPES.values():
        return False
    operations, key_id = entry.get("key_ops", ["verify"]), entry.get("kid")
    verifies = isinstance(operations, list) and "verify" in operations
    return verifies and entry.get("use", "sig") == "sig" and (key_id is None or isinstance(key_id, str))


def _fits(entry: Mapping[str, Any], key_id: str | None, algorithm: str) -> bool:
    named = key_id is None or entry.get("kid") == key_id
    return named and entry.get("alg", algorithm) == algorithm and entry["kty"] == _KEY_TYPES[algorithm[:2]]


def _build(entry: dict[str, Any], algorithm: str) -> jwt.PyJWK | None:
    try:
        return jwt.PyJWK(entry, algorithm)
    except (jwt.PyJWTError, TypeError, ValueError):
        return None
