"""What a verified generation is asked for and what it tells, in domain types."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from weir.common.prompts import PromptSpec
from weir.engines.base import TokenInfo
from weir.verifier.acceptance import Rule


class Source(StrEnum):
    """Who produced a piece of text."""

    DRAFT = "draft"
    VERIFIER = "verifier"
    FRONTIER = "frontier"


class Ending(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    BUDGET = "budget"


class Residency(StrEnum):
    """How far the content may travel."""

    LOCAL_ONLY = "local_only"
    REDACTED = "redacted"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Job:
    """One request for a verified answer; bounds as in ``escalation.Escalation``, 0 never escalates."""

    request_id: str
    spec: PromptSpec
    rule: Rule
    residency: Residency
    escalate_below: float
    window: int
    escalate_unsure_below: float = 0.0


@dataclass(frozen=True, slots=True)
class Delta:
    """New text of one source; a character of several tokens belongs to the one that completes it."""

    text: str
    tokens: tuple[TokenInfo, ...]
    source: Source


@dataclass(frozen=True, slots=True)
class Handoff:
    """The frontier takes over; the ``kept_tokens`` generated before it stand.

    With models named, the frontier has it already and another of its models takes over.
    """

    code: str
    detail: str
    kept_tokens: int
    from_model: str = ""
    to_model: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt on one model used; ``frontier`` tells the tier."""

    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    passes: int = 0
    cost_usd: float = 0.0
    stand_in: bool = False
    frontier: bool = False
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    provider: str = ""
    replay: bool = False


@dataclass(frozen=True, slots=True)
class Stats:
    """How an answer came about.

    Attributes:
        passes: forward passes of the verifier behind the prompt's.
        passed_tokens: tokens fed in them.
        draft_tokens: of the answer, by who wrote them; likewise ``verifier_tokens`` and ``frontier_tokens``.
        lookup_drafted: drafted without a model.
        lookup_accepted: of those, the ones that stood.
        judged_by_position: drafts at position i of their chunk on which a verdict fell.
        accepted_by_position: of those, the ones that stood.
        draft_s: seconds in the worker, drafting.
        verify_s: in the verifier's forward passes.
        wait_s: of the verifier for drafts.
        level: "token", "text", or "alone" where nothing was drafted.
    """

    passes: int = 0
    passed_tokens: int = 0
    draft_tokens: int = 0
    verifier_tokens: int = 0
    frontier_tokens: int = 0
    lookup_drafted: int = 0
    lookup_accepted: int = 0
    judged_by_position: tuple[int, ...] = ()
    accepted_by_position: tuple[int, ...] = ()
    draft_s: float = 0.0
    verify_s: float = 0.0
    wait_s: float = 0.0
    level: str = "alone"


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer; times in seconds since the request began."""

    ending: Ending
    attempts: tuple[Attempt, ...]
    rounds: int
    queue_s: float
    first_token_s: float
    total_s: float
    stats: Stats = Stats()


@dataclass(frozen=True, slots=True)
class FrontierEnd:
    """The end of the frontier's part."""

    ending: Ending
    attempts: tuple[Attempt, ...]


Event = Delta | Handoff | Finished
