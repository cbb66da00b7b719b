"""Differences of cumulative outputs: what a streamed ``CompletionOutput`` added since the last look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

from weir.engines.base import Candidate
from weir.engines.core.backend import RequestFailed
from weir.engines.core.messages import Output, Row, Submit
from weir.engines.core.speculation import Tally


class OutputDelta:
    """Follows one streamed output and reports each token once; ids that end an answer are left out.

    Outputs are streamed once an iteration, which is what the ``tally`` counts on.
    """

    def __init__(self, request: Submit, stop_ids: Set[int], tally: Tally) -> None:
        self._request = request
        self._stop_ids = stop_ids
        self._tally = tally
        self._seen = 0

    def advance(self, completion: Any) -> Output | None:
        """Return what the cumulative ``CompletionOutput`` added; ``None`` where that is nothing.

        Raises:
            RequestFailed: the library gave the request up, or no log-probability that was asked for.
        """
        finish = finish_reason(completion.finish_reason)
        start, ids = self._seen, completion.token_ids
        self._seen = max(start, len(ids))
        fresh = [at for at in range(start, len(ids)) if ids[at] not in self._stop_ids]
        if not fresh and not finish:
            return None
        added = self._seen - start
        drafted, accepted = self._tally.take(added) if added else (0, 0)
        tokens = [int(ids[at]) for at in fresh]
        if not (self._request.logprobs or self._request.top_logprobs):
            return Output(self._request.id, tokens, finish=finish, drafted=drafted, accepted=accepted)
        if len(completion.logprobs or ()) <= max(fresh, default=-1):
            raise RequestFailed("INTERNAL", internal=f"no log-probabilities for {len(ids)} tokens")
        entries = [completion.logprobs[at] for at in fresh]
        top = self._request.top_logprobs
        return Output(
            self._request.id,
            tokens,
            logprobs=[own_logprob(entry, token) for token, entry in zip(tokens, entries, strict=True)],
            top=[row_message(candidates(entry)[:top]) for entry in entries] if top else [],
            finish=finish,
            drafted=drafted,
            accepted=accepted,
        )


def own_logprob(entry: Any, token_id: int) -> float:
    """Log-probability of the chosen token, from a mapping of ids to ``Logprob`` or a plain number."""
    if not isinstance(entry, Mapping):
        return float(entry)
    if token_id not in entry:
        raise RequestFailed("INTERNAL", internal=f"no log-probability for the generated token {token_id}")
    return float(entry[token_id].logprob)


def candidates(entry: Any) -> tuple[Candidate, ...]:
    """Read a mapping of ids to ``Logprob``, best first; impossible tokens are left out."""
    if not isinstance(entry, Mapping):
        return ()
    found = (Candidate(int(token_id), float(value.logprob)) for token_id, value in entry.items())
    finite = (one for one in found if math.isfinite(one.logprob))
    return tuple(sorted(finite, key=lambda one: (-one.logprob, one.id)))


def row_message(best: Sequence[Candidate], next_logprob: float | None = None, logits: bytes = b"") -> Row:
    """One position as it crosses the socket."""
    return Row([one.id for one in best], [one.logprob for one in best], next_logprob, logits)


def finish_reason(reason: str | None) -> str:
    """Translate the library's reason; empty while the output runs.

    Raises:
        RequestFailed: the library gave the request up.
    """
    if reason == "timeout":
        raise RequestFailed("DEADLINE", "The engine gave the request up; allow more time or ask for less.")
    if reason == "cancelled":
        raise RequestFailed("ENGINE_CRASHED", internal="the library cancelled a request that nobody aborted")
    return reason or ""
