"""The classifier as the router sees it: one artifact, loaded once, asked from any thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weir.common.errors import ErrorCode, WeirError
from weir.router.classifier import artifact
from weir.router.classifier.artifact import ArtifactMetadata, Calibration
from weir.router.classifier.base import Assessment, DomainShare
from weir.router.classifier.encoder import THREADS, Encoder, session
from weir.router.classifier.providers import CPU, Provider

_WARM_UP = "How many wordpieces does a warm-up prompt need before the first real one is fast?"
_EDGE = 1e-6
# Domains less likely than this are not named.
_LEAST_DOMAIN = 0.05
Floats = npt.NDArray[np.float64]


def calibrated(score: npt.ArrayLike, calibration: Calibration) -> Floats:
    """Turn a head's raw probabilities into calibrated ones (see ``artifact.Calibration``)."""
    clipped = np.clip(np.asarray(score, np.float64), _EDGE, 1 - _EDGE)
    logit = np.log(clipped) - np.log1p(-clipped)
    if calibration.points:
        at, to = np.array(calibration.points).T
        logit = np.interp(logit, at, to) + logit - np.clip(logit, at[0], at[-1])
    result: Floats = 1 / (1 + np.exp(-(calibration.slope * logit + calibration.intercept)))
    return result


class Classifier:
    """A loaded artifact, of the encoder class or the 1B class alike. Thread-safe; ``assess`` blocks."""

    def __init__(
        self,
        folder: Path,
        metadata: ArtifactMetadata,
        threads: int = THREADS,
        providers: Sequence[Provider] = CPU,
    ) -> None:
        self.metadata = metadata
        self.encoder = Encoder(folder, metadata.model, threads, providers)
        self._heads = session(folder / artifact.HEADS, 1)

    @classmethod
    def load(
        cls, folder: Path | None = None, threads: int = THREADS, providers: Sequence[Provider] = CPU
    ) -> Classifier:
        """Check the hashes, open the models and run them once.

        Args:
            folder: an artifact made by ``weir router train``; the packaged one where ``None``.
            threads: of the network, on a CPU.
            providers: ONNX Runtime's execution providers, the preferred one first (see ``providers``).

        Raises:
            WeirError: MODEL_UNAVAILABLE for missing, changed or unreadable files.
        """
        where = folder or artifact.PACKAGED
        metadata = artifact.verify(where)
        try:
            loaded = cls(where, metadata, threads, providers)
            loaded.assess([_WARM_UP])
        # ONNX Runtime's exceptions share no public base class.
        except Exception as error:
            hint = (
                "The router classifier cannot be run here; check that onnxruntime is at least version 1.22."
            )
            raise WeirError(ErrorCode.MODEL_UNAVAILABLE, hint, internal=f"{where}: {error}") from error
        return loaded

    @property
    def revision(self) -> str:
        """The content hash that names it in every decision."""
        return self.metadata.revision

    @property
    def prior(self) -> Assessment:
        """What holds of a prompt of which nothing is known: the means over the training rows."""
        data = self.metadata.data
        return Assessment(1 - data.weak_accuracy, data.gain, 0, ())

    @property
    def conformal(self) -> dict[str, list[float]]:
        """Quantiles of the nonconformity on calibration rows (see ``conformal.conformal_quantiles``)."""
        return self.metadata.conformal

    def assess(self, texts: Sequence[str]) -> list[Assessment]:
        """Assess prompts (see ``text.routing_text`` for chats), padded to the longest. Blocks."""
        features, tokens = self.encoder.features(texts)
        return self.judge(features, tokens)

    def judge(self, features: npt.NDArray[np.float32], tokens: Sequence[int]) -> list[Assessment]:
        """Assess prompts by their feature rows (see ``Encoder.features``)."""
        events, domains = self._heads.run(["events", "domains"], {"features": features})
        complexity = calibrated(events[:, 0], self.metadata.calibration)
        gain = np.asarray(events[:, 1], np.float64)
        if not (np.isfinite(complexity).all() and np.isfinite(gain).all()):
            raise WeirError(ErrorCode.INTERNAL, internal="the classifier gave no finite probability")
        return [
            Assessment(float(c), float(np.clip(g, -1, 1)), count, self._domains(row))
            for c, g, count, row in zip(complexity, gain, tokens, domains, strict=True)
        ]

    def _domains(self, shares: npt.NDArray[np.float32]) -> tuple[DomainShare, ...]:
        likely = np.flatnonzero(shares >= _LEAST_DOMAIN)
        order = likely[np.argsort(-shares[likely], kind="stable")]
        return tuple(DomainShare(self.metadata.domains[i], float(shares[i])) for i in order)
