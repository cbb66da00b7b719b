"""Total speed of eight sessions at once, beside one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from weir.cli.verification.bench import Bench
from weir.cli.verification.figures import Figure, at_least
from weir.cli.verification.speed import warm
from weir.cli.verification.streams import Answer, verified

AT_ONCE, TURNS = 8, 2


async def sessions(bench: Bench) -> list[Figure]:
    """Answer eight prompts at once and one by one, in turns."""
    count = -(-AT_ONCE // len(bench.prompts))
    prompts = (bench.prompts * count)[:AT_ONCE]
    rates: dict[bool, list[float]] = {True: [], False: []}
    await warm(bench)
    for _ in range(TURNS):
        for together in (False, True):
            started = time.perf_counter()
            if together:
                answers = await asyncio.gather(*(verified(bench.hybrid, prompt) for prompt in prompts))
            else:
                answers = [await verified(bench.hybrid, prompt) for prompt in prompts]
            rates[together].append(_tokens(answers) / (time.perf_counter() - started))
    eight, one = (sum(rates[together]) / TURNS for together in (True, False))
    detail = f"{eight:.1f} ÷ {one:.1f} tokens/s, whole answers"
    return [at_least(bench.name, f"{AT_ONCE} sessions at once ÷ 1", eight / one, 2.0, detail, one=one)]


def _tokens(answers: Sequence[Answer]) -> int:
    return sum(len(answer.ids) for answer in answers)
