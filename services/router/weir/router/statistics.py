"""Measured latencies, costs and lengths per tier: means for estimates, windows for percentiles."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from weir.router.domain import Tier

WEIGHT = 0.2
# A mean without a sample for so long is forgotten, so that an avoided tier is tried again.
STALE_AFTER_S = 300.0
MAX_SAMPLES = 2048


class Mean:
    """An exponential moving average that knows its age."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._value = 0.0
        self._at = -math.inf

    def add(self, sample: float) -> None:
        """Add a sample."""
        known = self.value
        self._value = sample if known is None else known + WEIGHT * (sample - known)
        self._at = self._clock()

    @property
    def value(self) -> float | None:
        """The mean, ``None`` without recent samples."""
        return self._value if self._clock() - self._at < STALE_AFTER_S else None


class Window:
    """The samples of the last ``seconds``, the latest two thousand at most."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._samples: deque[tuple[float, float]] = deque(maxlen=MAX_SAMPLES)

    def add(self, sample: float) -> None:
        """Add a sample."""
        self._samples.append((self._clock(), sample))

    def samples(self) -> list[float]:
        """Return what is in the window."""
        oldest = self._clock() - self._seconds
        while self._samples and self._samples[0][0] < oldest:
            self._samples.popleft()
        return [sample for _, sample in self._samples]

    def mean(self) -> float | None:
        """Return the mean over the window."""
        samples = self.samples()
        return sum(samples) / len(samples) if samples else None

    def percentile(self, share: float) -> float | None:
        """Return the nearest-rank percentile, ``share`` in (0, 1]."""
        samples = sorted(self.samples())
        return samples[max(0, math.ceil(share * len(samples)) - 1)] if samples else None


@dataclass(slots=True)
class TierStatistics:
    """What is measured of one tier: seconds, tokens."""

    first_token_s: Mean
    latency_s: Mean
    completion_tokens: Mean
    first_tokens: Window


@dataclass(frozen=True, slots=True)
class Answer:
    """What a finished answer adds; ``schema_valid`` is ``None`` without a constraint."""

    tier: Tier
    first_token_s: float
    total_s: float
    completion_tokens: int
    cost_usd: float
    schema_valid: bool | None = None


@dataclass(slots=True)
class Statistics:
    """Everything measured over the window that the configuration names."""

    window_seconds: float
    clock: Callable[[], float] = time.monotonic
    tiers: dict[Tier, TierStatistics] = field(init=False)
    first_tokens: Window = field(init=False)
    costs: Window = field(init=False)
    schema_failures: Window = field(init=False)

    def __post_init__(self) -> None:
        self.tiers = {tier: self._fresh() for tier in Tier}
        self.first_tokens = self._window()
        self.costs = self._window()
        self.schema_failures = self._window()

    def add(self, answer: Answer) -> None:
        """Take a finished answer in."""
        tier = self.tiers[answer.tier]
        tier.first_token_s.add(answer.first_token_s)
        tier.latency_s.add(answer.total_s)
        tier.completion_tokens.add(answer.completion_tokens)
        tier.first_tokens.add(answer.first_token_s)
        self.first_tokens.add(answer.first_token_s)
        self.costs.add(answer.cost_usd)
        if answer.schema_valid is not None:
            self.schema_failures.add(0.0 if answer.schema_valid else 1.0)

    def _window(self) -> Window:
        return Window(self.window_seconds, self.clock)

    def _fresh(self) -> TierStatistics:
        return TierStatistics(Mean(self.clock), Mean(self.clock), Mean(self.clock), self._window())
