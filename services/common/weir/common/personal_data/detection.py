"""All detectors over one text: every finding for redaction, or the kinds alone for routing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from weir.common.personal_data import addresses, national_ids, numbers, phones, secrets
from weir.common.personal_data.candidates import Span


class _Detector(Protocol):
    def __call__(self, text: str, tries: int | None = None) -> Iterator[Span]: ...


# In the order in which they win where two findings overlap.
_DETECTORS: tuple[tuple[str, _Detector], ...] = (
    ("KEY", secrets.spans),
    ("EMAIL", addresses.email_spans),
    ("IBAN", numbers.iban_spans),
    ("CARD", numbers.card_spans),
    ("ID", national_ids.spans),
    ("IP", addresses.ip_spans),
)
KINDS = (*(kind for kind, _ in _DETECTORS), "PHONE")
# Up to here, and without anything like a telephone number, finding takes a fraction of a millisecond.
_QUICK_CHARS = 4096
# A thread that scans a huge text gives way to others between two pieces of this size; what is found
# reaches over no more than the overlap.
_PIECE_CHARS, _OVERLAP_CHARS = 32_768, 8_192
# Candidates of one kind in one piece that may turn out to be nothing.
_TRIES = 200


class Finding(NamedTuple):
    """One span of personal data."""

    start: int
    end: int
    kind: str


def find(text: str) -> list[Finding]:
    """Return the personal data in ``text``, in order; where two findings overlap, the first kind wins.

    Found are keys of well-known shapes, e-mail addresses, IBANs (mod 97), payment cards (Luhn), national
    identity numbers (see ``national_ids``), IP addresses (not loopback) and telephone numbers
    (libphonenumber's metadata). Names and postal addresses are not.
    """
    return _find(text, None)


def kinds(text: str) -> frozenset[str]:
    """Return the kinds of ``KINDS`` that ``find`` would find, in time that a hostile text cannot stretch.

    A kind of which a text holds hundreds of candidates that are none counts as present: what cannot be looked
    at whole is taken for personal.
    """
    if len(text) <= _PIECE_CHARS:
        return frozenset(finding.kind for finding in _find(text, _TRIES))
    found = {"PHONE"} if next(phones.spans(text, _TRIES), None) else set[str]()
    for start in range(0, len(text), _PIECE_CHARS - _OVERLAP_CHARS):
        piece = text[start : start + _PIECE_CHARS]
        found.update(k for k, spans in _DETECTORS if k not in found and next(spans(piece, _TRIES), None))
    return frozenset(found)


def is_quick(text: str) -> bool:
    """Whether ``kinds`` takes so little that it need not leave the event loop."""
    return len(text) <= _QUICK_CHARS and not phones.likely(text)


def _find(text: str, tries: int | None) -> list[Finding]:
    taken, findings = bytearray(len(text)), []
    for kind, spans in (*_DETECTORS, ("PHONE", phones.spans)):
        for start, end in spans(text, tries):
            if taken.find(1, start, end) < 0:
                taken[start:end] = b"\1" * (end - start)
                findings.append(Finding(start, end, kind))
    return sorted(findings)
