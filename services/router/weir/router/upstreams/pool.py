"""The replicas of one upstream service: kept in step with its name, balanced, ejected and let in again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

from weir.common.errors import ErrorCode, WeirError
from weir.router.faults import REPLICA_DOWN
from weir.router.upstreams.balancing import ReplicaLoad, pick
from weir.router.upstreams.replica import Kind, Replica
from weir.router.upstreams.resolving import is_dynamic, resolve

RESOLVE_EVERY_S = 10.0
FIRST_VERDICT_S = 2.0


class ReplicaPool:
    """A component: ``start`` connects and watches, ``aclose`` ends it.

    Args:
        name: for logs and errors.
        targets: addresses or ``dns:///name:port``, which is resolved again every few seconds.
        kind: what a replica of this service can be asked.
    """

    def __init__(self, name: str, targets: Sequence[str], kind: Kind) -> None:
        self.name = name
        self.configured = bool(targets)
        self._targets = targets
        self._kind = kind
        self._replicas: dict[str, Replica] = {}
        self._change = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        self._rng = random.Random()

    async def start(self) -> None:
        """Connect; returns when every replica has been judged once, or after two seconds."""
        await self._follow()
        if is_dynamic(self._targets):
            self._follower = asyncio.create_task(self._keep_following())
        verdicts = [replica.judged.wait() for replica in self._replicas.values()]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*verdicts), FIRST_VERDICT_S)

    async def aclose(self) -> None:
        """Close all channels; idempotent."""
        if self._follower:
            self._follower.cancel()
            await asyncio.wait([self._follower])
            self._follower = None
        replicas = list(self._replicas.values())
        self._replicas.clear()
        await asyncio.gather(*(replica.aclose() for replica in replicas))

    @property
    def available(self) -> bool:
        """Whether any replica may be used."""
        return any(replica.available for replica in self._replicas.values())

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of the replicas that may be used."""
        return tuple(name for name, replica in self._replicas.items() if replica.available)

    def descriptions(self) -> list[Any]:
        """What the usable replicas said of themselves, else what any said last."""
        known = [r for r in self._replicas.values() if r.description is not None]
        return [r.description for r in known if r.available] or [r.description for r in known]

    def loads(self) -> list[ReplicaLoad]:
        """Of the replicas that may be used."""
        return [replica.load for replica in self._replicas.values() if replica.available]

    async def wait_for(self, *, available: bool) -> None:
        """Wait until the pool can be used, or no longer can."""
        while self.available is not available:
            await self._change.wait()

    @contextlib.contextmanager
    def lease(self, key: bytes, avoid: frozenset[str] = frozenset()) -> Iterator[Replica]:
        """Pick a replica for one request and note how it fares; addresses in ``avoid`` come last.

        Raises:
            WeirError: TIER_UNAVAILABLE when no replica may be used.
        """
        usable = [replica for replica in self._replicas.values() if replica.available]
        fresh = [replica for replica in usable if replica.address not in avoid] or usable
        if not fresh:
            raise WeirError(ErrorCode.TIER_UNAVAILABLE, internal=f"no usable replica of {self.name}")
        replica = self._replicas[pick([r.load for r in fresh], key, self._rng)]
        replica.in_flight += 1
        try:
            yield replica
        except WeirError as error:
            if error.code in REPLICA_DOWN:
                replica.failed()
            raise
        else:
            replica.succeeded()
        finally:
            replica.in_flight -= 1

    async def _follow(self) -> None:
        """Bring the replicas in step with what the targets resolve to."""
        wanted = await resolve(self._targets, tuple(self._replicas))
        gone = [self._replicas.pop(name) for name in list(self._replicas) if name not in wanted]
        for address in wanted:
            if address not in self._replicas:
                replica = self._replicas[address] = Replica(address, self._kind, self._note_change)
                replica.start()
        await asyncio.gather(*(replica.aclose() for replica in gone))
        if gone:
            self._note_change()

    async def _keep_following(self) -> None:
        while True:
            await asyncio.sleep(RESOLVE_EVERY_S)
            await self._follow()

    def _note_change(self) -> None:
        self._change.set()
        self._change = asyncio.Event()
