"""Whether anything is left of streams that were cancelled, refused and killed."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from weir.cli.verification import installation as inst
from weir.cli.verification.broken_streams import VICTIM_STREAMS, Breaker
from weir.cli.verification.figures import Figure
from weir.cli.verification.processes import open_sessions, resident_mib

AT_ONCE = 8
KILLED_SHARE = 0.05
# Memory is compared between these parts of all streams: caches have filled by the first.
EARLY = 0.2
FLAT = 1.05
SETTLING_S = 20.0
_WATCH_S = 0.2
# More than are at once, so that refusals for want of a place are few.
SESSIONS = 32


async def leaks(drafter: Path, target: Path, streams: int) -> list[Figure]:
    """Break off so many streams and look at what both services hold after them."""
    parts = {
        "verifier": inst.verifier(target, sessions=SESSIONS),
        "worker": inst.worker(drafter, sessions=SESSIONS),
    }
    outcomes: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(inst.installed(parts, {"verifier": "worker"}))
        breaker = Breaker(running["verifier"], running["worker"], seed=0)
        early = round(streams * EARLY)
        await _break(breaker, early, outcomes)
        await _settled(running)
        before = {name: resident_mib(each.pid) for name, each in running.items()}
        async with _Watch(running) as watch:
            await _break(breaker, streams - early, outcomes)
        left = await _settled(running)
        after = {name: resident_mib(each.pid) for name, each in running.items()}
    return [
        _sessions(target.stem, left, watch.most, outcomes),
        _memory(target.stem, before, after, early, streams),
    ]


async def _break(breaker: Breaker, streams: int, outcomes: Counter[str]) -> None:
    killed = math.ceil(streams * KILLED_SHARE / VICTIM_STREAMS) if streams > VICTIM_STREAMS else 0
    kinds = breaker.kinds
    jobs = [kinds[index % len(kinds)] for index in range(streams - killed * VICTIM_STREAMS)]
    places = asyncio.Semaphore(AT_ONCE)

    async def one(index: int) -> None:
        async with places:
            outcomes[await jobs[index]()] += 1

    async with asyncio.TaskGroup() as tasks:
        for index in range(len(jobs)):
            tasks.create_task(one(index))
        for _ in range(killed):
            outcomes[await breaker.killed()] += VICTIM_STREAMS


class _Watch:
    """Notes the most sessions that are open meanwhile: a gauge that never moves tells nothing."""

    def __init__(self, running: dict[str, inst.Running]) -> None:
        self.most = dict.fromkeys(running, 0)
        self._running = running

    async def __aenter__(self) -> _Watch:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _look(self) -> None:
        while True:
            for name, each in self._running.items():
                self.most[name] = max(self.most[name], await open_sessions(each))
            await asyncio.sleep(_WATCH_S)


async def _settled(running: dict[str, inst.Running]) -> dict[str, int]:
    """Return the sessions open once there are none, or after the time for that has passed."""
    deadline = time.monotonic() + SETTLING_S
    while True:
        left = {name: await open_sessions(each) for name, each in running.items()}
        if not any(left.values()) or time.monotonic() > deadline:
            return left
        await asyncio.sleep(0.2)


def _sessions(name: str, left: dict[str, int], most: dict[str, int], outcomes: Counter[str]) -> Figure:
    seen = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    shown = ", ".join(f"{left[service]} of {most[service]} in the {service}" for service in left)
    total = sum(left.values())
    what = f"sessions left after {outcomes.total():,} broken streams"
    met = total == 0 and all(most.values())
    return Figure(name, what, f"{shown}  ({seen})", "0", met, {"value": total})


def _memory(name: str, before: dict[str, float], after: dict[str, float], early: int, streams: int) -> Figure:
    shown = ", ".join(f"{service} {before[service]:.0f} -> {after[service]:.0f}" for service in before)
    growth = max(after[service] / before[service] for service in before)
    return Figure(
        name,
        f"memory after {early} and {streams} of them, MiB",
        f"{shown}  ({growth - 1:+.1%})",
        f"flat: <= {FLAT - 1:+.0%}",
        growth <= FLAT,
        {"value": growth},
    )
