"""How the heads do on subjects that they were not trained on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from weir.router.classifier.artifact import ArtifactMetadata
from weir.router.classifier.model import calibrated
from weir.router.training import heads
from weir.router.training.dataset import Dataset
from weir.router.training.evaluation import Predictions
from weir.router.training.heads import Heads, Labels

Rows = npt.NDArray[np.float32]


def unseen_subjects(
    train: Labels, train_rows: Rows, test: Dataset, test_rows: Rows, fitted: tuple[Heads, ArtifactMetadata]
) -> Predictions:
    """Predict each test row by heads fitted without any training row of its subject.

    The subjects are left out in five parts; penalties and calibration stay those that were chosen before.
    Test rows of subjects that ``train`` lacks are predicted by the first part's heads.
    """
    whole, metadata = fitted
    complexity = np.full(len(test.rows), np.nan)
    gain = np.full(len(test.rows), np.nan)
    for kept, left in heads.folds(train, grouped=True):
        part = heads.fit_events(
            train_rows[kept], whole.design.dimensions, train.where(np.flatnonzero(kept)), whole.penalties
        )
        rows = np.isin(test.subjects, train.subjects[left]) | (
            ~np.isin(test.subjects, train.subjects) & np.isnan(gain)
        )
        complexity[rows] = calibrated(part.complexity(test_rows[rows]), metadata.calibration)
        gain[rows] = part.gain(test_rows[rows])
    return Predictions(complexity, gain)
