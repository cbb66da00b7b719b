"""The cascade: the small classifier decides where it is sure; only doubtful prompts pay for the large one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from weir.common.config import routing as config
from weir.common.errors import ErrorCode, WeirError
from weir.router.classifier.base import Assessment, Judgment, PromptClassifier, Role
from weir.router.classifier.batching import Batcher
from weir.router.classifier.conformal import PredictionSets, prediction_sets
from weir.router.classifier.limits import Guard, NotJudgedError


@runtime_checkable
class Calibrated(Protocol):
    """A classifier with conformal quantiles (see ``conformal.conformal_quantiles``)."""

    @property
    def conformal(self) -> Mapping[str, Sequence[float]]: ...  # noqa: D102


def sets_of(classifier: PromptClassifier, settings: config.Cascade) -> PredictionSets:
    """Return when the classifier is in doubt. Raises WeirError MODEL_UNAVAILABLE without calibration."""
    quantiles = classifier.conformal if isinstance(classifier, Calibrated) else {}
    try:
        return prediction_sets(quantiles, settings.error_rate, class_conditional=settings.class_conditional)
    except ValueError as error:
        hint = (
            "routing.cascade needs a first classifier with conformal calibration; "
            "train it again with `weir router train`."
        )
        raise WeirError(ErrorCode.MODEL_UNAVAILABLE, hint, internal=str(error)) from None


def sets_if_known(classifier: PromptClassifier, settings: config.Cascade) -> PredictionSets | None:
    """Return when the classifier is in doubt, ``None`` where its artifact does not say."""
    with suppress(WeirError):
        return sets_of(classifier, settings)
    return None


@dataclass(frozen=True, slots=True)
class Stage:
    """A classifier with what watches over it."""

    batcher: Batcher
    guard: Guard


@dataclass(frozen=True, slots=True)
class Cascade:
    """One or two classifiers that judge together within ``limit_s`` seconds.

    Attributes:
        small: judges every prompt.
        large: judges those of which ``sets`` says that the small one is in doubt; ``None``: there is none.
        limit_s: for both together.
        role: told in every judgment.
    """

    small: Stage
    large: Stage | None
    sets: PredictionSets | None
    limit_s: float
    role: Role = "present"

    @property
    def revision(self) -> str:
        """Names all that decides: both revisions where there are two."""
        stages = [stage for stage in (self.small, self.large) if stage]
        return "+".join(stage.batcher.classifier.revision for stage in stages)

    async def judge(self, text: str) -> Judgment:
        """Judge a prompt; a prior stands in for the small classifier, and the small one for the large."""
        deadline = asyncio.get_running_loop().time() + self.limit_s
        try:
            found = await self.small.guard.assess(self.small.batcher, text, deadline)
        except NotJudgedError as error:
            prior = self.small.batcher.classifier.prior
            return Judgment(prior, self.revision, "prior", self.role, f"classifier_{error.cause}")
        if self.sets and self.sets.doubtful(found.complexity):
            found = replace(found, doubtful=True)
            if self.large:
                return await self._ask_large(self.large, text, found, deadline)
        return Judgment(found, self.revision, "classifier", self.role)

    async def _ask_large(self, large: Stage, text: str, small: Assessment, deadline: float) -> Judgment:
        try:
            found = await large.guard.assess(large.batcher, text, deadline)
        except NotJudgedError as error:
            return Judgment(small, self.revision, "classifier", self.role, f"cascade_{error.cause}")
        return Judgment(found, self.revision, "cascade", self.role)
