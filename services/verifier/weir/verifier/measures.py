"""The verifier's own metrics, and what they add to an inference span."""

from __future__ import annotations

from weir.common import conventions as names
from weir.common.inference import Inference
from weir.common.telemetry import meter
from weir.engines.base import FinishReason
from weir.verifier.events import Delta, Ending, Event, Finished, Handoff

_DRAFTED = meter().create_counter(names.VERIFY_DRAFTED, "{token}", "Tokens drafted for the verifier.")
_ACCEPTED = meter().create_counter(names.VERIFY_ACCEPTED, "{token}", "Drafted tokens that stood.")
_ROUNDS = meter().create_counter(names.VERIFY_ROUNDS, "{round}", "Forward passes over drafts.")
_SHARE = meter().create_histogram(
    names.VERIFY_SHARE,
    "1",
    "Accepted share of one answer's drafted tokens.",
    explicit_bucket_boundaries_advisory=[step / 10 for step in range(1, 11)],
)
_DRAFT_LENGTH = meter().create_histogram(
    names.VERIFY_DRAFT_LENGTH,
    "{token}",
    "Drafted tokens of one round.",
    explicit_bucket_boundaries_advisory=[0, 1, 2, 4, 8, 16, 32, 64],
)
_ESCALATIONS = meter().create_counter(names.VERIFY_ESCALATIONS, "{answer}", "Answers handed to the frontier.")
_VIOLATIONS = meter().create_counter(
    names.CONSTRAINT_VIOLATIONS, "{answer}", "Finished answers that break their output constraint."
)


def round_done(model: str, drafted: int, accepted: int) -> None:
    """Count one round."""
    labels = {names.MODEL: model}
    _ROUNDS.add(1, labels)
    _DRAFT_LENGTH.record(drafted, labels)
    if drafted:
        _DRAFTED.add(drafted, labels)
        _ACCEPTED.add(accepted, labels)


def constraint_broken(model: str) -> None:
    """Count an answer that does not keep its constraint."""
    _VIOLATIONS.add(1, {names.MODEL: model})


def note(inference: Inference, event: Event) -> None:
    """Take one event of an answer into its span."""
    if isinstance(event, Delta):
        inference.tokens(len(event.tokens) or 1)
    elif isinstance(event, Handoff):
        _ESCALATIONS.add(1)
        inference.span.add_event("handoff", {names.REASONS: event.code})
    else:
        _finish(inference, event)


def _finish(inference: Inference, event: Finished) -> None:
    own = event.attempts[0]
    reason = FinishReason.LENGTH if event.ending is Ending.LENGTH else FinishReason.STOP
    inference.finish(own.prompt_tokens, own.cached_prompt_tokens, own.completion_tokens, reason)
    inference.span.set_attribute(names.TIER, "hybrid")
    inference.span.set_attribute(names.ROUNDS, event.rounds)
    inference.span.set_attribute(names.DRAFTED, own.drafted_tokens)
    inference.span.set_attribute(names.ACCEPTED, own.accepted_tokens)
    if own.drafted_tokens:
        _SHARE.record(own.accepted_tokens / own.drafted_tokens, {names.MODEL: own.model})
