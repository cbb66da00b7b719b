"""Traces with a known truth: what each tier would have answered, how quickly, and at what price."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from weir.router.case import Bounds, Case, Estimate
from weir.router.domain import Tier
from weir.router.receipts.database import row, walk
from weir.router.receipts.records import DecisionRecord, FeedbackRecord, OutcomeRecord, Record
from weir.router.receipts.sqlite import SqliteDatabase
from weir.router.receipts.trace import write_trace
from weir.router.selection import select

MEDIAN_S = {Tier.SLM: 0.1, Tier.HYBRID: 0.2, Tier.FRONTIER: 0.4}
COST_USD = {Tier.SLM: 0.0, Tier.HYBRID: 0.0001, Tier.FRONTIER: 0.004}
START = 1_772_440_740.0


def a_case(complexity: float, gain: float | None = None) -> Case:
    """All tiers eligible; the frontier gains most of what is wrong."""
    gained = 0.8 * complexity if gain is None else gain
    added = {Tier.SLM: 0.0, Tier.HYBRID: gained / 2, Tier.FRONTIER: gained}
    estimates = {tier: Estimate(1 - complexity + added[tier], None, None, COST_USD[tier]) for tier in Tier}
    return Case(complexity, gained, tuple(Tier), estimates=estimates)


def episodes(
    count: int,
    seed: int = 0,
    *,
    bounds: Callable[[int], Bounds] = lambda index: Bounds(),
    slower: Callable[[float, Tier], float] = lambda at, tier: 1.0,
    labeled: float = 0.0,
    prompts: bool = False,
    every_s: float = 1.0,
) -> list[Record]:
    """Return the records of ``count`` decisions, one each ``every_s`` seconds, as a router makes them.

    The truth behind the labels: an answer is acceptable with the tier's expected quality.
    """
    rng = random.Random(seed)
    records: list[Record] = []
    for index in range(count):
        case, in_force, at = a_case(rng.betavariate(2, 2)), bounds(index), START + index * every_s
        tier = select(case, in_force).order[0]
        seconds = MEDIAN_S[tier] * rng.lognormvariate(0, 0.3) * slower(at - START, tier)
        name = f"d{index:05d}"
        records.append(decision(name, at, tier, case, in_force, f"prompt {index}" if prompts else None))
        records.append(outcome(name, at, tier, seconds))
        if rng.random() < labeled:
            acceptable = rng.random() < case.estimates[tier].quality
            records.append(FeedbackRecord(name, at + 10, acceptable))
    return records


def decision(
    name: str, at: float, tier: Tier, case: Case, bounds: Bounds, prompt: str | None = None
) -> DecisionRecord:
    """Return a decision's record."""
    return DecisionRecord(
        decision_id=name,
        request_id=f"r-{name}",
        tenant="",
        at=at,
        tier=tier.value,
        model=f"model of {tier}",
        order=[tier.value],
        case=_plain(case),
        bounds=_plain(bounds),
        signals={},
        reasons=["low_complexity"],
        revisions={"classifier": "c1"},
        confidence=0.9,
        prompt_tokens=50,
        prompt=prompt,
    )


def outcome(name: str, at: float, tier: Tier, seconds: float) -> OutcomeRecord:
    """Return the record of a finished answer; it takes twice as long as its first token."""
    return OutcomeRecord(
        decision_id=name,
        at=at + 2 * seconds,
        outcome="finished",
        answered_by=tier.value,
        completion_tokens=100,
        cost_usd=COST_USD[tier],
        frontier_cost_usd=COST_USD[Tier.FRONTIER],
        first_token_s=seconds,
        total_s=2 * seconds,
    )


def _plain(part: Case | Bounds) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(part))
    return plain


def alternating(one: Bounds, other: Bounds) -> Callable[[int], Bounds]:
    """Bounds that change from decision to decision, so that each tier is tried for most cases."""
    return lambda index: one if index % 2 else other


def with_threshold(complexity: float) -> Bounds:
    """Return the default bounds with another threshold."""
    return replace(Bounds(), complexity=complexity)


def stored(folder: Path, records: Sequence[Record]) -> Path:
    """Write a receipts database; return its file."""
    database = SqliteDatabase(folder / "receipts.sqlite3")
    database.open()
    database.append([row(record) for record in records])
    database.close()
    return database.path


def exported(folder: Path, records: Sequence[Record]) -> Path:
    """Write an export; return its file."""
    database = SqliteDatabase(stored(folder, records))
    database.open()
    path = folder / "trace.jsonl"
    with path.open("wb") as file:
        write_trace(walk(database), file)
    database.close()
    return path
