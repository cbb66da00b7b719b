"""Who a command says it is: by variables, for what stands on a command line everybody can read."""

from __future__ import annotations

from collections.abc import Mapping

from weir.common.propagation import API_KEY_KEY, AUTHORIZATION_KEY


def credentials(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the metadata for ``WEIR_API_KEY``, or else ``WEIR_TOKEN``; none where neither is set."""
    if key := environ.get("WEIR_API_KEY", "").strip():
        return [(API_KEY_KEY, key)]
    if token := environ.get("WEIR_TOKEN", "").strip():
        return [(AUTHORIZATION_KEY, f"Bearer {token}")]
    return []
