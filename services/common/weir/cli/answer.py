"""What an answer came to: collected from its events, told as facts."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from weir.client import Decision, Delta, Event, Finished, Handoff, Source, Tier


class Answer:
    """Collects the events of one generation; the clock starts when it is made."""

    def __init__(self) -> None:
        self.decision: Decision | None = None
        self.finished: Finished | None = None
        self.handoffs: list[Handoff] = []
        # Tokens by who produced them, 0 where tokens were not told, in the order of appearance.
        self.sources: dict[Source, int] = {}
        self._characters: dict[Source, int] = {}
        self.first_token_s: float | None = None
        self.total_s = 0.0
        self._parts: list[str] = []
        self._started = time.monotonic()

    def add(self, event: Event) -> None:
        """Take the next event."""
        self.total_s = time.monotonic() - self._started
        match event:
            case Decision():
                self.decision = event
            case Delta():
                self._add_delta(event)
            case Handoff():
                self.handoffs.append(event)
            case Finished():
                self.finished = event

    def _add_delta(self, delta: Delta) -> None:
        if self.first_token_s is None:
            self.first_token_s = self.total_s
        self._parts.append(delta.text)
        if delta.text:
            self.sources.setdefault(delta.source, 0)
            self._characters[delta.source] = self._characters.get(delta.source, 0) + len(delta.text)
        for token in delta.tokens:
            self.sources[token.source] = self.sources.get(token.source, 0) + 1

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._parts)

    @property
    def tokens(self) -> tuple[int, int]:
        """Prompt and completion tokens, over all attempts."""
        usage = self.finished.usage if self.finished else ()
        return sum(u.prompt_tokens for u in usage), sum(u.completion_tokens for u in usage)

    @property
    def tokens_per_s(self) -> float | None:
        """Completion tokens after the first, by the time since the first."""
        _, completion = self.tokens
        since_first = self.total_s - (self.first_token_s or 0.0)
        return (completion - 1) / since_first if completion > 1 and since_first > 0 else None

    @property
    def stand_in(self) -> bool:
        """Whether a stand-in answered for a model that is not configured."""
        return self.finished is not None and any(usage.stand_in for usage in self.finished.usage)

    @property
    def replay(self) -> bool:
        """Whether a recording was played."""
        return self.finished is not None and any(usage.replay for usage in self.finished.usage)

    @property
    def tier(self) -> str:
        """The tier that answered: after hand-overs, the last one."""
        last = self.handoffs[-1].to_tier if self.handoffs else self.decision.tier if self.decision else None
        return last.value if last else ""

    @property
    def mixed(self) -> bool:
        """Whether several wrote the answer, or might have: drafts under verification."""
        return len(self.sources) > 1 or bool(self.sources.keys() & {Source.DRAFT, Source.VERIFIER})

    @property
    def shares(self) -> dict[Source, float]:
        """The part of the answer that each source wrote: of its tokens, or of its characters.

        Tokens that were not told one by one, as a provider's, are taken from the usage of the source's tier;
        where that tells none either, characters are counted for all.
        """
        tokens = {source: count or self._used(source) for source, count in self.sources.items()}
        counts = tokens if all(tokens.values()) else self._characters
        total = sum(counts.values())
        return {source: counts.get(source, 0) / total for source in self.sources} if total else {}

    @property
    def drafting(self) -> str:
        """How much of what was drafted stood, as a continuation of the shares; empty where nothing was."""
        usage = self.finished.usage if self.finished else ()
        drafted = sum(u.drafted_tokens for u in usage)
        accepted = sum(u.accepted_tokens for u in usage)
        passes = sum(u.passes for u in usage)
        said = sum(u.completion_tokens for u in usage if u.passes)
        pace = f", {said / passes:.1f} tokens a pass" if passes else ""
        return f"; {accepted} of {drafted} drafted tokens stood{pace}" if drafted else ""

    def _used(self, source: Source) -> int:
        tier = {Source.SLM: Tier.SLM, Source.FRONTIER: Tier.FRONTIER}.get(source)
        usage = self.finished.usage if self.finished else ()
        return next((u.completion_tokens for u in reversed(usage) if u.tier is tier), 0) if tier else 0

    def facts(self) -> list[str]:
        """Return the parts of the one line: tier, why, tokens, first token, speed, cost."""
        reasons = ", ".join(reason.code for reason in self.decision.reasons) if self.decision else ""
        prompt, completion = self.tokens
        finished = self.finished
        return [
            self.tier + (" (stand-in)" if self.stand_in else " (replay)" if self.replay else ""),
            reasons,
            f"{prompt} → {completion} tokens",
            f"first token {self.first_token_s * 1000:.0f} ms" if self.first_token_s is not None else "",
            f"{self.tokens_per_s:.0f} tok/s" if self.tokens_per_s else "",
            _cost(finished.cost_usd, finished.frontier_cost_usd) if finished else "",
            "cut at the token limit" if finished and finished.finish_reason == "length" else "",
        ]

    def record(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        prompt, completion = self.tokens
        return {
            "text": self.text,
            "tier": self.tier,
            "model": self.decision.model if self.decision else "",
            "stand_in": self.stand_in,
            "replay": self.replay,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "time_to_first_token_s": self.first_token_s,
            "tokens_per_s": self.tokens_per_s,
            "total_s": self.total_s,
            "tokens_by_source": {source.value: count for source, count in self.sources.items()},
            "shares": {source.value: share for source, share in self.shares.items()},
            "decision": dataclasses.asdict(self.decision) if self.decision else None,
            "handoffs": [dataclasses.asdict(handoff) for handoff in self.handoffs],
            "finished": dataclasses.asdict(self.finished) if self.finished else None,
        }


def _cost(spent: float, frontier: float) -> str:
    saved = f", saved {dollars(frontier - spent)}" if frontier > spent else ""
    return f"{dollars(spent)}{saved}"


def dollars(amount: float) -> str:
    """Write an amount with two significant digits below a dollar."""
    if amount == 0:
        return "$0"
    if amount >= 1:
        return f"${amount:.2f}"
    return "$" + f"{float(f'{amount:.2g}'):.8f}".rstrip("0").rstrip(".")
