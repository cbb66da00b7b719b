"""Answering a request: what may leave, who may answer, and the answer itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from weir.common.config.base import ResidencyName
from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.answer import Answer, Means
from weir.frontier_proxy.domain import Done, ForwardSpec, Switched
from weir.frontier_proxy.selection import Selection


class Forwarder:
    """Streams answers. ``default_residency`` is that of requests that state none."""

    def __init__(self, selection: Selection, means: Means, *, default_residency: ResidencyName) -> None:
        self._selection, self._means = selection, means
        self._default_residency = default_residency

    def forward(self, spec: ForwardSpec) -> AsyncGenerator[str | Switched | Done, None]:
        """Return what yields new text, ``Switched`` where another model goes on, and one ``Done`` at the end.

        Raises:
            WeirError: RESIDENCY_FORBIDDEN, TENANT_FORBIDDEN, UNKNOWN_MODEL, CONTEXT_TOO_LONG, UNSUPPORTED;
                from the generator, COST_LIMIT, BUDGET_EXHAUSTED, LEDGER_UNAVAILABLE, the PROVIDER_ codes,
                RATE_LIMITED, STREAM_BROKEN, with what the attempts cost in the metadata.
        """
        residency = spec.residency or self._default_residency
        if residency == "local_only":
            raise WeirError(ErrorCode.RESIDENCY_FORBIDDEN, "The frontier proxy takes no LOCAL_ONLY request.")
        offered = self._selection.candidates(spec.model, spec.models)
        candidates = self._means.planner.eligible(offered, spec)
        return Answer(self._means, spec, residency, candidates).stream()
