"""The router alone against its targets: `Route`, identical prompts, batching, decision engine, cascade.

    uv run python benchmarks/router.py
    uv run python benchmarks/router.py --large FOLDER --data FILE

The router runs in its own process before scripted upstreams, the client here, all on the same cores. What is
compared alternates within one run. With `--large` and `--data` (rows as `weir router evaluate` reads them) it
adds what the cascade loses of the large classifier's APGR.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parent))

from decision_engine import measure_engine
from router_process import Router, request, running_router, upstreams

from weir.router.classifier import artifact
from weir.router.classifier.text import open_tokenizer

WARM_UP, LATENCY_ROUNDS, IDENTICAL = 10, 60, 200
BATCH_ROUNDS, BATCH_REQUESTS, CONCURRENT = 8, 192, 24
# Milliseconds, by tokens.
TARGETS = {16: None, 64: 5.0, 512: 25.0}
SAMPLE = Path(__file__).parent.parent / "tests" / "data" / "routing_sample.jsonl"


@dataclass(frozen=True, slots=True)
class Figure:
    what: str
    measured: str
    target: str = ""
    met: bool | None = None


class Prompts:
    """Texts of a given length in the classifier's tokens, each of them new."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        rows = SAMPLE.read_text(encoding="utf-8").splitlines()
        words = " ".join(json.loads(row)["prompt"] for row in rows).split()
        self._words: Iterator[str] = itertools.cycle(words)
        self._number = itertools.count()

    def new(self, tokens: int) -> bytes:
        """Return a request of about so many tokens, special ones included."""
        text = [f"{next(self._number)}:"]
        while self._count(text) < tokens - 2:
            text += itertools.islice(self._words, max(1, (tokens - self._count(text)) // 3))
        while self._count(text) > tokens - 2:
            text.pop()
        return request(" ".join(text))

    def _count(self, words: list[str]) -> int:
        return len(self._tokenizer.encode(" ".join(words), add_special_tokens=False).ids)


async def latency(router: Router, prompts: Prompts) -> list[Figure]:
    """One request at a time, the lengths in turns."""
    took: dict[int, list[float]] = {tokens: [] for tokens in TARGETS}
    # Made beforehand: between two requests the router would cool down while the next one is made.
    turns = [[prompts.new(tokens) for tokens in TARGETS] for _ in range(WARM_UP + LATENCY_ROUNDS)]
    for turn, requests in enumerate(turns):
        for times, each in zip(took.values(), requests, strict=True):
            seconds = await router.route(each)
            if turn >= WARM_UP:
                times.append(seconds * 1000)
    figures = []
    for tokens, bound in TARGETS.items():
        median, worst = statistics.median(took[tokens]), statistics.quantiles(took[tokens], n=20)[-1]
        text = f"{median:.2f} ms, p95 {worst:.2f} ms"
        target = f"<= {bound:g} ms" if bound else ""
        figures.append(Figure(f"Route at {tokens} tokens", text, target, median <= bound if bound else None))
    return figures


async def identical(router: Router, prompts: Prompts) -> list[Figure]:
    """One prompt again and again; the service's time is that of its span."""
    same = prompts.new(64)
    await router.route(same)
    trips = [await router.route(same) * 1000 for _ in range(IDENTICAL)]
    inside = statistics.median(sorted(await router.spans.collected(IDENTICAL + 1))[:-1])
    return [
        Figure("identical prompt, in the service", f"{inside:.3f} ms", "<= 0.5 ms", inside <= 0.5),
        Figure("identical prompt, round trip", f"{statistics.median(trips):.2f} ms"),
    ]


async def _rate(router: Router, requests: list[bytes]) -> float:
    """Requests per second with ``CONCURRENT`` of them under way."""
    left = iter(requests)

    async def client() -> None:
        for each in left:
            await router.route(each)

    started = asyncio.get_running_loop().time()
    await asyncio.gather(*(client() for _ in range(CONCURRENT)))
    return len(requests) / (asyncio.get_running_loop().time() - started)


async def batching(on: Router, off: Router, prompts: Prompts) -> list[Figure]:
    """Distinct prompts of 64 tokens, the two routers in turns; the first turn warms both up."""
    rates: dict[str, list[float]] = {"on": [], "off": []}
    processor: dict[str, list[float]] = {"on": [], "off": []}
    for turn in range(BATCH_ROUNDS + 1):
        for name, router in (("on", on), ("off", off)):
            requests, before = [prompts.new(64) for _ in range(BATCH_REQUESTS)], router.processor_s()
            rate = await _rate(router, requests)
            if turn:
                rates[name].append(rate)
                processor[name].append((router.processor_s() - before) / BATCH_REQUESTS * 1000)
    ratios = [one / other for one, other in zip(rates["on"], rates["off"], strict=True)]
    ratio = statistics.median(ratios)
    text = (
        f"{ratio:.2f} (rounds {min(ratios):.2f} to {max(ratios):.2f}; "
        f"{statistics.median(rates['on']):.0f} and {statistics.median(rates['off']):.0f} requests/s)"
    )
    spent = {name: statistics.median(each) for name, each in processor.items()}
    saved = f"{spent['off'] / spent['on']:.2f} ({spent['on']:.1f} and {spent['off']:.1f} ms)"
    return [
        Figure(
            f"Route/s at 64 tokens, {CONCURRENT} at once: batching on / off", text, ">= 1.5", ratio >= 1.5
        ),
        Figure("processor time of the service for each of them: off / on", saved),
    ]


def engine() -> Figure:
    """The decision engine with a hundred rules, and the signals that every request reads."""
    timing = measure_engine()
    total = (timing["engine"].median_us + timing["signals"].median_us) / 1000
    parts = f"engine {timing['engine'].median_us:.0f} us, signals {timing['signals'].median_us:.0f} us"
    return Figure("decision engine, 100 rules", f"{total:.3f} ms ({parts})", "<= 0.2 ms", total <= 0.2)


async def served(prompts: Prompts) -> list[Figure]:
    # Of all three routers only one works at a time. A limit that nothing reaches: no fallback may look fast.
    plain = {"WEIR_ROUTING__RUNTIME__TIME_LIMIT_MS": "60000"}
    uncached = plain | {"WEIR_ROUTING__RUNTIME__CACHE_ENTRIES": "0"}
    async with (
        upstreams() as upstream,
        running_router(upstream, plain, traced=True) as traced,
        running_router(upstream, uncached) as on,
        running_router(upstream, uncached | {"WEIR_ROUTING__RUNTIME__MAX_BATCH": "1"}) as off,
    ):
        again = await identical(traced, prompts)
        return [*await latency(on, prompts), *again, *await batching(on, off, prompts)]


def show(figures: list[Figure]) -> None:
    table = Table("what", "measured", "target", "")
    for figure in figures:
        verdict = {True: "met", False: "missed"}.get(figure.met, "") if figure.met is not None else ""
        table.add_row(figure.what, figure.measured, figure.target, verdict)
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=Path, help="first classifier; the packaged one where absent")
    parser.add_argument("--large", type=Path, help="the cascade's classifier")
    parser.add_argument("--data", type=Path, help="labeled rows for the cascade")
    given = parser.parse_args()
    prompts = Prompts(open_tokenizer(artifact.PACKAGED / artifact.TOKENIZER))
    figures = [*asyncio.run(served(prompts)), engine()]
    if given.large and given.data:
        from router_cascade import cascade

        figures += [Figure(*row) for row in cascade(given.small, given.large, given.data)]
    show(figures)


if __name__ == "__main__":
    main()
