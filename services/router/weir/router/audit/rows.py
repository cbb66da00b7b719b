"""From text to rows: JSON lines, a JSON document, CSV or plain text, recognized by what the file holds."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from weir.router.audit import names
from weir.router.audit.source import MAX_LINE_CHARS, Line, LogFileError, Source

_DELIMITERS = ",;\t|"


class Kind(StrEnum):
    """What the file is made of."""

    JSON_LINES = "JSON lines"
    JSON_DOCUMENT = "one JSON document"
    CSV = "CSV"
    TEXT = "plain text, one prompt a line"


_BY_SUFFIX = {
    ".csv": Kind.CSV,
    ".tsv": Kind.CSV,
    ".json": Kind.JSON_LINES,
    ".jsonl": Kind.JSON_LINES,
    ".ndjson": Kind.JSON_LINES,
}


class Row(NamedTuple):
    """One row. ``value`` is a mapping, or the prompt itself; ``problem`` says why it is neither."""

    where: str
    value: Mapping[str, Any] | str = ""
    problem: str = ""


def detect(source: Source) -> Kind:
    """Recognize the form by the file's beginning, and where that tells nothing by its extension."""
    text = source.sample.lstrip("\ufeff \t\r\n")
    lines = [line for line in text.splitlines() if line.strip()]
    if text[:1] == "[" and text[1:].lstrip()[:1] in ("{", '"', "]"):
        return Kind.JSON_DOCUMENT
    objects = sum(isinstance(_quietly(line), dict) for line in lines)
    # Where a line is cut off by the sample's end, its beginning has to do.
    cut = bool(lines) and lines[-1].startswith("{") and len(lines) - objects == 1
    if 3 * objects >= len(lines) or (cut and len(lines) == 1 and not text.rstrip().endswith("}")):
        return Kind.JSON_LINES
    if text.startswith("{"):
        return Kind.JSON_DOCUMENT
    named = next((_BY_SUFFIX[s] for s in source.path.suffixes if s in _BY_SUFFIX), Kind.TEXT)
    return Kind.CSV if _delimiter(lines[0]) else named


def read_rows(source: Source, kind: Kind) -> Iterator[Row]:
    """Yield every row. Raises LogFileError where a document cannot be read at all."""
    readers = {
        Kind.JSON_LINES: _json_lines,
        Kind.JSON_DOCUMENT: _document,
        Kind.CSV: _table,
        Kind.TEXT: _text,
    }
    return readers[kind](source)


def parse_json(text: str) -> Any:
    """Parse JSON, with NaN and infinities as some writers put them. Raises ValueError with a short reason."""
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeEncodeError):
        pass
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON ({error.msg} at character {error.pos + 1})") from None


def _quietly(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None


def _json_lines(source: Source) -> Iterator[Row]:
    for number, text, problem in source.lines():
        where = f"line {number}"
        if problem or not text.strip("\ufeff \t\r\n"):
            if problem:
                yield Row(where, problem=problem)
            continue
        yield _json_row(where, text)


def _json_row(where: str, text: str) -> Row:
    try:
        value = parse_json(text.lstrip("\ufeff"))
    except ValueError as error:
        return Row(where, problem=str(error))
    return _row(where, value)


def _row(where: str, value: Any) -> Row:
    if isinstance(value, dict | str):
        return Row(where, value)
    return Row(where, problem=f"is a JSON {names.kind_of(value)}, not an object")


def _document(source: Source) -> Iterator[Row]:
    try:
        value = parse_json(source.document().lstrip("\ufeff"))
    except ValueError as error:
        if isinstance(error, LogFileError):
            raise
        raise LogFileError(f"{source.path} {error}.") from None
    items = value if isinstance(value, list) else _listed(value)
    return (_row(f"item {index}", item) for index, item in enumerate(items, start=1))


def _listed(value: Any) -> Sequence[Any]:
    """Return an export's list of rows: under a name such as ``data``, else the object itself is the row."""
    for name in names.LISTS:
        if isinstance(value, dict) and isinstance(value.get(name), list):
            return list(value[name])
    return [value]


def _delimiter(header: str) -> str:
    """Return what separates the columns of a table's first line; empty where no column is known."""
    for delimiter in _DELIMITERS:
        columns = _columns(next(csv.reader([header], delimiter=delimiter), []))
        if len(columns) > 1 and not names.TABLE_PROMPTS.isdisjoint(columns):
            return delimiter
    return "," if header.strip().strip('"').lower() in names.TABLE_PROMPTS else ""


def _columns(cells: Sequence[str]) -> list[str]:
    return [cell.strip().strip("\ufeff").replace(" ", "_").lower() for cell in cells]


def _table(source: Source) -> Iterator[Row]:
    header = next(line for line in source.sample.splitlines() if line.strip())
    previous = csv.field_size_limit(MAX_LINE_CHARS)
    try:
        yield from _table_rows(source, _delimiter(header) or max(_DELIMITERS, key=header.count))
    finally:
        csv.field_size_limit(previous)


def _table_rows(source: Source, delimiter: str) -> Iterator[Row]:
    broken: list[Line] = []

    def texts() -> Iterator[str]:
        for line in source.lines():
            if line.problem:
                broken.append(line)
            else:
                yield line.text

    reader = csv.reader(texts(), delimiter=delimiter)
    columns: list[str] = []
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            yield Row(f"line {reader.line_num}", problem=f"is no CSV ({error})")
            continue
        if columns and any(cells):
            yield _table_row(f"line {reader.line_num}", columns, cells)
        columns = columns or _columns(cells)
    yield from (Row(f"line {line.number}", problem=line.problem) for line in broken)


def _table_row(where: str, columns: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) > len(columns):
        return Row(where, problem=f"has {len(cells)} cells, but the table {len(columns)} columns")
    return Row(where, {column: cell for column, cell in zip(columns, cells, strict=False) if cell})


def _text(source: Source) -> Iterator[Row]:
    for number, text, problem in source.lines():
        if problem:
            yield Row(f"line {number}", problem=problem)
        elif text.strip("\ufeff \t\r\n"):
            yield Row(f"line {number}", text.strip("\ufeff \t\r\n"))
