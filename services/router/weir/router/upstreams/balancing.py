"""Which replica takes a request. Pure: loads in, a name out.

Power of two choices over the measured pressure (Mitzenmacher 2001), with a home replica per prompt prefix by
rendezvous hashing (Thaler and Ravishankar 1998), so that repeated prefixes meet a warm cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

# How much more of its capacity the home replica may have in use before another one is preferred.
AFFINITY_SLACK = 0.25
# Of a replica that reports none.
DEFAULT_CAPACITY = 32


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What is known of a replica's load.

    ``in_flight`` counts our own requests there, which its last report may not show yet.
    ``kv_cache_used`` is a share, 0 to 1.
    """

    name: str
    in_flight: int = 0
    running: int = 0
    waiting: int = 0
    capacity: int = 0
    kv_cache_used: float = 0.0

    @property
    def pressure(self) -> float:
        """Share of the replica's capacity in use: of its places or of its cache, whichever is scarcer."""
        busy = max(self.running + self.waiting, self.in_flight)
        return max(busy / (self.capacity or DEFAULT_CAPACITY), self.kv_cache_used)


def home(names: Sequence[str], key: bytes) -> str:
    """Return the replica with the highest hash of name and key: it moves only when that replica goes."""
    return max(names, key=lambda name: hashlib.blake2b(key, key=name.encode()[-64:], digest_size=8).digest())


def pick(replicas: Sequence[ReplicaLoad], key: bytes, rng: Random) -> str:
    """Choose among at least one replica; an empty ``key`` has no home."""
    least = min(replica.pressure for replica in replicas)
    if key:
        wanted = home([replica.name for replica in replicas], key)
        if next(r for r in replicas if r.name == wanted).pressure <= least + AFFINITY_SLACK:
            return wanted
    first, *others = rng.sample(list(replicas), min(2, len(replicas)))
    return min([first, *others], key=lambda replica: replica.pressure).name
