"""What a cascade loses of its large classifier's routing quality, by the error rate that is allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weir.common.config.routing import Cascade
from weir.router.classifier.cascade import sets_of
from weir.router.classifier.model import Classifier
from weir.router.training import dataset, metrics
from weir.router.training.evaluation import predict

ERROR_RATES = (0.02, 0.05, 0.1, 0.2)
Row = tuple[str, str, str, bool | None]


def cascade(small_folder: Path | None, large_folder: Path, data: Path) -> list[Row]:
    """Return a row per error rate and one for either classifier alone; scores are the expected gains."""
    rows = dataset.read(data)
    small_classifier = Classifier.load(small_folder)
    small, large = predict(small_classifier, rows), predict(Classifier.load(large_folder), rows)
    alone = {
        name: metrics.apgr(found.gain, rows.weak, rows.strong)
        for name, found in (("small", small), ("large", large))
    }
    table: list[Row] = [
        (f"APGR of the {name} one alone", f"{apgr:.4f}", "", None) for name, apgr in alone.items()
    ]
    for error_rate in ERROR_RATES:
        for conditional in (False, True):
            settings = Cascade(error_rate=error_rate, class_conditional=conditional)
            sets = sets_of(small_classifier, settings)
            doubtful = np.array([sets.doubtful(p) for p in small.complexity])
            apgr = metrics.apgr(np.where(doubtful, large.gain, small.gain), rows.weak, rows.strong)
            lost = alone["large"] - apgr
            how = ", by class" if conditional else ""
            text = f"{lost:+.4f} lost, {doubtful.mean():.1%} of the prompts go to the large one"
            table.append((f"cascade at error rate {error_rate:g}{how}", text, "<= 0.005", lost <= 0.005))
    return table
