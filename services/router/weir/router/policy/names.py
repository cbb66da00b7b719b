"""Names in the configuration that must be known, with the nearest known one where they are not."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from weir.common.config import ConfigError


@dataclass(frozen=True, slots=True)
class Known:
    """The names that there are; ``None`` where only a running tier or another artifact knows them."""

    languages: Collection[str]
    personal_data: Collection[str]
    constraints: Collection[str]
    domains: Collection[str] | None = None
    adapters: Collection[str] | None = None


def check(where: str, kind: str, names: Iterable[str], known: Collection[str] | None) -> None:
    """Refuse names that are not known. Raises ConfigError."""
    if known is None:
        return
    for name in names:
        if name not in known:
            near = _nearest(name.lower(), known)
            hint = f"did you mean '{near}'?" if near else f"known: {', '.join(sorted(known)[:20])}."
            raise ConfigError(f"{where}: unknown {kind} '{name}'; {hint}")


def _nearest(name: str, known: Collection[str]) -> str | None:
    """Return a name that this one begins with ('english': 'en'), else the most similar one."""
    begun = max((one for one in known if name.startswith(one)), key=len, default=None)
    return begun or next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)), None)
