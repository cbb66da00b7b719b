"""From requests to choices: the classifier judges, then the router's own eligibility and selection decide."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from weir.common.config import Settings
from weir.common.errors import WeirError
from weir.common.prompts import PromptSpec
from weir.engines.base import Constraint, Sampling
from weir.router import pricing
from weir.router.audit.entries import Entry
from weir.router.audit.prices import PriceBook
from weir.router.audit.report import Judged
from weir.router.case import Bounds, Case
from weir.router.classifier.base import Assessment, Judgment, PromptClassifier
from weir.router.classifier.text import routing_text
from weir.router.control.choice import chosen
from weir.router.domain import Policy, Residency, Tier, TierState
from weir.router.engine import DecisionEngine
from weir.router.facts import measure
from weir.router.fleet import FRONTIER_CONSTRAINTS, LOCAL_CONSTRAINTS
from weir.router.signals.base import Observation
from weir.router.signals.conversation import ConversationMemory
from weir.router.signals.panel import Panel

BATCH = 32
# Tokens of an answer where the log tells of none, and the answers that it takes to go by the log's own.
ANSWER_TOKENS = 250
ENOUGH_ANSWERS = 20


@dataclass(frozen=True, slots=True)
class Weighed:
    """One request as the choice sees it; without a case nobody may answer, for ``refusal``'s reason.

    ``personal_data`` names the kinds that the prompt holds.
    """

    entry: Entry
    text: str
    assessment: Assessment
    case: Case | None
    states: dict[Tier, TierState]
    completion_tokens: float
    today_usd: float
    personal_data: frozenset[str]
    refusal: str = ""

    def judged(self, bounds: Bounds) -> Judged:
        """Choose under bounds."""
        tier = chosen(self.case, bounds) if self.case else None
        refusal = self.refusal or ("" if tier else "fallback_forbidden")
        return Judged(
            self.entry, self.text, self.assessment, self.case, tier,
            self.completion_tokens, self.today_usd, self.cost_usd(tier), self.personal_data, refusal,
        )  # fmt: skip

    def cost_usd(self, tier: Tier | None) -> float:
        """Return the cost in a tier: as today at the frontier, and where nobody may answer."""
        if tier is None or tier is Tier.FRONTIER:
            return self.today_usd
        return pricing.cost_usd(self.states[tier], self.entry.prompt_tokens, self.completion_tokens)


class Scales:
    """Weighs requests as a router with these settings would, with all tiers up and nothing measured yet."""

    def __init__(self, settings: Settings, book: PriceBook, revision: str) -> None:
        self._book, self._revision = book, revision
        self._states = _states(settings)
        self._policy = Policy(Residency(settings.routing.default_residency), stated=False)
        self._panel = Panel(settings.tiers.hybrid.recovered_gain, ConversationMemory())
        self._engine = DecisionEngine(settings)

    async def weigh(
        self, entry: Entry, assessment: Assessment, bounds: Bounds, answer_tokens: float
    ) -> Weighed:
        """Make the case of a request; ``answer_tokens`` counts where the log tells nothing of the answer."""
        told = entry.completion_tokens
        tokens = answer_tokens if told is None else float(told)
        prompt, states = _prompt(entry), self._states_for(entry, tokens)
        facts = replace(measure(prompt, self._policy), prompt_tokens=entry.prompt_tokens)
        seen = Observation(prompt, facts, "", routing_text(prompt.messages), states)
        words = await self._panel.read_text(seen)
        case, refusal = None, ""
        try:
            facts, allowed = self._engine.admit(seen, words)
            seen = replace(seen, facts=facts, judgment=Judgment(assessment, self._revision))
            case = self._engine.decide(seen, self._panel.read(seen, words), allowed, bounds).case
        except WeirError as error:
            refusal = error.code.value
        today = self._book.cost_usd(entry, tokens)
        return Weighed(
            entry, seen.text, assessment, case, states, tokens, today, words.personal_data, refusal
        )

    def _states_for(self, entry: Entry, tokens: float) -> dict[Tier, TierState]:
        rate = self._book.rate(entry.model)
        known = {tier: replace(state, mean_completion_tokens=tokens) for tier, state in self._states.items()}
        known[Tier.FRONTIER] = replace(
            known[Tier.FRONTIER], input_usd_per_million=rate.input, output_usd_per_million=rate.output
        )
        return known


def assess(
    classifier: PromptClassifier, entries: Sequence[Entry], progress: Callable[[float], None]
) -> Iterator[tuple[Entry, Assessment]]:
    """Yield each entry with what the classifier says; equal texts are judged once.

    Prompts of like length are judged together, so that little is lost to padding. ``progress`` is told the
    share that is done.
    """
    texts = [routing_text(entry.messages) for entry in entries]
    ranked = sorted(set(texts), key=len)
    known: dict[str, Assessment] = {}
    for start in range(0, len(ranked), BATCH):
        batch = ranked[start : start + BATCH]
        known.update(zip(batch, classifier.assess(batch), strict=True))
        progress(len(known) / len(ranked))
    return ((entry, known[text]) for entry, text in zip(entries, texts, strict=True))


def answer_tokens(entries: Sequence[Entry]) -> float:
    """Return the tokens to expect of an answer that the log does not tell of: the mean of those it does."""
    known = [entry.completion_tokens for entry in entries if entry.completion_tokens is not None]
    return statistics.fmean(known) if len(known) >= ENOUGH_ANSWERS else ANSWER_TOKENS


def _prompt(entry: Entry) -> PromptSpec:
    # The schema itself decides nothing here, only that there is one.
    constraint = Constraint("json_schema", ("{}",)) if entry.constraint else None
    return PromptSpec(entry.messages, Sampling(max_tokens=entry.max_tokens), constraint)


def _states(settings: Settings) -> dict[Tier, TierState]:
    tiers = settings.tiers
    drafts, verifies = tiers.slm.run, tiers.hybrid.run
    return {
        Tier.SLM: TierState(
            Tier.SLM,
            tiers.slm.model_id,
            max_context=tiers.slm.max_context,
            default_max_tokens=tiers.slm.max_tokens,
            constraints=LOCAL_CONSTRAINTS,
            adapters=tuple(sorted(tiers.slm.domains.items())),
            input_usd_per_million=drafts.input_usd_per_million,
            output_usd_per_million=drafts.output_usd_per_million,
        ),
        Tier.HYBRID: TierState(
            Tier.HYBRID,
            tiers.hybrid.verifier_model,
            max_context=tiers.hybrid.max_context,
            default_max_tokens=tiers.hybrid.max_tokens,
            constraints=LOCAL_CONSTRAINTS,
            input_usd_per_million=verifies.input_usd_per_million + drafts.input_usd_per_million,
            output_usd_per_million=verifies.output_usd_per_million + drafts.output_usd_per_million,
        ),
        Tier.FRONTIER: TierState(
            Tier.FRONTIER,
            tiers.frontier.model_id,
            max_context=tiers.frontier.max_context,
            default_max_tokens=tiers.frontier.max_tokens,
            constraints=FRONTIER_CONSTRAINTS,
        ),
    }
