"""Several supervised processes: started together, stopped in order, none left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from weir.cli.child import Child, ChildSpec, ChildState, RestartPolicy


class GivenUp(Exception):  # noqa: N818 - it says what happened
    """A child could not be kept running; ``child.reason`` says why."""

    def __init__(self, child: Child) -> None:
        super().__init__(child.spec.name)
        self.child = child


class Supervisor:
    """Keeps processes running.

    Args:
        specs: what to run, in the order of stopping.
        on_line: gets (name, line) for everything that they write.
        on_state: gets (child, sentence) for each change of state.
        policy: when to restart and when to give up.
        grace_s: what each gets to end by itself.
    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        on_line: Callable[[str, str], None],
        on_state: Callable[[Child, str], None] = lambda child, text: None,
        policy: RestartPolicy = RestartPolicy(),  # noqa: B008 - immutable
        grace_s: float = 15.0,
    ) -> None:
        self._changed = asyncio.Event()
        self._on_state = on_state
        self.children = [Child(spec, policy, on_line, self._note) for spec in specs]
        self._grace_s = grace_s
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start all, at the same time."""
        self._tasks = [asyncio.create_task(child.run(), name=child.spec.name) for child in self.children]

    async def serving(self) -> None:
        """Return once all serve. Raises GivenUp."""
        await self._until(lambda: all(child.state is ChildState.SERVING for child in self.children))

    async def failure(self) -> None:
        """Never return; raise GivenUp once a child is given up."""
        await self._until(lambda: False)

    async def stop(self) -> None:
        """Stop one after the other, in the order given. Cancelled, it leaves none running. Idempotent."""
        try:
            for child in self.children:
                await child.stop(self._grace_s)
        finally:
            self.kill()
            for task in self._tasks:
                if not task.done():
                    await asyncio.wait([task], timeout=5)

    def kill(self) -> None:
        """End all at once."""
        for child in self.children:
            child.kill()

    async def _until(self, reached: Callable[[], bool]) -> None:
        while True:
            changed = self._changed
            for task in self._tasks:
                if task.done():
                    task.result()
            if failed := next((child for child in self.children if child.state is ChildState.FAILED), None):
                raise GivenUp(failed)
            if reached():
                return
            await changed.wait()

    def _note(self, child: Child, text: str) -> None:
        waiting, self._changed = self._changed, asyncio.Event()
        waiting.set()
        self._on_state(child, text)
