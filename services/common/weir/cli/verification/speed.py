"""Tokens a second of the hybrid tier, beside the bound and beside the target alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from weir.cli.verification.bench import Bench
from weir.cli.verification.costs import CostMeter, Costs, bound
from weir.cli.verification.figures import Figure, at_least
from weir.cli.verification.streams import Answer, complete, verified
from weir.v1 import types_pb2

# From this acceptance on the hybrid tier must gain so much, or what the bound allows where that is less;
# below, it must cost next to nothing.
HIGH, GAIN, NEVER_LESS = 0.9, 1.8, 0.95
# Rounds by which the first trial of overlapped drafting is over and costs and acceptance are learned.
WARM_ROUNDS = 40
Ask = Callable[[types_pb2.Prompt], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Totals:
    """All answers of one way."""

    rate: float
    tokens: int
    whole_s: float

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Totals:
        """Sum up."""
        decoded, seconds = (sum(getattr(a, name) for a in answers) for name in ("decoded", "decode_s"))
        return cls(
            decoded / seconds if seconds else 0.0,
            sum(len(answer.ids) for answer in answers),
            sum(answer.total_s for answer in answers) / len(answers),
        )


@dataclass(frozen=True, slots=True)
class Rounds:
    """What the rounds of all answers came to."""

    acceptance: float
    drafted: float
    tokens: float

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Rounds:
        """Sum up; ``acceptance`` is of the drafts on which a verdict fell."""
        stats = [answer.finished.stats for answer in answers]
        judged = sum(sum(each.judged_by_position) for each in stats)
        accepted = sum(sum(each.accepted_by_position) for each in stats)
        drafted = sum(answer.finished.usage[0].drafted_tokens for answer in answers)
        rounds = sum(answer.finished.rounds for answer in answers)
        tokens = sum(len(answer.ids) for answer in answers)
        return cls(accepted / judged if judged else 0.0, drafted / rounds, tokens / rounds)


async def speed(bench: Bench) -> list[Figure]:
    """Measure in turns, prompt by prompt: costs, the hybrid tier, the target alone by both of its ways."""
    hybrid: list[Answer] = []
    alone: list[Answer] = []
    solo: list[Answer] = []
    ways: list[tuple[list[Answer], Ask]] = [
        (hybrid, lambda prompt: verified(bench.hybrid, prompt)),
        (alone, lambda prompt: complete(bench.alone, prompt)),
        (solo, lambda prompt: verified(bench.solo, prompt)),
    ]
    for _, ask in ways[1:]:
        await ask(bench.prompts[0])
    await warm(bench)
    async with CostMeter(bench.pair.drafter, bench.pair.target) as meter:
        for prompt in bench.prompts:
            for answers, ask in ways:
                await meter.sample()
                answers.append(await ask(prompt))
            # There and back, so that a drift of the machine's speed meets all alike.
            ways.reverse()
        costs = meter.costs
    return [
        *_costs(bench.name, costs),
        *_ratios(bench.name, costs, hybrid, solo, alone),
        _lossless(bench.name, hybrid, solo),
    ]


async def warm(bench: Bench) -> None:
    """Have the hybrid tier answer until it knows its own costs."""
    rounds, turn = 0, 0
    while rounds < WARM_ROUNDS:
        answer = await verified(bench.hybrid, bench.prompts[turn % len(bench.prompts)])
        rounds, turn = rounds + max(1, answer.finished.rounds), turn + 1


def _costs(name: str, costs: Costs) -> Iterable[Figure]:
    shown = ", ".join(f"{size}: {seconds * 1e3:.1f}" for size, seconds in costs.verify_s.items())
    values = {f"verify_{size}_ms": seconds * 1e3 for size, seconds in costs.verify_s.items()}
    yield Figure(name, "a draft step, ms", f"{costs.draft_s * 1e3:.1f}", values={"ms": costs.draft_s * 1e3})
    yield Figure(name, "verifying so many tokens, ms", shown, values=values)


def _ratios(
    name: str, costs: Costs, hybrid: list[Answer], solo: list[Answer], alone: list[Answer]
) -> Iterable[Figure]:
    rounds, ours = Rounds.of(hybrid), Totals.of(hybrid)
    most, length = bound(costs, rounds.acceptance)
    seen = rounds.tokens / costs.round(rounds.drafted)
    yield Figure(
        name,
        "acceptance; tokens drafted and gained a round",
        f"{rounds.acceptance:.3f}; {rounds.drafted:.2f}, {rounds.tokens:.2f}",
        values={"acceptance": rounds.acceptance, "drafted": rounds.drafted, "tokens": rounds.tokens},
    )
    detail = f"{ours.rate:.1f} of {most:.1f} tokens/s, {length} drafted a round"
    yield at_least(name, "hybrid ÷ bound", ours.rate / most, 0.9, detail, rate=ours.rate, bound=most)
    yield Figure(
        name,
        "hybrid ÷ what its own rounds allow",
        f"{ours.rate / seen:.2f}  ({seen:.1f} tokens/s)",
        values={"value": ours.rate / seen},
    )
    ways = {"Complete of a worker": Totals.of(alone), "verifier without drafts": Totals.of(solo)}
    way, best = max(ways.items(), key=lambda item: item[1].rate)
    yield _against(name, ours, best, way, most / best.rate, rounds.acceptance)
    for other, totals in ways.items():
        yield Figure(
            name,
            f"target alone by {other}, tokens/s; whole answer, s",
            f"{totals.rate:.1f}; {totals.whole_s:.2f} (hybrid {ours.whole_s:.2f})",
            values={"rate": totals.rate, "whole_s": totals.whole_s, "hybrid_whole_s": ours.whole_s},
        )


def _against(name: str, ours: Totals, best: Totals, way: str, possible: float, acceptance: float) -> Figure:
    ratio = ours.rate / best.rate
    what = "hybrid ÷ target alone, its faster way"
    detail = f"{best.rate:.1f} tokens/s by {way}; bound ÷ alone {possible:.2f}"
    if acceptance >= HIGH:
        return at_least(name, what, ratio, min(GAIN, possible), detail, possible=possible)
    return at_least(name, what, ratio, NEVER_LESS, detail, possible=possible)


def _lossless(name: str, hybrid: list[Answer], solo: list[Answer]) -> Figure:
    equal = sum(a.ids == b.ids for a, b in zip(hybrid, solo, strict=True))
    return Figure(
        name,
        "texts equal to the verifier's alone, token for token",
        f"{equal} of {len(hybrid)}",
        "all",
        equal == len(hybrid),
        {"equal": equal, "of": len(hybrid)},
    )
