"""The classifier as the router sees it: one artifact, loaded once, asked from any thread."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weir.common.errors import ErrorCode, WeirError
from weir.router.classifier import artifact
from weir.router.classifier.artifact import ArtifactMetadata, Calibration
from weir.router.classifier.encoder import THREADS, Encoder, session

_WARM_UP = "How many wordpieces does a warm-up prompt need before the first real one is fast?"
_EDGE = 1e-6
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the classifier says about one prompt.

    Attributes:
        complexity: calibrated probability that the small model's answer would not do, 0 to 1.
        benefit: calibrated probability that it would not do *and* that the strong model's would, 0 to 1: what
            an escalation is worth. Prompts that no model answers have a high complexity and a low benefit.
        tokens: the prompt's length in MiniLM wordpieces, untruncated (extrapolated past 65,536 characters).
        domain: the likeliest subject group, and ``domain_probability`` its probability.
    """

    complexity: float
    benefit: float
    tokens: int
    domain: str
    domain_probability: float

    @property
    def confidence(self) -> float:
        """Probability of the likelier outcome, 0.5 to 1: how sure the classifier is, whichever way it leans.

        It is not the probability that a choice against that outcome is right: a policy whose threshold is
        not 0.5 takes ``1 - complexity`` for the small model.
        """
        return max(self.complexity, 1.0 - self.complexity)


def calibrated(score: npt.ArrayLike, calibration: Calibration) -> npt.NDArray[np.float64]:
    """Turn a head's raw probabilities into calibrated ones (Platt scaling on the logit)."""
    clipped = np.clip(np.asarray(score, np.float64), _EDGE, 1 - _EDGE)
    logit = np.log(clipped / (1 - clipped))
    result: npt.NDArray[np.float64] = 1 / (1 + np.exp(-(calibration.slope * logit + calibration.intercept)))
    return result


class Classifier:
    """A loaded artifact. Thread-safe; ``classify`` blocks, so call it through ``asyncio.to_thread``."""

    def __init__(self, folder: Path, metadata: ArtifactMetadata, threads: int = THREADS) -> None:
        self.metadata = metadata
        self.revision = metadata.revision
        self._encoder = Encoder(
            folder / artifact.ENCODER, folder / artifact.TOKENIZER, metadata.encoder.max_tokens, threads
        )
        self._heads = {
            name: session(folder / name, 1)
            for name in (artifact.COMPLEXITY_HEAD, artifact.BENEFIT_HEAD, artifact.DOMAIN_HEAD)
        }

    @classmethod
    def load(cls, folder: Path | None = None, threads: int = THREADS) -> Classifier:
        """Check the hashes, open the models and run them once.

        Args:
            folder: an artifact made by ``weir router train``; the packaged one where ``None``.
            threads: of the encoder.

        Raises:
            WeirError: MODEL_UNAVAILABLE for missing, changed or unreadable files.
        """
        where = folder or artifact.PACKAGED
        metadata = artifact.verify(where)
        try:
            loaded = cls(where, metadata, threads)
            loaded.classify(_WARM_UP)
        # ONNX Runtime's exceptions share no public base class.
        except Exception as error:
            hint = (
                "The router classifier cannot be run here; check that onnxruntime is at least version 1.22."
            )
            raise WeirError(ErrorCode.MODEL_UNAVAILABLE, hint, internal=f"{where}: {error}") from error
        return loaded

    def classify(self, text: str) -> Assessment:
        """Assess one prompt (see ``text.routing_text`` for chats). Blocks for some milliseconds."""
        features, tokens = self._encoder.features(text)
        domains = self._run(artifact.DOMAIN_HEAD, features)
        best = int(np.argmax(domains))
        return Assessment(
            complexity=self._probability(artifact.COMPLEXITY_HEAD, features),
            benefit=self._probability(artifact.BENEFIT_HEAD, features),
            tokens=tokens,
            domain=self.metadata.domains[best],
            domain_probability=float(domains[best]),
        )

    def _run(self, head: str, features: Floats) -> Floats:
        probabilities: Floats = self._heads[head].run(None, {"features": features})[0][0]
        return probabilities

    def _probability(self, head: str, features: Floats) -> float:
        found = float(calibrated(self._run(head, features)[1], self.metadata.calibration[head]))
        if not math.isfinite(found):
            raise WeirError(ErrorCode.INTERNAL, internal=f"{head} gave no finite probability")
        return found
