"""Decisions for the tests of the receipts."""

from __future__ import annotations

from weir.router.case import Bounds, Case, Estimate
from weir.router.classifier.base import Assessment, Judgment
from weir.router.domain import Decision, Exclusion, Facts, Policy, Reason, Tier

FACTS = Facts(prompt_tokens=20, max_tokens=None, constraint=None, policy=Policy())
PRIVATE = Facts(prompt_tokens=20, max_tokens=None, constraint=None, policy=Policy(no_store=True))


def decision(number: int = 1, complexity: float = 0.2) -> Decision:
    """Return the decision `d<number>`: the SLM, with the hybrid tier behind it and the frontier excluded."""
    return Decision(
        decision_id=f"d{number}",
        order=(Tier.SLM, Tier.HYBRID),
        model="small",
        complexity=complexity,
        confidence=0.8,
        estimated_latency_s=None,
        estimated_cost_usd=0.0,
        reasons=(Reason("low_complexity", "because"),),
        exclusions=(Exclusion(Tier.FRONTIER, Reason("residency", "stays")),),
        case=Case(
            complexity=complexity,
            gain=0.1,
            eligible=(Tier.SLM, Tier.HYBRID),
            exclusions={Tier.FRONTIER: "residency"},
            estimates={Tier.SLM: Estimate(0.8, 0.02, 0.3), Tier.HYBRID: Estimate(0.85)},
        ),
        bounds=Bounds(),
        judgment=Judgment(Assessment(complexity, 0.1, 12, ()), "r1"),
        signals=(("language", "en"), ("prompt_tokens", "20")),
        revisions={"classifier": "r1", "policy": "p1"},
    )
