"""The worker's metrics of drafting, for a verifier and inside its own engine; none of them is per token."""

from __future__ import annotations

from weir.common import conventions as names
from weir.common.telemetry import meter

_TOKENS = meter().create_counter(names.DRAFT_TOKENS, "{token}", "Tokens drafted for a verifier.")
_DURATION = meter().create_histogram(names.DRAFT_DURATION, "s", "Time that drafting one chunk took.")
_VOIDED = meter().create_counter(
    names.DRAFT_VOIDED, "{chunk}", "Chunks drafted ahead that an earlier one's verdict voided."
)
# The verifier's names, told apart by their level: there the judging is a service's, here the engine's own.
_OWN_DRAFTED = meter().create_counter(names.VERIFY_DRAFTED, "{token}", "Tokens drafted.")
_OWN_ACCEPTED = meter().create_counter(names.VERIFY_ACCEPTED, "{token}", "Drafted tokens that stood.")
_OWN_SHARE = meter().create_histogram(
    names.VERIFY_SHARE,
    "1",
    "Accepted share of one answer's drafted tokens.",
    explicit_bucket_boundaries_advisory=[step / 10 for step in range(1, 11)],
)


def drafted(model: str, method: str, tokens: int, seconds: float) -> None:
    """Count one chunk."""
    labels = {names.MODEL: model, names.DRAFT_METHOD: method}
    _TOKENS.add(tokens, labels)
    _DURATION.record(seconds, labels)


def voided(model: str, chunks: int) -> None:
    """Count chunks that nobody will judge."""
    if chunks:
        _VOIDED.add(chunks, {names.MODEL: model})


def speculated(model: str, method: str, drafted: int, accepted: int) -> None:
    """Count what the engine drafted for itself in one answer, ``method`` as in ``LocalModel.speculative``."""
    if drafted:
        labels = {names.MODEL: model, names.DRAFT_METHOD: method, names.LEVEL: "engine"}
        _OWN_DRAFTED.add(drafted, labels)
        _OWN_ACCEPTED.add(accepted, labels)
        _OWN_SHARE.record(accepted / drafted, labels)
