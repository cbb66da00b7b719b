"""The judge: the classifier in force with everything around it, exchangeable while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path

import structlog

from weir.common.config.routing import Routing
from weir.common.errors import ErrorCode, WeirError
from weir.router.classifier.arm import Arm, Tally
from weir.router.classifier.base import Judgment, LoadClassifier, PromptClassifier, Question, Role
from weir.router.classifier.batching import Batcher
from weir.router.classifier.cascade import Cascade, Stage, sets_if_known, sets_of
from weir.router.classifier.limits import Guard
from weir.router.live import status as reports
from weir.router.live.canary import CanaryTrial, RolledBack
from weir.router.live.reload import Slot, SlotName
from weir.router.live.shadow import Shadow

ROLES: tuple[Role, ...] = ("present", "canary")
# These decide by configuration: without them the router does not start.
REQUIRED = frozenset({"present", "cascade"})
log = structlog.get_logger(__name__)


def build_judge(routing: Routing, load: LoadClassifier, memory: Path | None = None) -> LiveJudge:
    """Return the judge that the configuration describes, not yet started.

    Args:
        routing: names the artifact folders and how they are used.
        load: loads one.
        memory: file in which rolled-back canaries are remembered over a restart.
    """

    def check(classifier: PromptClassifier) -> None:
        if routing.cascade.classifier:
            sets_of(classifier, routing.cascade)

    slots = [Slot("present", routing.classifier, load, check)]
    if routing.cascade.classifier:
        slots.append(Slot("cascade", routing.cascade.classifier, load))
    if routing.canary:
        slots.append(Slot("canary", routing.canary.classifier, load, check))
    if routing.shadow:
        slots.append(Slot("shadow", routing.shadow.classifier, load))
    return LiveJudge(routing, slots, RolledBack(memory))


class LiveJudge:
    """A component and the planner's ``Judge``. All of it belongs to one event loop."""

    def __init__(self, routing: Routing, slots: list[Slot], rolled_back: RolledBack) -> None:
        self._routing = routing
        self._slots = {slot.name: slot for slot in slots}
        self._batchers: dict[SlotName, Batcher] = {}
        names: tuple[SlotName, ...] = ("present", "cascade", "canary")
        self._guards = {name: Guard(name) for name in names}
        self._tallies = {name: Tally() for name in names}
        self._arms: dict[Role, Arm] = {}
        self._shadow: Shadow | None = None
        self._mirror: Shadow | None = None
        self._trial: CanaryTrial | None = None
        self._rolled_back = rolled_back
        self._watcher: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load and warm every classifier, then watch their folders.

        A shadow or canary that cannot be used is refused, logged and waited for.

        Raises:
            WeirError: MODEL_UNAVAILABLE for the classifier in force or the cascade's.
        """
        await asyncio.to_thread(self._rolled_back.read)
        for name, slot in self._slots.items():
            try:
                self._admit(name, await slot.open())
            except WeirError as error:
                if name in REQUIRED:
                    raise
                slot.refuse(error)
        self._compose()
        log.info("classifier_loaded", revision=self._arms["present"].revision)
        if self._routing.runtime.reload_seconds:
            self._watcher = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        """Stop watching and end every thread; idempotent."""
        if self._watcher:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        await asyncio.gather(*self._tasks)
        self._arms.clear()
        batchers, self._batchers = self._batchers, {}
        await asyncio.gather(*(batcher.aclose() for batcher in batchers.values()))

    async def judge(self, question: Question) -> Judgment:
        """Judge a prompt. Raises WeirError SHUTTING_DOWN, and nothing for a classifier's sake."""
        arm = self._arms.get("present")
        if arm is None:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        canary = self._arms.get("canary")
        if canary and self._trial and self._trial.takes(question):
            arm = canary
        judgment = await arm.judge(question)
        beside = self._mirror if judgment.role == "canary" else self._shadow
        if beside:
            beside.offer(question, judgment)
        return judgment

    def observe_outcome(self, role: Role, revision: str, *, good: bool, tenant: str = "") -> None:
        """Tell what became of an answer; rolls a canary back that does worse.

        Args:
            role: of the judgment.
            revision: of the judgment; an outcome of a revision that is no longer in force counts nowhere.
            good: finished, valid, not handed over and not found unacceptable.
            tenant: whose request it was.
        """
        if self._trial and (reason := self._trial.observe(role, revision, tenant, good=good)):
            batcher = self._batchers.pop("canary")
            self._rolled_back.add(batcher.classifier.revision, reason)
            before = dict(self._arms)
            self._compose()
            self._spawn(self._retire(before, batcher))
            self._spawn(asyncio.to_thread(self._rolled_back.write))

    def status(self) -> list[reports.ClassifierReport]:
        """Return what every configured classifier does."""
        return [self._report(name, slot) for name, slot in self._slots.items()]

    def _report(self, name: SlotName, slot: Slot) -> reports.ClassifierReport:
        batcher = self._batchers.get(name)
        revision = batcher.classifier.revision if batcher else ""
        if name == "shadow":
            return reports.shadow(slot, revision, self._shadow)
        tally = self._tallies[name]
        if name == "canary":
            return reports.canary(slot, revision, tally, self._trial, self._mirror, self._rolled_back)
        return reports.deciding(slot, revision, tally)

    def _admit(self, name: SlotName, classifier: PromptClassifier) -> None:
        if name == "canary" and self._rolled_back.reason(classifier.revision):
            return
        runtime = self._routing.runtime
        self._batchers[name] = Batcher(
            classifier, max_batch=runtime.max_batch, limit_s=runtime.time_limit_ms / 1000
        )

    def _compose(self) -> None:
        """Make what decides from the classifiers that are there; what has not changed stays as it is."""
        before = self._arms.get("present")
        for role in ROLES:
            cascade = self._cascade(role)
            if cascade is None:
                self._arms.pop(role, None)
            elif role not in self._arms or self._arms[role].cascade != cascade:
                entries = self._routing.runtime.cache_entries
                self._arms[role] = Arm(cascade, entries, self._tallies[role], self._tallies["cascade"])
        self._compare(changed=before is not self._arms.get("present"))

    def _cascade(self, role: Role) -> Cascade | None:
        batcher, large = self._batchers.get(role), self._batchers.get("cascade")
        if batcher is None:
            return None
        return Cascade(
            Stage(batcher, self._guards[role]),
            Stage(large, self._guards["cascade"]) if large else None,
            sets_if_known(batcher.classifier, self._routing.cascade),
            self._routing.runtime.time_limit_ms / 1000,
            role,
        )

    def _compare(self, *, changed: bool) -> None:
        threshold, settings = self._routing.complexity_threshold, self._routing
        candidate = self._batchers.get("shadow")
        if candidate is None or settings.shadow is None:
            self._shadow = None
        elif changed or self._shadow is None or self._shadow.batcher is not candidate:
            self._shadow = Shadow(candidate, settings.shadow.share, threshold)
        canary = self._arms.get("canary")
        if canary is None or settings.canary is None:
            self._trial = self._mirror = None
        elif changed or self._trial is None or self._trial.revisions["canary"] != canary.revision:
            self._trial = CanaryTrial(settings.canary, self._arms["present"].revision, canary.revision)
            # The classifier in force is asked where it is idle, to tell how far the canary differs.
            self._mirror = Shadow(self._batchers["present"], 1.0, threshold, max_waiting=0)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._routing.runtime.reload_seconds)
            for name, slot in self._slots.items():
                if (loaded := await slot.look()) is not None:
                    self._swap(name, loaded)

    def _swap(self, name: SlotName, classifier: PromptClassifier) -> None:
        """Put a classifier in force; requests that the old one has begun are ended by it."""
        before, old = dict(self._arms), self._batchers.pop(name, None)
        self._admit(name, classifier)
        self._compose()
        log.info("classifier_reloaded", classifier=name, revision=classifier.revision)
        if old:
            self._spawn(self._retire(before, old))

    async def _retire(self, before: dict[Role, Arm], batcher: Batcher) -> None:
        for role, arm in before.items():
            if self._arms.get(role) is not arm:
                await arm.drained()
        await batcher.aclose()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
