"""Every way of storing the encoder, measured by routing quality, closeness to fp32, size and speed."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from weir.router.classifier import artifact
from weir.router.classifier.encoder import Encoder
from weir.router.classifier.text import Wordpieces
from weir.router.training import heads, metrics, source
from weir.router.training.dataset import Dataset
from weir.router.training.evaluation import Table
from weir.router.training.pipeline import Rows, Say, features_of, labels_of, write_encoder
from weir.router.training.quantize import SCHEMES

COLUMNS = ("mb", "cosine", "lowest_cosine", "auroc", "apgr", "ece", "ms_16", "ms_64", "ms_256")
_LENGTHS = (16, 64, 256)
_RUNS = 30


def compare(train: Dataset, validation: Dataset, encoder: Path | None, say: Say) -> Table:
    """Return one line for each scheme: heads fitted on the exact encoder, then fed by each quantized one."""
    table: Table = {}
    opened: dict[str, Encoder] = {}
    with tempfile.TemporaryDirectory() as scratch:
        origin = source.origin(encoder, Path(scratch))
        exact = write_encoder(origin, _folder(scratch, "fp32"), "fp32", train)
        say("embedding the training prompts")
        fitted = heads.fit(features_of(exact, train), exact.facts.dimensions, labels_of(train))
        reference = features_of(exact, validation)
        for scheme in SCHEMES:
            say(scheme)
            folder = _folder(scratch, scheme)
            tried = write_encoder(origin, folder, scheme, train)
            rows = features_of(tried, validation)
            table[scheme] = (
                {"mb": (folder / artifact.MODEL).stat().st_size / 1e6}
                | _closeness(rows, reference, exact)
                | _quality(fitted, rows, validation)
            )
            opened[scheme] = tried
        for scheme, times in _median_ms(opened).items():
            table[scheme] |= times
    return table


def _folder(scratch: str, scheme: str) -> Path:
    folder = Path(scratch) / f"scheme-{scheme}"
    folder.mkdir(exist_ok=True)
    return folder


def _closeness(rows: Rows, reference: Rows, exact: Encoder) -> dict[str, float]:
    size = exact.facts.dimensions
    cosine = np.sum(rows[:, :size] * reference[:, :size], axis=1)
    return {"cosine": float(cosine.mean()), "lowest_cosine": float(cosine.min())}


def _quality(fitted: heads.Heads, rows: Rows, data: Dataset) -> dict[str, float]:
    complexity = fitted.complexity(rows)
    return {
        "auroc": metrics.auroc(complexity, ~data.weak),
        "apgr": metrics.apgr(fitted.gain(rows), data.weak, data.strong),
        "ece": metrics.ece(complexity, ~data.weak),
    }


def _median_ms(opened: dict[str, Encoder]) -> Table:
    """Time all schemes in turn, so that whatever else the machine does falls on each alike."""
    generator = np.random.default_rng(0)
    pieces = {n: Wordpieces(generator.integers(1000, 30000, n), n) for n in _LENGTHS}
    times: dict[str, dict[int, list[float]]] = {name: {n: [] for n in _LENGTHS} for name in opened}
    for _ in range(_RUNS):
        for name, encoder in opened.items():
            for length, prompt in pieces.items():
                start = time.perf_counter()
                encoder.embed([prompt])
                times[name][length].append(time.perf_counter() - start)
    return {
        name: {f"ms_{n}": float(np.median(found[n]) * 1000) for n in _LENGTHS}
        for name, found in times.items()
    }
