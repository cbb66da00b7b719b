"""A whole log: every row counted, a bounded sample of the usable ones kept, the unusable ones named."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from weir.router.audit.entries import Entry, RowError, read_entry
from weir.router.audit.rows import Kind, detect, read_rows
from weir.router.audit.source import LogFileError, open_source

SHOWN_PROBLEMS = 5
ACCEPTED = """Accepted are, also compressed with gzip:
  JSON lines, or one JSON document with a list of objects
    {"messages": [...], "model": ..., "usage": {...}}      as the chat APIs take them, also within
                                                           "request"/"response"/"body" (batch files)
    {"prompt": ..., "response": ..., "model": ..., "cost": ...}
    exports of LiteLLM (spend logs with messages), Langfuse, Helicone
  CSV or TSV with a column such as prompt, messages or input
  plain text, one prompt a line"""


@dataclass(slots=True)
class Log:
    """What a log holds.

    ``entries`` are all usable rows, or where there are more than asked for, a random sample of them in the
    log's order. ``total`` counts the usable rows, ``problems`` the first unusable ones, ``flaws`` those with
    impossible numbers.
    """

    kind: Kind
    encoding: str
    entries: list[Entry] = field(default_factory=list)
    total: int = 0
    unusable: int = 0
    problems: list[str] = field(default_factory=list)
    flawed: int = 0
    flaws: list[str] = field(default_factory=list)
    models: Counter[str] = field(default_factory=Counter)
    first_at: float | None = None
    last_at: float | None = None

    def refuse(self, where: str, what: str) -> None:
        """Count an unusable row."""
        self.unusable += 1
        if len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(f"{where} {what}" if not what.startswith("the ") else f"{where}: {what}")


def read_log(path: Path, limit: int = 0, seed: int = 0) -> Log:
    """Read a log.

    Args:
        path: the file.
        limit: rows kept at most, drawn at random (Vitter's algorithm R); 0 keeps all.
        seed: of the draw.

    Raises:
        LogFileError: no text, empty, or nothing usable in it; the message shows what is accepted.
    """
    try:
        source = open_source(path)
        log = Log(kind := detect(source), source.encoding)
        draw = random.Random(seed)
        places: list[int] = []
        for row in read_rows(source, kind):
            if row.problem:
                log.refuse(row.where, row.problem)
                continue
            try:
                _take(log, read_entry(row.where, row.value), places, limit, draw)
            except RowError as error:
                log.refuse(row.where, str(error))
    except LogFileError as error:
        raise LogFileError(f"{error}\n{ACCEPTED}") from None
    if not log.entries:
        listed = "".join(f"\n  {problem}" for problem in log.problems)
        raise LogFileError(
            f"{path} was read as {kind.value}, and none of its rows is usable:{listed}\n{ACCEPTED}"
        )
    order = sorted(range(len(places)), key=places.__getitem__)
    log.entries = [log.entries[index] for index in order]
    return log


def _take(log: Log, entry: Entry, places: list[int], limit: int, draw: random.Random) -> None:
    log.total += 1
    log.models[entry.model] += 1
    if entry.flaw:
        log.flawed += 1
        if len(log.flaws) < SHOWN_PROBLEMS:
            log.flaws.append(f"{entry.where}: {entry.flaw}")
    if entry.at is not None:
        log.first_at = entry.at if log.first_at is None else min(log.first_at, entry.at)
        log.last_at = entry.at if log.last_at is None else max(log.last_at, entry.at)
    if not limit or len(log.entries) < limit:
        log.entries.append(entry)
        places.append(log.total)
    elif (place := draw.randrange(log.total)) < limit:
        log.entries[place], places[place] = entry, log.total
