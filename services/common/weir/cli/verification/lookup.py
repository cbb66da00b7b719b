"""Prompt lookup: drafts copied from a prompt whose answer repeats it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from weir.cli.verification import installation as inst
from weir.cli.verification.bench import verifier_at, worker_at
from weir.cli.verification.figures import Figure, at_least
from weir.cli.verification.speed import Totals
from weir.cli.verification.streams import Answer, complete, verified
from weir.v1 import types_pb2

GAIN = 1.5
METHODS = ("lookup", "auto")


async def lookup(drafter: Path, target: Path, prompts: list[types_pb2.Prompt]) -> list[Figure]:
    """Answer prompts that ask for their own text, by both methods and by the target alone, in turns."""
    parts = {
        **{f"by {method}": inst.verifier(target) for method in METHODS},
        **{method: inst.worker(drafter, method=method) for method in METHODS},
        "alone": inst.worker(target),
    }
    answers: dict[str, list[Answer]] = {name: [] for name in (*METHODS, "alone")}
    async with AsyncExitStack() as stack:
        drafters = {f"by {method}": method for method in METHODS}
        running = await stack.enter_async_context(inst.installed(parts, drafters))
        stubs = {method: await verifier_at(stack, running[f"by {method}"]) for method in METHODS}
        worker = await worker_at(stack, running["alone"])
        for prompt in [prompts[0], *prompts]:
            for method, stub in stubs.items():
                answers[method].append(await verified(stub, prompt))
            answers["alone"].append(await complete(worker, prompt))
    # The first prompt warms them up.
    alone = answers["alone"][1:]
    return [_figure(target.stem, method, answers[method][1:], alone) for method in METHODS]


def _figure(name: str, method: str, answers: list[Answer], alone: list[Answer]) -> Figure:
    ours, theirs = Totals.of(answers), Totals.of(alone)
    stats = [answer.finished.stats for answer in answers]
    drafted, accepted = (sum(getattr(s, f"lookup_{n}") for s in stats) for n in ("drafted", "accepted"))
    share = accepted / drafted if drafted else 0.0
    detail = f"{ours.rate:.1f} ÷ {theirs.rate:.1f} tokens/s; {share:.0%} of {drafted} looked up stood"
    what = f"extraction, drafting {method} ÷ target alone"
    return at_least(name, what, ours.rate / theirs.rate, GAIN, detail, looked_up=drafted, stood=accepted)
