"""Every way of storing the encoder, measured by routing quality, closeness to fp32, size and speed."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from weir.router.classifier import artifact
from weir.router.classifier.encoder import Encoder
from weir.router.classifier.model import calibrated
from weir.router.classifier.text import Wordpieces
from weir.router.training import heads, metrics, source
from weir.router.training.dataset import Dataset
from weir.router.training.evaluation import Table
from weir.router.training.pipeline import Rows, Say, features_of, write_encoder
from weir.router.training.quantize import SCHEMES

COLUMNS = ("mb", "cosine", "lowest_cosine", "auroc", "apgr", "ece", "ms_16", "ms_64", "ms_256")
_RUNS = 30


def compare(train: Dataset, validation: Dataset, encoder: Path | None, say: Say) -> Table:
    """Return one line for each scheme: heads fitted on the exact encoder, then fed by each quantized one."""
    table: Table = {}
    with tempfile.TemporaryDirectory() as scratch:
        origin = source.origin(encoder, Path(scratch)).folder
        exact = write_encoder(origin, _folder(scratch, "fp32"), "fp32", train)
        say("embedding the training prompts")
        wrong = ~train.weak
        head = heads.fit_binary(features_of(exact, train), wrong, train.subjects)
        reference = features_of(exact, validation)
        for scheme in SCHEMES:
            say(scheme)
            folder = _folder(scratch, scheme)
            tried = write_encoder(origin, folder, scheme, train)
            rows = features_of(tried, validation)
            table[scheme] = (
                {"mb": (folder / artifact.ENCODER).stat().st_size / 1e6}
                | _closeness(rows, reference, exact)
                | _quality(head, rows, validation)
                | {f"ms_{length}": _median_ms(tried, length) for length in (16, 64, 256)}
            )
    return table


def _folder(scratch: str, scheme: str) -> Path:
    folder = Path(scratch) / f"scheme-{scheme}"
    folder.mkdir(exist_ok=True)
    return folder


def _closeness(rows: Rows, reference: Rows, exact: Encoder) -> dict[str, float]:
    size = exact.dimensions
    cosine = np.sum(rows[:, :size] * reference[:, :size], axis=1)
    return {"cosine": float(cosine.mean()), "lowest_cosine": float(cosine.min())}


def _quality(head: heads.BinaryHead, rows: Rows, data: Dataset) -> dict[str, float]:
    found = calibrated(head.model.predict_proba(rows)[:, 1], head.calibration)
    return {
        "auroc": metrics.auroc(found, ~data.weak),
        "apgr": metrics.apgr(found, data.weak, data.strong),
        "ece": metrics.ece(found, ~data.weak),
    }


def _median_ms(encoder: Encoder, length: int) -> float:
    pieces = Wordpieces(np.random.default_rng(0).integers(1000, 30000, length), length)
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        encoder.embed(pieces)
        times.append(time.perf_counter() - start)
    return float(np.median(times) * 1000)
