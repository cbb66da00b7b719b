"""What an audit says, as data: shares, money, quality and examples for each tier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from weir.router.audit.entries import Entry
from weir.router.audit.prices import PriceBook
from weir.router.case import Case
from weir.router.classifier.base import Assessment
from weir.router.domain import Tier

DAY_S = 86_400
YEAR_DAYS = 365.25
MONTH_DAYS = YEAR_DAYS / 12
EXAMPLES = 3
DOMAINS = 6
# A subject less likely than this is not named.
DOMAIN_PROBABILITY = 0.3
UNSURE = "no clear subject"


@dataclass(frozen=True, slots=True)
class Judged:
    """One request with its choice. ``tier`` is ``None`` where no tier may answer, ``refusal`` says why."""

    entry: Entry
    text: str
    assessment: Assessment
    case: Case | None
    tier: Tier | None
    completion_tokens: float
    today_usd: float
    weir_usd: float
    personal_data: frozenset[str] = frozenset()
    refusal: str = ""

    @property
    def domain(self) -> str:
        """The likeliest subject."""
        best = next(iter(self.assessment.domains), None)
        return best.name if best and best.probability >= DOMAIN_PROBABILITY else UNSURE

    @property
    def quality_today(self) -> float:
        """Probability that the strong model answers right."""
        return min(1.0, max(0.0, 1 - self.assessment.complexity + self.assessment.gain))

    @property
    def quality(self) -> float:
        """Probability of a right answer from the chosen tier; today's where nobody else may answer."""
        if self.case is None or self.tier is None:
            return self.quality_today
        return self.case.estimates[self.tier].quality


class Example(msgspec.Struct, frozen=True):
    """A prompt, shortened and masked, with the classifier's opinion."""

    where: str
    prompt: str
    complexity: float
    gain: float
    domain: str


class Group(msgspec.Struct, frozen=True):
    """Some of the prompts together: tokens as counted or estimated, USD, expected quality from 0 to 1."""

    prompts: int
    share: float
    prompt_tokens: int
    completion_tokens: int
    today_usd: float
    weir_usd: float
    saved_usd: float
    quality: float
    quality_today: float
    tiers: dict[str, float]


class Offer(msgspec.Struct, frozen=True):
    """What a cost per query comes to: ``kept`` of today's expected quality, ``saved`` of today's cost."""

    cost_usd: float
    kept: float
    weir_usd: float
    saved: float
    tiers: dict[str, float]


class Extrapolation(msgspec.Struct, frozen=True):
    """What the log's pace comes to, USD, over all of its usable rows."""

    days: float
    month_today_usd: float
    month_weir_usd: float
    year_today_usd: float
    year_weir_usd: float


class Labels(msgspec.Struct, frozen=True):
    """Whose answers the classifier learned from."""

    revision: str
    data: str
    rows: int
    weak_model: str
    strong_model: str


class Report(msgspec.Struct, frozen=True):
    """The whole audit. ``rows`` are the usable ones, of which ``judged`` were looked at."""

    file: str
    form: str
    encoding: str
    rows: int
    judged: int
    unusable: int
    problems: list[str]
    flawed: int
    flaws: list[str]
    rule: str
    classifier: Labels
    total: Group
    tiers: dict[str, Group]
    domains: dict[str, Group]
    offers: list[Offer]
    examples: dict[str, list[Example]]
    estimated_tokens: int
    unpriced_models: dict[str, int]
    price_bases: dict[str, int]
    fallback_price: str
    local_usd_per_million: dict[str, list[float]]
    refusals: dict[str, int]
    personal_data: dict[str, int]
    answer_tokens: float | None
    same_local_model: bool
    target_quality: float | None = None
    least_escalated: float | None = None
    extrapolation: Extrapolation | None = None
    no_extrapolation: str = ""


def group(rows: Sequence[Judged], of: int) -> Group:
    """Sum up some rows, ``of`` so many in all."""
    today = sum(row.today_usd for row in rows)
    weir = sum(row.weir_usd for row in rows)
    count = max(len(rows), 1)
    tiers = Counter(row.tier.value if row.tier else "none" for row in rows)
    return Group(
        prompts=len(rows),
        share=len(rows) / max(of, 1),
        prompt_tokens=sum(row.entry.prompt_tokens for row in rows),
        completion_tokens=round(sum(row.completion_tokens for row in rows)),
        today_usd=today,
        weir_usd=weir,
        saved_usd=today - weir,
        quality=sum(row.quality for row in rows) / count,
        quality_today=sum(row.quality_today for row in rows) / count,
        tiers={name: number / count for name, number in sorted(tiers.items())},
    )


def by_tier(rows: Sequence[Judged]) -> dict[str, Group]:
    """Group by the chosen tier, cheapest first."""
    chosen = {tier: [row for row in rows if row.tier is tier] for tier in Tier}
    return {tier.value: group(of_tier, len(rows)) for tier, of_tier in chosen.items()}


def by_domain(rows: Sequence[Judged]) -> dict[str, Group]:
    """Group by subject: those with the most money today."""
    found: dict[str, list[Judged]] = {}
    for row in rows:
        found.setdefault(row.domain, []).append(row)
    groups = {name: group(of_domain, len(rows)) for name, of_domain in found.items()}
    ranked = sorted(groups.items(), key=lambda item: (-item[1].today_usd, -item[1].prompts, item[0]))
    return dict(ranked[:DOMAINS])


def examples(rows: Sequence[Judged], shorten: Callable[[str], str]) -> dict[str, list[Example]]:
    """Pick for each tier different prompts from its easiest, middle and hardest third."""
    found: dict[str, list[Example]] = {}
    for tier in Tier:
        distinct = {row.text: row for row in rows if row.tier is tier}
        ranked = sorted(distinct.values(), key=lambda row: (row.assessment.complexity, row.text))
        places = sorted({(2 * i + 1) * len(ranked) // (2 * EXAMPLES) for i in range(EXAMPLES)})
        found[tier.value] = [_example(ranked[place], shorten) for place in places if ranked]
    return found


def _example(row: Judged, shorten: Callable[[str], str]) -> Example:
    judged = row.assessment
    return Example(row.entry.where, shorten(row.text), judged.complexity, judged.gain, row.domain)


def extrapolate(
    total: Group, scale: float, first_at: float | None, last_at: float | None
) -> tuple[Extrapolation | None, str]:
    """Return the log's pace, or why there is none to tell: less than a day says nothing of a month."""
    if first_at is None or last_at is None:
        return None, "the log has no timestamps"
    days = (last_at - first_at) / DAY_S
    if days < 1:
        return None, f"the log spans {days * 24:.1f} hours, less than a day"
    today, weir = total.today_usd * scale / days, total.weir_usd * scale / days
    return (
        Extrapolation(days, today * MONTH_DAYS, weir * MONTH_DAYS, today * YEAR_DAYS, weir * YEAR_DAYS),
        "",
    )


def price_bases(rows: Sequence[Judged], book: PriceBook) -> tuple[dict[str, int], dict[str, int]]:
    """Return by what how many requests were priced, and the models without a price, "" for unnamed ones."""
    bases: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for row in rows:
        rate = book.rate(row.entry.model)
        if row.entry.cost_usd is not None:
            bases["as the log states"] += 1
        elif rate.known:
            bases[f"{row.entry.model}: {rate.basis}"] += 1
        else:
            unknown[row.entry.model] += 1
    return dict(bases.most_common()), dict(unknown.most_common())
