"""What a fine-tuning is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from weir.router.training.dataset import Dataset

Pooling = Literal["auto", "last", "mean", "cls"]
Precision = Literal["fp32", "fp16", "int8", "int4"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class Tuning:
    """How the trunk is trained.

    Attributes:
        layers: keep the trunk's first layers only; all where ``None``.
        freeze: leave the embeddings and this many of the first layers as they are.
        lora: rank of the low-rank updates (Hu et al. 2021, arXiv 2106.09685); 0 trains the weights.
        epochs: at most; training stops after ``patience`` evaluations without a lower validation loss.
        evaluations: of the validation rows, in each epoch.
        batch_tokens: a batch holds as many rows of like length as fit, padding included.
        rate: the trunk's peak learning rate; by default 2e-4 with LoRA and 3e-5 without. ``head_rate`` is
            that of the heads, which start at zero.
    """

    pooling: Pooling = "auto"
    layers: int | None = None
    freeze: int = 0
    lora: int = 0
    epochs: int = 3
    evaluations: int = 2
    patience: int = 3
    batch_tokens: int = 2048
    max_tokens: int = 256
    rate: float | None = None
    head_rate: float = 1e-3
    seed: int = 0

    @property
    def peak_rate(self) -> float:
        """The trunk's learning rate, with its default."""
        return self.rate or (2e-4 if self.lora else 3e-5)


@dataclass(frozen=True)
class Plan:
    """A folder with a Hugging Face trunk, labeled rows, and what to write."""

    trunk: Path
    train: Dataset
    validation: Dataset
    tuning: Tuning
    precision: Precision = "int8"
    weak_model: str = "unknown"
    strong_model: str = "unknown"
    data_license: str = "unknown"
    trunk_license: str = "unknown"


class TrunkError(ValueError):
    """The trunk cannot be used as asked; the message says why and what to do."""
