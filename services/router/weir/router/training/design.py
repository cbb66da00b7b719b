"""The row that the heads read: the embedding, the form's numbers, and the products of any two of these.

The products are what lets a linear head say "long, where it is a word problem". Numbers are standardized and
clipped first, so that a prompt unlike all training prompts cannot run away with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLIP = 4.0
PRODUCT_CLIP = 8.0
_LEAST_SPREAD = 1e-4
Rows = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


def pairs(numbers: int) -> tuple[Indices, Indices]:
    """Return the two members of each product of ``numbers`` inputs, squares included."""
    return np.triu_indices(numbers)


@dataclass(frozen=True)
class Design:
    """Mean and spread of each feature over the training rows, float64 [dimensions + numbers]."""

    dimensions: int
    mean: Matrix
    spread: Matrix

    @classmethod
    def of(cls, features: Rows, dimensions: int) -> Design:
        """Measure the features of the training rows; what hardly varies counts for nothing."""
        spread = features.std(axis=0, dtype=np.float64)
        spread[spread < _LEAST_SPREAD] = np.inf
        return cls(dimensions, features.mean(axis=0, dtype=np.float64), spread)

    def rows(self, features: Rows) -> Matrix:
        """Return float64 [rows, dimensions + numbers + numbers * (numbers + 1) / 2]."""
        scaled = (features - self.mean) / self.spread
        embedding, form = np.split(scaled, [self.dimensions], axis=1)
        form = np.clip(form, -CLIP, CLIP)
        first, second = pairs(form.shape[1])
        products = np.clip(form[:, first] * form[:, second], -PRODUCT_CLIP, PRODUCT_CLIP)
        return np.concatenate([embedding, form, products], axis=1)
