"""Total speed of eight sessions at once, beside one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from weir.cli.verification.bench import Bench
from weir.cli.verification.figures import Figure, at_least
from weir.cli.verification.speed import warm
from weir.cli.verification.streams import Answer, verified
from weir.v1 import types_pb2

AT_ONCE, TURNS = 8, 2


@dataclass(slots=True)
class Speeds:
    """Tokens and seconds of several turns: of whole answers, and of what came behind each one's first delta.

    At once, decoding lasts from the first delta of any answer to the last of all.
    """

    tokens: int = 0
    seconds: float = 0.0
    decoded: int = 0
    decode_s: float = 0.0

    def add(self, answers: Sequence[Answer], wall_s: float, decode_s: float) -> None:
        """Take a turn."""
        self.tokens += sum(len(answer.ids) for answer in answers)
        self.seconds += wall_s
        self.decoded += sum(answer.decoded for answer in answers)
        self.decode_s += decode_s

    @property
    def whole(self) -> float:
        """Tokens a second of whole answers."""
        return self.tokens / self.seconds

    @property
    def decoding(self) -> float:
        """Tokens a second of decoding."""
        return self.decoded / self.decode_s


async def sessions(bench: Bench) -> list[Figure]:
    """Answer eight prompts at once and one by one, in turns, after one of each that warms up."""
    count = -(-AT_ONCE // len(bench.prompts))
    prompts = (bench.prompts * count)[:AT_ONCE]
    await warm(bench)
    await _at_once(bench, prompts, Speeds())
    eight, one = Speeds(), Speeds()
    for _ in range(TURNS):
        await _one_by_one(bench, prompts, one)
        await _at_once(bench, prompts, eight)
    ratio = eight.decoding / one.decoding
    detail = (
        f"{eight.decoding:.1f} ÷ {one.decoding:.1f} tokens/s; whole answers, prompts read included, "
        f"{eight.whole:.1f} ÷ {one.whole:.1f} = {eight.whole / one.whole:.2f}"
    )
    return [at_least(bench.name, f"{AT_ONCE} sessions at once ÷ 1", ratio, 2.0, detail, one=one.decoding)]


async def _at_once(bench: Bench, prompts: Sequence[types_pb2.Prompt], speeds: Speeds) -> None:
    started = time.perf_counter()
    answers = await asyncio.gather(*(verified(bench.hybrid, prompt) for prompt in prompts))
    wall_s = time.perf_counter() - started
    last = max(answer.first_s + answer.decode_s for answer in answers)
    speeds.add(answers, wall_s, last - min(answer.first_s for answer in answers))


async def _one_by_one(bench: Bench, prompts: Sequence[types_pb2.Prompt], speeds: Speeds) -> None:
    for prompt in prompts:
        answer = await verified(bench.hybrid, prompt)
        speeds.add([answer], answer.total_s, answer.decode_s)
