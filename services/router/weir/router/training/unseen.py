"""How the heads do on subjects that they were not trained on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupKFold

from weir.router.classifier import artifact
from weir.router.classifier.model import calibrated
from weir.router.training.dataset import Bools, Dataset
from weir.router.training.evaluation import Predictions
from weir.router.training.heads import BinaryHead, fit_binary
from weir.router.training.metrics import Floats

Rows = npt.NDArray[np.float32]
_FOLDS = 5


def unseen_subjects(
    train: Dataset, train_rows: Rows, test: Dataset, test_rows: Rows, fitted: Mapping[str, BinaryHead]
) -> Predictions:
    """Predict each test row by heads fitted and calibrated without any training row of its subject.

    The subjects are left out in five parts; the penalty stays the one that was chosen on all of ``train``.
    Test rows of subjects that ``train`` lacks are predicted by the first part's heads.
    """
    wrong = ~train.weak
    labels = {artifact.COMPLEXITY_HEAD: wrong, artifact.BENEFIT_HEAD: wrong & train.strong}
    found = {
        name: _without(train, train_rows, label, test, test_rows, fitted[name].strength)
        for name, label in labels.items()
    }
    return Predictions(found[artifact.COMPLEXITY_HEAD], found[artifact.BENEFIT_HEAD])


def _without(
    train: Dataset, train_rows: Rows, label: Bools, test: Dataset, test_rows: Rows, strength: float
) -> Floats:
    predicted = np.full(len(test.rows), np.nan)
    parts = GroupKFold(min(_FOLDS, len(set(train.subjects)))).split(train_rows, label, train.subjects)
    for kept, left in parts:
        head = fit_binary(train_rows[kept], label[kept], train.subjects[kept], strength)
        probabilities = calibrated(head.model.predict_proba(test_rows)[:, 1], head.calibration)
        rows = np.isin(test.subjects, train.subjects[left]) | (
            ~np.isin(test.subjects, train.subjects) & np.isnan(predicted)
        )
        predicted[rows] = probabilities[rows]
    return predicted
