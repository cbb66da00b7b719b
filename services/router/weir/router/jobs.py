"""What each tier is asked: its defaults filled in, and nothing allowed that eligibility forbids."""

from __future__ import annotations

from dataclasses import replace

from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.common.prompts import PromptSpec
from weir.router import pricing
from weir.router.domain import Residency, Tier
from weir.router.fleet import Fleet
from weir.router.planner import Plan
from weir.router.upstreams.streams import Job


class JobFactory:
    """Builds the request to one tier."""

    def __init__(self, settings: Settings, fleet: Fleet) -> None:
        self._hybrid = settings.tiers.hybrid
        self._fleet = fleet

    def build(self, plan: Plan, tier: Tier, spent_usd: float) -> tuple[Job, bool]:
        """Return the job, and whether the cost limit rather than the caller bounds its length.

        Raises:
            WeirError: COST_LIMIT when what was spent leaves nothing for an answer.
        """
        policy = plan.facts.policy
        left = None if policy.max_cost_usd is None else max(0.0, policy.max_cost_usd - spent_usd)
        prompt = self._filled(plan.ask.prompt, tier)
        capped = False
        if tier is not Tier.FRONTIER:
            affordable = pricing.affordable_tokens(plan.states[tier], plan.facts.prompt_tokens, left)
            wanted = prompt.sampling.max_tokens or self._fleet.tiers[tier].max_tokens
            if affordable is not None and affordable < wanted:
                if affordable == 0:
                    raise WeirError(ErrorCode.COST_LIMIT)
                prompt, capped = (
                    replace(prompt, sampling=replace(prompt.sampling, max_tokens=affordable)),
                    True,
                )
        job = Job(plan.ask.request_id, prompt, policy.residency, plan.adapter, left)
        return (self._hybrid_job(plan, job), capped) if tier is Tier.HYBRID else (job, capped)

    def _filled(self, prompt: PromptSpec, tier: Tier) -> PromptSpec:
        """Fill in the tier's configured sampling where the request left it open."""
        defaults, asked = self._fleet.tiers[tier], prompt.sampling
        sampling = replace(
            asked,
            max_tokens=asked.max_tokens or defaults.max_tokens,
            temperature=defaults.temperature if asked.temperature is None else asked.temperature,
            top_p=defaults.top_p if asked.top_p is None else asked.top_p,
        )
        return replace(prompt, sampling=sampling)

    def _hybrid_job(self, plan: Plan, job: Job) -> Job:
        """A verifier may escalate only where the frontier itself would be eligible and paid for."""
        escalates = Tier.FRONTIER in plan.decision.order
        if escalates and job.max_cost_usd is not None:
            escalates = pricing.most_cost_usd(plan.states[Tier.FRONTIER], plan.facts) <= job.max_cost_usd
        return replace(
            job,
            residency=job.residency if escalates else Residency.LOCAL_ONLY,
            min_probability=self._hybrid.min_probability,
            fallback_below=self._hybrid.fallback_below,
            takeover=self._hybrid.takeover,
            escalate_below=self._hybrid.escalate_below if escalates else 0.0,
            window=self._hybrid.window,
        )
