"""A tiny real model: next-token logits from the last two tokens; its sessions count what they are fed."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from weir.engines.base import Candidate, Pass, Prediction, Sampling, TokenInfo

VOCABULARY = 12


def logits_after(ids: Sequence[int], seed: int = 0) -> np.ndarray:
    """Return the logits, shape [VOCABULARY], of the token after ``ids``."""
    return _logits((seed, *ids[-2:]))


@functools.cache
def _logits(key: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(abs(hash(key))).normal(size=VOCABULARY).astype(np.float32) * 3


class TableSession:
    """A session over the table model."""

    def __init__(self, seed: int = 0) -> None:
        self.ids: list[int] = []
        self.fed = 0
        self.closed = False
        self._seed = seed
        self.last_pass: Pass | None = None

    @property
    def length(self) -> int:
        return len(self.ids)

    async def extend(
        self,
        ids: Sequence[int],
        *,
        top: int = 1,
        logits: bool = False,
        masks: Sequence[bytes] | None = None,
        last_only: bool = False,
    ) -> list[Prediction]:
        assert ids, "a session must be fed something"
        predictions = []
        for index, token in enumerate(ids):
            self.ids.append(token)
            self.fed += 1
            row = logits_after(self.ids, self._seed).astype(np.float64)
            if masks is not None:
                allowed = np.unpackbits(np.frombuffer(masks[index], np.uint8), bitorder="little")[:VOCABULARY]
                row = np.where(allowed == 1, row, -np.inf)
            logprobs = row - np.logaddexp.reduce(row)
            best = np.argsort(-logprobs, kind="stable")[:top]
            following = float(logprobs[ids[index + 1]]) if index + 1 < len(ids) else None
            candidates = tuple(Candidate(int(i), float(logprobs[i])) for i in best)
            predictions.append(Prediction(candidates, following, row.astype(np.float32) if logits else None))
        self.last_pass = Pass(1e-3 * len(ids), len(ids), 1)
        return predictions[-1:] if last_only else predictions

    async def draft(
        self,
        ids: Sequence[int],
        count: int,
        *,
        sampling: Sampling,
        stop_ids: frozenset[int] = frozenset(),
        min_confidence: float = 0.0,
    ) -> list[TokenInfo]:
        drafted: list[TokenInfo] = []
        fed, temperature = list(ids), sampling.temperature or 0.0
        rng = np.random.default_rng(None if sampling.seed is None else [sampling.seed, self.length])
        while len(drafted) < count and not (drafted and drafted[-1].id in stop_ids):
            [best] = await self.extend(fed, top=VOCABULARY, last_only=True)
            pick, top = 0, best.top[:1]
            if temperature > 0:
                q = np.exp(np.array([entry.logprob for entry in best.top]) / temperature)
                q /= q.sum()
                top = tuple(Candidate(c.id, float(np.log(p))) for c, p in zip(best.top, q, strict=True))
                pick = int(rng.choice(len(q), p=q))
            if top[0].logprob < np.log(max(min_confidence, 1e-300)):
                break
            drafted.append(TokenInfo(top[pick].id, top[pick].logprob, top))
            fed = [top[pick].id]
        return drafted

    async def rewind(self, length: int) -> None:
        assert 0 <= length <= len(self.ids)
        del self.ids[length:]

    async def aclose(self) -> None:
        self.closed = True


def greedy(
    prompt: Sequence[int], count: int, stop_ids: frozenset[int] = frozenset(), seed: int = 0
) -> list[int]:
    """Return what the model itself writes."""
    ids = list(prompt)
    while len(ids) < len(prompt) + count and (len(ids) == len(prompt) or ids[-1] not in stop_ids):
        ids.append(int(np.argmax(logits_after(ids, seed))))
    return ids[len(prompt) :]
