"""At which level a worker's drafts are judged: in tokens where it shares the vocabulary, else as text."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal
from weakref import WeakKeyDictionary

import structlog

from weir.common.calls import unary
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Capability
from weir.v1 import slm_worker_pb2
from weir.verifier.drafts import WorkerStub
from weir.verifier.sequence import require_tokenizer

log = structlog.get_logger(__name__)

# A worker that was restarted with another model is noticed after so long, if no call to it failed.
REFRESH_S = 30.0
PATIENCE_S = 1.0
_SETTING = "tiers.hybrid.other_tokenizers"


class Level(StrEnum):
    """What drafts are compared in."""

    TOKEN = "token"  # noqa: S105  (no password)
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class _Known:
    info: slm_worker_pb2.GetModelInfoResponse | None
    at: float


class Levels:
    """Chooses the level for each worker, which is asked what it runs once for its channel.

    It is asked again after a failure, and after ``REFRESH_S``. A worker that does not answer is taken for one
    that drafts tokens: its stream tells the tokenizer itself.

    Args:
        own_sha256: returns the hash of the verifier's tokenizer, once its engine runs.
        others: what becomes of drafts in another vocabulary.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        own_sha256: Callable[[], str],
        others: Literal["text", "refuse"],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own_sha256 = own_sha256
        self._others = others
        self._clock = clock
        self._known: WeakKeyDictionary[WorkerStub, _Known] = WeakKeyDictionary()

    async def of(self, stub: WorkerStub) -> Level:
        """Return the level for a worker.

        Raises:
            WeirError: where text is not to be judged, TOKENIZER_MISMATCH for drafts in another vocabulary and
                UNSUPPORTED for an engine that drafts no tokens.
        """
        info = await self._info(stub)
        if info is None:
            return Level.TOKEN
        drafts, same = Capability.SESSION in info.capabilities, info.tokenizer_sha256 == self._own_sha256()
        if drafts and same:
            return Level.TOKEN
        if self._others == "text":
            return Level.TEXT
        if not drafts:
            raise WeirError(
                ErrorCode.UNSUPPORTED,
                f"The worker's engine '{info.engine}' drafts no tokens; set {_SETTING} to 'text'.",
            )
        require_tokenizer(info.tokenizer_sha256, self._own_sha256())
        return Level.TOKEN

    def forget(self, stub: WorkerStub) -> None:
        """Ask this worker again next time."""
        self._known.pop(stub, None)

    async def _info(self, stub: WorkerStub) -> slm_worker_pb2.GetModelInfoResponse | None:
        known = self._known.get(stub)
        if known is None or self._clock() - known.at > REFRESH_S:
            known = _Known(await _asked(stub), self._clock())
            if known.info is not None:
                self._known[stub] = known
        return known.info


async def _asked(stub: WorkerStub) -> slm_worker_pb2.GetModelInfoResponse | None:
    try:
        answer: slm_worker_pb2.GetModelInfoResponse = await unary(
            stub.GetModelInfo, slm_worker_pb2.GetModelInfoRequest(), timeout=PATIENCE_S
        )
    except WeirError as error:
        log.info("drafter_unknown", code=error.code, detail=error.internal or error.hint)
        return None
    return answer
