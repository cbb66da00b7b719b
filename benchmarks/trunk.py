"""What a classifier of the 1B class costs: tokens by batch, beside the encoder class, in one run.

    uv run python benchmarks/trunk.py --keep FOLDER [--precision int4] [--providers cuda cpu]

The stand-in is the embedded model, widened with zeros to 1.11 B parameters (`weir models widen`): it computes
like a model of that size and is no better than the small one. Making it takes about 13 GB of memory; `--keep`
keeps it, and a later run with the same folder takes it from there. The network alone is timed, as the router
calls it: tokenizing and the heads cost well under a millisecond.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from weir.common.config.model import EMBEDDED_MODEL, Models
from weir.models.gguf_weights import read_gguf
from weir.models.store import ModelStore
from weir.models.widening import Width, widen
from weir.router.classifier import artifact
from weir.router.classifier.encoder import session
from weir.router.classifier.lanes import Network
from weir.router.classifier.providers import CPU, Provider, available
from weir.router.training.trunk import precision
from weir.router.training.trunk.llama_graph import LlamaGraph
from weir.router.training.trunk.plan import PRECISIONS, Precision

WIDTH = Width(hidden=1536, intermediate=6144, heads=24, kv_heads=8)
LONGEST, ROUNDS, LEAST_ID, MOST_ID = 512, 3, 1_000, 29_000
CASES = [(64, 1), (64, 4), (64, 8), (512, 1), (512, 4), (512, 8)]


def widened(folder: Path, wanted: Precision) -> Path:
    """Return the stand-in's graph, made where the folder lacks it."""
    target = folder / f"{EMBEDDED_MODEL}-1b-{wanted}" / artifact.MODEL
    if target.is_file():
        return target
    source = asyncio.run(ModelStore(Models()).pull(EMBEDDED_MODEL)).path
    graph = LlamaGraph(widen(read_gguf(source), WIDTH), LONGEST).build("last")
    target.parent.mkdir(parents=True, exist_ok=True)
    precision.save(precision.convert(graph, wanted), target)
    return target


def network(path: Path, threads: int, providers: tuple[Provider, ...]) -> Network:
    return Network(path, lambda count: session(path, count, providers), threads, on_cpu=providers == CPU)


def prompts(tokens: int, count: int, draw: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    return [draw.integers(LEAST_ID, MOST_ID, tokens) for _ in range(count)]


@dataclass(frozen=True)
class Cost:
    """Milliseconds for one prompt: on the clock, and of processor time, which neighbors disturb less."""

    wall: float
    processor: float


def cost(judge: Network, tokens: int, count: int, draw: np.random.Generator) -> Cost:
    given = prompts(tokens, count, draw)
    wall, processor = time.perf_counter(), time.process_time()
    judge.embed(given)
    per_prompt = 1000 / count
    return Cost((time.perf_counter() - wall) * per_prompt, (time.process_time() - processor) * per_prompt)


def measure(large: Network, small: Network, rounds: int) -> Table:
    """Time each case in turns; medians for one prompt, ratios of processor time."""
    draw = np.random.default_rng(0)
    columns = ("tokens", "batch", "1B, ms", "spread", "processor, ms", "÷ encoder class", "÷ alone")
    grid = Table(*columns, caption="for one prompt; ratios of processor time")
    alone: dict[int, float] = {}
    for judge in (large, small):
        judge.embed(prompts(16, 1, draw))
    for tokens, count in CASES:
        pairs = [[cost(judge, tokens, count, draw) for judge in (large, small)] for _ in range(rounds)]
        walls = [one.wall for one, _ in pairs]
        processor = statistics.median(one.processor for one, _ in pairs)
        ratio = statistics.median(one.processor / other.processor for one, other in pairs)
        beside = processor / alone.setdefault(tokens, processor)
        spread = f"{min(walls):,.0f} to {max(walls):,.0f}"
        figures = (f"{statistics.median(walls):,.0f}", spread, f"{processor:,.0f}", f"{ratio:.0f}")
        grid.add_row(str(tokens), str(count), *figures, f"{beside:.2f}")
    return grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, required=True, help="Folder for the stand-in.")
    parser.add_argument("--precision", choices=PRECISIONS, default="int4")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--providers", nargs="+", choices=("tensorrt", "cuda", "cpu"), default=["cpu"])
    given = parser.parse_args()
    path = widened(given.keep, given.precision)
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    providers = available(given.providers)
    large = network(path, given.threads, providers)
    small = network(artifact.PACKAGED / artifact.MODEL, given.threads, CPU)
    console = Console(width=100)
    console.print(f"{given.precision}, {size / 1e6:,.0f} MB, {given.threads} threads, {providers}")
    console.print(measure(large, small, given.rounds))


if __name__ == "__main__":
    main()
