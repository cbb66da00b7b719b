"""The artifact on disk: its metadata, and the check that its files are the ones that were measured."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from weir.common.errors import ErrorCode, WeirError

PACKAGED = Path(__file__).resolve().parent.parent / "artifact"
METADATA = "artifact.json"
ENCODER = "encoder.onnx"
TOKENIZER = "tokenizer.json"
COMPLEXITY_HEAD = "complexity.onnx"
BENEFIT_HEAD = "benefit.onnx"
DOMAIN_HEAD = "domain.onnx"
FILES = (ENCODER, TOKENIZER, COMPLEXITY_HEAD, BENEFIT_HEAD, DOMAIN_HEAD)
FORMAT = 1


class EncoderFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sentence encoder. Prompts past ``max_tokens`` keep their first and last wordpieces, half each."""

    name: str
    source: str
    source_sha256: str
    license: str
    quantization: str
    max_tokens: int
    dimensions: int


class DataFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the heads were trained on. ``sha256`` is that of the file; the models gave the labels."""

    name: str
    sha256: str
    rows: int
    license: str
    weak_model: str
    strong_model: str


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Platt scaling of a head's score: P = sigmoid(slope * logit(score) + intercept)."""

    slope: float
    intercept: float


class ArtifactMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything known about an artifact. ``metrics`` is row name → metric → value; see docs/classifier.md.

    ``revision`` is a hash over what decides the answers (files, labels, calibration, encoder), so neither
    the date nor the metrics move it.
    """

    format: int
    revision: str
    created: str
    license: str
    encoder: EncoderFacts
    data: DataFacts
    calibration: dict[str, Calibration]
    domains: list[str]
    files: dict[str, str]
    versions: dict[str, str]
    heads: dict[str, str]
    metrics: dict[str, dict[str, float]] = {}


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def revision_of(
    files: dict[str, str], domains: list[str], calibration: dict[str, Calibration], encoder: EncoderFacts
) -> str:
    """Return the content hash, 12 hex digits, that names an artifact in every decision."""
    content = msgspec.json.encode([files, domains, calibration, encoder], order="deterministic")
    return hashlib.sha256(content).hexdigest()[:12]


def read_metadata(folder: Path) -> ArtifactMetadata:
    """Read ``artifact.json`` alone. Raises WeirError MODEL_UNAVAILABLE."""
    try:
        content = (folder / METADATA).read_bytes()
    except OSError as error:
        raise _unusable(folder, f"{METADATA} cannot be read", str(error)) from None
    try:
        metadata = msgspec.json.decode(content, type=ArtifactMetadata)
    except msgspec.DecodeError as error:
        raise _unusable(folder, f"{METADATA} is not valid", str(error)) from None
    if metadata.format != FORMAT:
        raise _unusable(folder, f"it has format {metadata.format} where this version reads {FORMAT}")
    return metadata


def verify(folder: Path) -> ArtifactMetadata:
    """Read the metadata and check each file's hash against it. Raises WeirError MODEL_UNAVAILABLE."""
    metadata = read_metadata(folder)
    if set(metadata.files) != set(FILES) or set(metadata.calibration) != {COMPLEXITY_HEAD, BENEFIT_HEAD}:
        raise _unusable(folder, f"{METADATA} does not describe {', '.join(FILES)}")
    for name, expected in metadata.files.items():
        path = folder / name
        if not path.is_file():
            raise _unusable(folder, f"{name} is missing")
        if (found := sha256_of(path)) != expected:
            raise _unusable(folder, f"{name} is not the file that was recorded", f"{found} != {expected}")
    found = revision_of(metadata.files, metadata.domains, metadata.calibration, metadata.encoder)
    if found != metadata.revision:
        raise _unusable(folder, f"{METADATA} was changed after training", f"{found} != {metadata.revision}")
    return metadata


def _unusable(folder: Path, why: str, internal: str = "") -> WeirError:
    what, cure = (
        ("The packaged router classifier", "reinstall weir")
        if folder == PACKAGED
        else ("The router classifier named in routing.classifier", "train it again with `weir router train`")
    )
    hint = f"{what} cannot be used: {why}; {cure}."
    return WeirError(ErrorCode.MODEL_UNAVAILABLE, hint, internal=f"{folder}: {why} {internal}".rstrip())
