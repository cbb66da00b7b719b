"""Traces: receipts as JSON lines, to be replayed, audited or verified elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from weir.router.receipts.chain import HASH_BYTES, Link
from weir.router.receipts.database import Stored
from weir.router.receipts.records import Receipt

T = TypeVar("T")


class TraceError(ValueError):
    """A file that is not a trace; the text names the line."""


class _Line(msgspec.Struct):
    """A receipt whose record is left as the bytes that were hashed."""

    sequence: int
    hash: str
    record: msgspec.Raw


def write_trace(receipts: Iterable[Stored], out: BinaryIO) -> int:
    """Write the receipts, their records byte for byte as they are stored; return how many."""
    count = 0
    for receipt in receipts:
        line = _Line(receipt.link.sequence, receipt.link.hash.hex(), msgspec.Raw(receipt.row.body))
        out.write(msgspec.json.encode(line) + b"\n")
        count += 1
    return count


def read_trace(path: Path) -> Iterator[Receipt]:
    """Yield the receipts of a trace. Raises TraceError, and OSError where there is none."""
    return _lines(path, Receipt)


def read_links(path: Path) -> Iterator[tuple[Link, bytes]]:
    """Yield links and hashed bytes, for ``chain.verify``. Raises TraceError and OSError."""
    for line in _lines(path, _Line):
        digest = bytes.fromhex(line.hash) if _is_hash(line.hash) else b""
        yield Link(line.sequence, digest), bytes(line.record)


def parse_link(text: str) -> Link | bytes:
    """Read ``SEQUENCE:HASH`` or a hash alone. Raises ValueError."""
    sequence, _, digest = text.strip().rpartition(":")
    if not _is_hash(digest) or (sequence and not sequence.isdecimal()):
        raise ValueError(f"'{text}' is not a head such as 120:{'0' * 8}… with {2 * HASH_BYTES} digits")
    return Link(int(sequence), bytes.fromhex(digest)) if sequence else bytes.fromhex(digest)


def _is_hash(text: str) -> bool:
    return len(text) == 2 * HASH_BYTES and set(text) <= set("0123456789abcdef")


def _lines(path: Path, kind: type[T]) -> Iterator[T]:
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield decoder.decode(line)
            except (msgspec.MsgspecError, ValueError) as error:
                raise TraceError(f"{path.name}, line {number}: not a receipt ({error})") from error
