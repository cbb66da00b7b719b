"""A trace: recorded decisions with what became of them, from a receipts database or an export of one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from weir.common.errors import WeirError
from weir.router.case import Bounds, Case
from weir.router.control.choice import chosen
from weir.router.domain import Tier
from weir.router.receipts import chain, database
from weir.router.receipts import trace as export
from weir.router.receipts.records import DecisionRecord, FeedbackRecord, OutcomeRecord, Record
from weir.router.receipts.sqlite import SqliteDatabase

_SQLITE = b"SQLite format 3\x00"
FINISHED = "finished"


class TraceError(ValueError):
    """A trace that cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One decision, and what became of it.

    Attributes:
        at: seconds since 1970.
        tier: the chosen tier; another may have finished the answer.
        prompt: the classified text, where prompts were kept.
        outcome: ``None`` where only a decision was asked for, or the answer never ended.
        label: mean of the labels, 0 to 1; ``None`` without any.
    """

    decision_id: str
    at: float
    tier: Tier
    case: Case
    bounds: Bounds
    prompt: str | None = None
    outcome: OutcomeRecord | None = None
    label: float | None = None

    @property
    def finished(self) -> OutcomeRecord | None:
        """The outcome where the chosen tier answered to the end by itself, so that its times are its own."""
        outcome = self.outcome
        by_itself = outcome is not None and not outcome.handovers and outcome.answered_by == self.tier.value
        return outcome if outcome is not None and by_itself and outcome.outcome == FINISHED else None


@dataclass(frozen=True, slots=True)
class Trace:
    """Episodes in the order of their decisions. ``notes`` say what was left out, for people."""

    name: str
    episodes: tuple[Episode, ...]
    verified: bool
    notes: tuple[str, ...] = ()


def load_trace(path: Path, *, unverified: bool = False) -> Trace:
    """Read a trace.

    Args:
        path: ``receipts.sqlite3``, or JSON lines as ``weir receipts export`` writes them.
        unverified: whether a trace whose hash chain is broken is taken all the same.

    Raises:
        TraceError: unreadable, without decisions, or tampered with.
    """
    try:
        with path.open("rb") as file:
            is_database = file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise TraceError(f"{path} cannot be read ({error.strerror}).") from None
    records = _Records()
    problem = _from_database(path, records) if is_database else _from_export(path, records)
    if problem and not unverified:
        raise TraceError(
            f"{path}: the hash chain is broken: {problem}. What follows from it proves nothing. An export of "
            "a part (--since, --tenant) has gaps: take the whole, or give --unverified to go on all the same."
        )
    notes = [f"the hash chain is broken: {problem}"] if problem else []
    if records.skipped:
        notes.append(f"{records.skipped:,} decisions of another version are left out")
    episodes = records.episodes()
    if not episodes:
        raise TraceError(f"{path} holds no decision that this version can read.")
    if changed := sum(chosen(each.case, each.bounds) is not each.tier for each in episodes):
        notes.append(
            f"{changed:,} decisions come out differently under their own bounds: another version made them"
        )
    return Trace(path.name, episodes, not problem, tuple(notes))


def _from_database(path: Path, records: _Records) -> str:
    """Read all records; return what is wrong with the chain, empty where nothing is."""
    receipts = SqliteDatabase(path)
    try:
        receipts.open(create=False)
        verdict = database.check(receipts)
        for stored in database.walk(receipts):
            records.add(chain.decode(stored.row.body))
    except (database.DatabaseDownError, WeirError):
        raise TraceError(f"{path} holds no receipts that can be read.") from None
    except msgspec.MsgspecError as error:
        raise TraceError(f"{path} holds a receipt that this version cannot read: {error}.") from None
    finally:
        receipts.close()
    return "" if verdict.ok else f"receipt {verdict.broken} {verdict.problem}"


def _from_export(path: Path, records: _Records) -> str:
    try:
        links = export.read_links(path)
        # What was before an export's first receipt is not in it, so that one is taken as given.
        first = next(links, None)
        if first is None:
            raise TraceError(f"{path} is empty.")
        verdict = chain.verify(links, first[0])
        for each in export.read_trace(path):
            records.add(each.record)
    except export.TraceError as error:
        raise TraceError(
            f"{error}. Give receipts.sqlite3 or what `weir receipts export` writes; for the logs of other "
            "systems there is `weir router audit`."
        ) from None
    return "" if verdict.ok else f"receipt {verdict.broken} {verdict.problem}"


class _Records:
    """Puts records together to episodes while they are read."""

    def __init__(self) -> None:
        self.skipped = 0
        self._decisions: dict[str, Episode] = {}
        self._outcomes: dict[str, OutcomeRecord] = {}
        self._labels: dict[str, list[float]] = {}

    def add(self, record: Record) -> None:
        """Take a record in."""
        if isinstance(record, DecisionRecord):
            self._decide(record)
        elif isinstance(record, OutcomeRecord):
            self._outcomes[record.decision_id] = record
        elif (label := _label(record)) is not None:
            self._labels.setdefault(record.decision_id, []).append(label)

    def episodes(self) -> tuple[Episode, ...]:
        """Return what was put together, in the order of the decisions."""
        return tuple(self._complete(episode) for episode in self._decisions.values())

    def _decide(self, record: DecisionRecord) -> None:
        try:
            case = msgspec.convert(record.case, Case)
            bounds = msgspec.convert(record.bounds, Bounds)
            episode = Episode(record.decision_id, record.at, Tier(record.tier), case, bounds, record.prompt)
        except ValueError:
            self.skipped += 1
        else:
            self._decisions.setdefault(record.decision_id, episode)

    def _complete(self, episode: Episode) -> Episode:
        labels = self._labels.get(episode.decision_id)
        label = sum(labels) / len(labels) if labels else None
        return replace(episode, outcome=self._outcomes.get(episode.decision_id), label=label)


def _label(record: FeedbackRecord) -> float | None:
    """Return a label between 0 and 1; a score on another scale cannot be compared and is none."""
    if record.acceptable is not None:
        return float(record.acceptable)
    return record.score if record.score is not None and 0 <= record.score <= 1 else None
