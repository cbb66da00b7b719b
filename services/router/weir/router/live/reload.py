"""Artifact folders that are watched: a new valid revision is loaded beside the old one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import structlog

from weir.common.errors import ErrorCode, WeirError
from weir.router.classifier.base import LoadClassifier, PromptClassifier

SlotName = Literal["present", "cascade", "shadow", "canary"]
Signature = frozenset[tuple[str, int, int, int]]
log = structlog.get_logger(__name__)


def signature(folder: Path) -> Signature:
    """Return what changes when any file of the folder does, a replaced symbolic link included."""
    try:
        stats = [(path.name, path.stat()) for path in folder.iterdir()]
    except OSError:
        return frozenset()
    return frozenset((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in stats)


class Slot:
    """A place for one classifier, and the folder that it comes from.

    Args:
        name: of the place, as in logs.
        folder: of the artifact; ``None`` for the packaged one, which never changes.
        load: loads and warms; blocks.
        check: raises WeirError where the classifier cannot be used in this place.
    """

    def __init__(
        self,
        name: SlotName,
        folder: Path | None,
        load: LoadClassifier,
        check: Callable[[PromptClassifier], object] = lambda _: None,
    ) -> None:
        self.name, self.refused = name, ""
        self._folder, self._load, self._check = folder, load, check
        self._seen: Signature = frozenset()
        self._settling: Signature | None = None
        self._revision = ""

    async def open(self) -> PromptClassifier:
        """Load what is there. Raises WeirError."""
        if self._folder:
            self._seen = await asyncio.to_thread(signature, self._folder)
        return await self._read()

    async def look(self) -> PromptClassifier | None:
        """Return a new revision, loaded; ``None`` where there is none or it is not valid.

        A folder has to look the same twice in a row before it is read: it may still be being written.
        """
        if self._folder is None:
            return None
        now = await asyncio.to_thread(signature, self._folder)
        if now == self._seen:
            return None
        if now != self._settling:
            self._settling = now
            return None
        self._seen = now
        before = self._revision
        try:
            loaded = await self._read()
        except WeirError as error:
            self.refuse(error)
            return None
        return None if loaded.revision == before else loaded

    async def _read(self) -> PromptClassifier:
        try:
            loaded = await asyncio.to_thread(self._load, self._folder)
        except WeirError:
            raise
        except Exception as error:  # whatever a foreign file makes its reader raise, the old one stays
            hint = f"The router classifier of {self.name} cannot be read."
            raise WeirError(ErrorCode.MODEL_UNAVAILABLE, hint, internal=str(error)) from error
        self._check(loaded)
        self.refused, self._revision = "", loaded.revision
        return loaded

    def refuse(self, error: WeirError) -> None:
        """Say that what the folder holds cannot be used; what was loaded before stays."""
        self.refused = error.hint
        log.warning("classifier_refused", classifier=self.name, reason=error.hint, detail=error.internal)
