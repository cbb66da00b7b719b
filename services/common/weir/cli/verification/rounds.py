"""What gRPC adds to a round: the services against the same loop in one process."""

from __future__ import annotations

import statistics
from contextlib import AsyncExitStack
from pathlib import Path

from weir.cli.verification import installation as inst
from weir.cli.verification.bench import verifier_at
from weir.cli.verification.figures import Figure
from weir.cli.verification.one_process import OneProcess
from weir.cli.verification.pair import pair_of
from weir.cli.verification.streams import Answer, verified
from weir.v1 import types_pb2

TURNS = 2
MAX_ADDED_MS = 2.0
# So many drafts in every round, one chunk at a time, so that both loops go through the same rounds.
FIXED = {"draft_tokens": 4, "overlap": "off"}


async def rounds(drafter: Path, target: Path, prompts: list[types_pb2.Prompt]) -> list[Figure]:
    """Answer the same prompts by both, in turns, and compare what a round took."""
    parts = {"hybrid": inst.verifier(target, tier=FIXED), "drafter": inst.worker(drafter)}
    added: list[float] = []
    here: list[float] = []
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(inst.installed(parts, {"hybrid": "drafter"}))
        stub = await verifier_at(stack, running["hybrid"])
        pair = await stack.enter_async_context(pair_of(drafter, target))
        tiers = {"slm": {"drafting": {"method": "model"}}, "hybrid": FIXED}
        local = OneProcess(pair, {"tiers": tiers})
        for prompt in [prompts[0], *prompts]:
            for _ in range(TURNS):
                one, other = await local.answer(prompt), await verified(stub, prompt)
                here.append(_round_s(one))
                added.append(_round_s(other) - here[-1])
    # The first prompt warms both up.
    added_ms = statistics.median(added[TURNS:]) * 1e3
    return [
        Figure(
            target.stem,
            "added to a round by gRPC, ms",
            f"{added_ms:.2f}  (on {statistics.median(here[TURNS:]) * 1e3:.1f} in one process)",
            f"<= {MAX_ADDED_MS:g}",
            added_ms <= MAX_ADDED_MS,
            {"value": added_ms},
        )
    ]


def _round_s(answer: Answer) -> float:
    """Return the mean time of the rounds behind the first."""
    rounds: int = answer.finished.rounds
    return answer.decode_s / max(1, rounds - 1)
