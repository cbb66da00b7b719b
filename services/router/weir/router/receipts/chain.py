"""The hash chain over the records: what was changed, taken out, added or moved shows.

``hash(n) = SHA-256(hash(n - 1) || body(n))``, where the body is the record's JSON exactly as it is stored. As
with the leaves of RFC 6962 (section 2.1) the bytes themselves are hashed, so that verifying needs no
canonical form such as that of RFC 8785; writing is deterministic all the same. ``hash(0)`` is drawn once per
store, so that no link of one store fits into another's chain. Whoever can rewrite the whole store can also
compute all hashes anew: against that, and against cutting off the end, only a head noted elsewhere helps.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from weir.router.receipts.records import Record

HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class Link:
    """A place in the chain; ``hash`` has 32 bytes."""

    sequence: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash.hex()}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found: the last good link, and the first broken sequence with its problem, if any."""

    anchor: Link
    count: int
    head: Link
    broken: int | None = None
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem


class UnkeepableError(ValueError):
    """A record that could not be read back as it was written."""


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """Return the record's bytes. Raises UnkeepableError where they would not decode to the same record."""
    try:
        body = _encoder.encode(record)
        same = _decoder.decode(body) == record
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise UnkeepableError(str(error)) from error
    if not same:
        raise UnkeepableError("a number in it is not finite")
    return body


def decode(body: bytes) -> Record:
    """Return the record. Raises msgspec.MsgspecError for foreign bytes."""
    return _decoder.decode(body)


def genesis() -> Link:
    """Return the link before the first record of a new store."""
    return Link(0, secrets.token_bytes(HASH_BYTES))


def extend(tail: Link, body: bytes) -> Link:
    """Return the link of ``body`` behind ``tail``."""
    return Link(tail.sequence + 1, hashlib.sha256(tail.hash + body).digest())


def verify(entries: Iterable[tuple[Link, bytes]], anchor: Link, noted: Link | bytes | None = None) -> Verdict:
    """Check entries in the order of their sequence.

    Args:
        entries: links and bodies of everything behind ``anchor``.
        anchor: the link before the first entry: the genesis, or what pruning left.
        noted: a head remembered from an earlier time, as a link or its hash alone; it has to be in the chain.
    """
    tail, count, seen = anchor, 0, _is(noted, anchor)
    for link, body in entries:
        expected = extend(tail, body)
        if problem := _compare(link, expected):
            return Verdict(anchor, count, tail, expected.sequence, problem)
        tail, count = expected, count + 1
        seen = seen or _is(noted, tail)
    if noted is None or seen:
        return Verdict(anchor, count, tail)
    broken, problem = _missing(noted, anchor, tail)
    return Verdict(anchor, count, tail, broken, problem)


def _compare(found: Link, expected: Link) -> str:
    if found.sequence > expected.sequence:
        return "is missing"
    if found.sequence < expected.sequence:
        return f"comes after the receipt {found.sequence}, which is there twice or was moved"
    return "" if found.hash == expected.hash else "does not fit to the receipt before it"


def _is(noted: Link | bytes | None, link: Link) -> bool:
    return noted in (link, link.hash)


def _missing(noted: Link | bytes, anchor: Link, tail: Link) -> tuple[int | None, str]:
    if isinstance(noted, bytes):
        return None, "the noted head is not in the chain: its end was cut off, or the chain was made anew"
    if noted.sequence < anchor.sequence:
        return None, "the noted head was pruned; note the present one"
    if noted.sequence > tail.sequence:
        return tail.sequence + 1, "is missing: the end was cut off before the noted head"
    return noted.sequence, "has another hash than the noted head: the chain was made anew"
