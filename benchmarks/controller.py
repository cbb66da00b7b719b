"""The controller before a simulated plant: how soon it answers, whether it overshoots, what quality it keeps.

    uv run python benchmarks/controller.py [--seeds 10] [--window 300] [--rate 10] [--json]

Time is virtual and the plant is that of ``weir.router.control.simulation``, with the mix of hard and easy
prompts of tests/data/routing_sample.jsonl. ``in band`` is when at most 5 % of the answers took longer than
the target and its dead band, by the plant's true law, and stayed so; ``measured p95`` is that of the answers
from then on. Lists are the median and the worst of the runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.valkey_server import ValkeyServer, server_binary
from weir.common.config import Settings
from weir.router.case import Case
from weir.router.control.choice import chosen
from weir.router.control.controller import Controller
from weir.router.control.shared import shared_state
from weir.router.control.simulation import PLANT, Change, Look, Run, Simulation, VirtualClock, cases
from weir.router.domain import Tier

SAMPLE = Path(__file__).parents[1] / "tests" / "data" / "routing_sample.jsonl"
TARGET_S, TARGET_USD, BAND = 0.6, 0.0009, 0.1
FRONTIER, HYBRID = PLANT[Tier.FRONTIER], PLANT[Tier.HYBRID]
LATENCY = {"enabled": True, "target": TARGET_S}
COST = {"enabled": True, "metric": "cost_per_query", "target": TARGET_USD}


def quick(look: Look) -> bool:
    return look.slow <= 0.05


def cheap(look: Look) -> bool:
    return look.cost_usd <= TARGET_USD * (1 + BAND)


def held(look: Look) -> bool:
    return abs(look.cost_usd - TARGET_USD) <= 0.25 * TARGET_USD


def few_failures(look: Look) -> bool:
    return look.shares[Tier.FRONTIER] <= 0.06


@dataclass(frozen=True)
class Scenario:
    """From the second window on ``tier`` follows ``law``, and its own again after the sixth."""

    name: str
    adjustment: dict[str, Any]
    tier: Tier
    law: Any
    holds: Callable[[Look], bool]
    target: dict[str, float] | None = None


SCENARIOS = (
    Scenario("frontier 3x slower", LATENCY, Tier.FRONTIER, replace(FRONTIER, median_s=1.05), quick),
    Scenario("hybrid 10x slower", LATENCY, Tier.HYBRID, replace(HYBRID, median_s=1.5), quick),
    Scenario("frontier 2x dearer", COST, Tier.FRONTIER, replace(FRONTIER, cost_usd=0.008), cheap),
    Scenario(
        "frontier fails in 60 %", {**COST, "target": 1.0}, Tier.FRONTIER,
        replace(FRONTIER, error_rate=0.6), few_failures,
    ),
    Scenario(
        "cost held within 25 %, frontier 2x dearer", {}, Tier.FRONTIER,
        replace(FRONTIER, cost_usd=0.008), held, {"cost": TARGET_USD},
    ),
    Scenario("noise alone", LATENCY, Tier.FRONTIER, FRONTIER, quick),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--window", type=float, default=300.0)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rows = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    population = cases([(row["weak_correct"], row["strong_correct"]) for row in rows], 2000, seed=7)
    table = []
    for scenario in SCENARIOS:
        row = _summary(scenario, options, population)
        table.append(row)
        if not options.json:
            _print(row)
    binary = server_binary()
    if binary:
        table.append(asyncio.run(_replicas(options, population, binary)))
        if not options.json:
            print(table[-1])
    if options.json:
        print(json.dumps(table, indent=2))


def _summary(scenario: Scenario, options: argparse.Namespace, population: Sequence[Case]) -> dict[str, Any]:
    window = options.window
    changed, back, end = 2 * window, 6 * window, 10 * window
    changes = [
        Change(changed, scenario.tier, scenario.law),
        Change(back, scenario.tier, PLANT[scenario.tier]),
    ]
    rows = []
    for seed in range(options.seeds):
        run, _ = _simulate(scenario, options, population, changes, end, seed)
        rows.append(_measure(run, scenario, changed, back, end, window))
    found = {key: [row[key] for row in rows if row[key] is not None] for key in rows[0]}
    return {
        "scenario": scenario.name,
        "runs": len(rows),
        "moves before": sum(found["before"]),
        "first move, windows": _spread(found["first"]),
        "in band, windows": _spread(found["in_band"]),
        "in band in the end": len(found["in_band"]),
        "overshoots at most": max(found["overshoots"]),
        "frontier share": [statistics.median(found["share_before"]), statistics.median(found["share_after"])],
        "measured p95 before, after": [
            statistics.median(found["p95_before"]), statistics.median(found["p95_after"]),
        ],
        "quality lost at most": max(found["quality_lost"]),
        "home again, windows": _spread(found["home"]),
        "home again in the end": len(found["home"]),
        "overshoots on return at most": max(found["overshoots_back"]),
    }  # fmt: skip


def _simulate(
    scenario: Scenario, options: argparse.Namespace, population: Sequence[Case], changes: Sequence[Change],
    end: float, seed: int,
) -> tuple[Run, Controller]:  # fmt: skip
    dynamic = {"window_seconds": options.window, **scenario.adjustment}
    settings = Settings.model_validate(
        {"routing": {"dynamic_adjustment": dynamic, "target": scenario.target}}
    )
    clock = VirtualClock()
    controller = Controller(settings, clock=clock)
    simulation = Simulation([controller], clock, population, chosen, rate=options.rate, seed=seed)
    return simulation.until(end, changes, every=options.window / 60), controller


def _measure(
    run: Run, scenario: Scenario, changed: float, back: float, end: float, window: float
) -> dict[str, Any]:
    moves = run.moves(changed, back)
    since = run.settled(scenario.holds, changed, back)
    before, after = _look(run, changed), _look(run, back)
    usual = before.state.thresholds
    home = run.settled(lambda look: math.dist(look.state.thresholds, usual) < 0.06, back, end)
    return {
        "before": len(run.moves(window if scenario.target else 0, changed)),
        "first": (moves[0].at - changed) / window if moves else None,
        "in_band": None if since is None else (since - changed) / window,
        "overshoots": run.reversals(changed, back),
        "share_before": before.shares[Tier.FRONTIER],
        "share_after": after.shares[Tier.FRONTIER],
        "p95_before": run.p95(changed - window, changed),
        "p95_after": run.p95(back - window if since is None else since, back),
        "quality_lost": before.quality - min(look.quality for look in run.looks if changed < look.at < back),
        "home": None if home is None else (home - back) / window,
        "overshoots_back": run.reversals(back, end),
    }


def _look(run: Run, before: float) -> Look:
    return [look for look in run.looks if look.at < before][-1]


def _spread(values: list[float]) -> list[float]:
    """Median and worst."""
    return [statistics.median(values), max(values)] if values else []


def _print(row: dict[str, Any]) -> None:
    print(f"\n{row.pop('scenario')}")
    for key, value in row.items():
        numbers = value if isinstance(value, list) else [value]
        print(f"  {key:32s} {'  '.join(f'{number:.4g}' for number in numbers) or '-'}")


async def _replicas(options: argparse.Namespace, population: Sequence[Case], binary: str) -> dict[str, Any]:
    """Two replicas with half the traffic each, that share their state through Valkey."""
    server = ValkeyServer(binary)
    server.start()
    os.environ["WEIR_BENCHMARK_SHARED"] = server.address
    settings = Settings.model_validate(
        {
            "routing": {"dynamic_adjustment": {**LATENCY, "window_seconds": options.window}},
            "state": {"shared_env": "WEIR_BENCHMARK_SHARED"},
        }
    )
    clock, window = VirtualClock(), options.window
    replicas = [Controller(settings, shared=shared_state(settings), clock=clock) for _ in range(2)]
    simulation = Simulation(replicas, clock, population, chosen, rate=options.rate)
    slow = Change(2 * window, Tier.FRONTIER, replace(FRONTIER, median_s=1.05))
    step, left = window / 60, [slow]
    differing = 0
    while clock.now < 6 * window:
        until = clock.now + step
        simulation.pass_time(until, left)
        for replica in replicas:
            await replica.refresh()
        simulation.look()
        differing += replicas[0].bounds() != replicas[1].bounds()
    for replica in replicas:
        await replica.aclose()
    server.remove()
    run = simulation.run
    since = run.settled(quick, slow.at)
    return {
        "scenario": "two replicas, frontier 3x slower",
        "in band, windows": None if since is None else (since - slow.at) / window,
        "moves": len(run.moves()),
        "overshoots": run.reversals(slow.at),
        "looks at which the replicas' bounds differed": differing,
        "of looks": len(run.looks),
    }


if __name__ == "__main__":
    main()
