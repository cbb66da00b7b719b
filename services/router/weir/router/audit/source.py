"""A log file as lines of text: gzip and encodings are recognized, nothing is held whole unless asked."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

SAMPLE_BYTES = 65_536
MAX_LINE_CHARS = 8 * 1024 * 1024
MAX_DOCUMENT_CHARS = 256 * 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)
# What a file of another kind begins with, and what to do about it.
_FOREIGN = {
    b"PAR1": "a Parquet file: export it as JSON lines or CSV",
    b"PK\x03\x04": "a zip archive or spreadsheet: unpack it, or export it as CSV",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it with `zstd -d`",
    b"BZh": "compressed with bzip2: unpack it with `bunzip2`",
    b"SQLite format 3\x00": "a database; Weir's own receipts are for `weir router replay`",
    b"%PDF": "a PDF",
}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class LogFileError(ValueError):
    """A log that cannot be used; the message says why, for the person who gave it."""


class Line(NamedTuple):
    """A line without its end. ``problem`` says why ``text`` is incomplete, and is empty otherwise."""

    number: int
    text: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """An opened-and-recognized file. ``sample`` is its beginning, decoded."""

    path: Path
    encoding: str
    sample: str

    def lines(self) -> Iterator[Line]:
        """Yield every line; one past ``MAX_LINE_CHARS`` and a broken end are yielded as problems."""
        number = 0
        with _open(self.path) as raw, self._decoded(raw) as stream:
            while True:
                number += 1
                try:
                    text = stream.readline(MAX_LINE_CHARS)
                    whole = len(text) < MAX_LINE_CHARS or text.endswith("\n")
                    if not whole:
                        _skip_line(stream)
                except _BROKEN:
                    yield Line(number, "", "the compressed file breaks off here")
                    return
                if not text:
                    return
                if not whole:
                    yield Line(number, "", f"the line is longer than {MAX_LINE_CHARS >> 20} MB")
                    continue
                yield Line(number, legible(text))

    def document(self) -> str:
        """Return the whole text. Raises LogFileError past ``MAX_DOCUMENT_CHARS`` or where it breaks off."""
        with _open(self.path) as raw, self._decoded(raw) as stream:
            try:
                text = stream.read(MAX_DOCUMENT_CHARS + 1)
            except _BROKEN:
                raise LogFileError("The compressed file breaks off, so its JSON cannot be read.") from None
        if len(text) > MAX_DOCUMENT_CHARS:
            limit = f"{MAX_DOCUMENT_CHARS >> 20} MB"
            raise LogFileError(
                f"One JSON document past {limit} is not read whole; make lines of it: `jq -c '.[]'`."
            )
        return legible(text)

    def _decoded(self, raw: BinaryIO) -> io.TextIOWrapper:
        # Bytes that are no UTF-8 survive as surrogates, which ``legible`` then reads as Windows-1252.
        errors = "surrogateescape" if self.encoding.startswith("utf-8") else "replace"
        return io.TextIOWrapper(raw, self.encoding, errors=errors, newline="")


def open_source(path: Path) -> Source:
    """Recognize compression and encoding. Raises LogFileError where the file is no text."""
    try:
        with _open(path) as raw:
            head = _head(raw)
    except IsADirectoryError:
        raise LogFileError(f"{path} is a folder; give one file.") from None
    except OSError as error:
        raise LogFileError(f"{path} cannot be read ({error.strerror or 'not a gzip file'}).") from None
    encoding = _encoding(path, head)
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    sample = codecs.getincrementaldecoder(encoding)(errors).decode(head)
    if not sample.strip("\ufeff \t\r\n"):
        raise LogFileError(f"{path} is empty.")
    return Source(path, encoding, legible(sample))


def legible(text: str) -> str:
    """Return text in which bytes that were no UTF-8 are read as Windows-1252, the next likeliest."""
    if text.isascii() or not any("\udc80" <= character <= "\udcff" for character in text):
        return text
    return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def _head(raw: BinaryIO) -> bytes:
    parts, size = [], 0
    try:
        while size < SAMPLE_BYTES and (part := raw.read(SAMPLE_BYTES - size)):
            parts.append(part)
            size += len(part)
    except _BROKEN:
        # What came before the break may still hold rows.
        pass
    return b"".join(parts)


def _skip_line(stream: io.TextIOWrapper) -> None:
    while (part := stream.readline(MAX_LINE_CHARS)) and not part.endswith("\n"):
        pass


def _encoding(path: Path, head: bytes) -> str:
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise LogFileError(f"{path} is {what}.")
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    zeros = head.count(0)
    if not zeros:
        return "utf-8"
    # ASCII in UTF-16 has a zero in every other place, always on the same side.
    if zeros > len(head) / 3:
        odd = head[1::2].count(0)
        if max(odd, zeros - odd) > 0.98 * zeros:
            return "utf-16-le" if odd > zeros - odd else "utf-16-be"
    raise LogFileError(f"{path} is no text: it holds binary data.")
