"""The artifact on disk: its metadata, and the check that its files are the ones that were measured."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from weir.common.errors import ErrorCode, WeirError

PACKAGED = Path(__file__).resolve().parent.parent / "artifact"
METADATA = "artifact.json"
MODEL = "model.onnx"
# Weights past what one ONNX file may hold.
MODEL_DATA = "model.onnx.data"
TOKENIZER = "tokenizer.json"
HEADS = "heads.onnx"
FILES = (MODEL, TOKENIZER, HEADS)
FORMAT = 2
EVENTS = ("complexity", "gain")


class ModelFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The network that embeds prompts.

    Prompts past ``max_tokens`` keep their first and last tokens, half each. ``begin`` and ``end`` are the
    token ids put around a prompt; ``dimensions`` is an embedding's length.
    """

    kind: Literal["encoder", "decoder"]
    name: str
    source: str
    source_sha256: str
    license: str
    precision: str
    max_tokens: int
    dimensions: int
    begin: list[int]
    end: list[int]


class DataFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What it was trained on. ``sha256`` is that of the file; the models gave the labels.

    ``weak_accuracy`` and ``gain`` are the means over the rows: what holds of a prompt of which nothing is
    known.
    """

    name: str
    sha256: str
    rows: int
    license: str
    weak_model: str
    strong_model: str
    domains: list[str]
    weak_accuracy: float
    gain: float


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """P = sigmoid(slope * bend(logit(s)) + intercept) of a head's score s in (0, 1).

    ``bend`` runs straight from one of ``points`` (logit in, logit out, neither falling) to the next, and with
    slope 1 beyond the outer ones. Without points it changes nothing, and that is Platt scaling (1999).
    """

    slope: float
    intercept: float
    points: list[tuple[float, float]] = []


class ArtifactMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything known about an artifact. ``metrics`` is row name → metric → value; see docs/classifier.md.

    ``revision`` is a hash over what decides the answers (files, labels, calibration, model), so neither the
    date nor the metrics move it. ``conformal`` holds quantiles of the nonconformity on calibration rows, by
    outcome (see ``conformal``).
    """

    format: int
    revision: str
    created: str
    license: str
    model: ModelFacts
    data: DataFacts
    calibration: Calibration
    conformal: dict[str, list[float]]
    domains: list[str]
    files: dict[str, str]
    versions: dict[str, str]
    heads: dict[str, str]
    metrics: dict[str, dict[str, float]] = {}


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def revision_of(metadata: ArtifactMetadata) -> str:
    """Return the content hash, 12 hex digits, that names an artifact in every decision."""
    decides = [metadata.files, metadata.domains, metadata.calibration, metadata.conformal, metadata.model]
    content = msgspec.json.encode(decides, order="deterministic")
    return hashlib.sha256(content).hexdigest()[:12]


def sealed(metadata: ArtifactMetadata, folder: Path) -> ArtifactMetadata:
    """Return the metadata with the hashes of the files in ``folder`` and the revision that follows."""
    names = [name for name in (*FILES, MODEL_DATA) if (folder / name).is_file()]
    hashed = msgspec.structs.replace(metadata, files={name: sha256_of(folder / name) for name in names})
    return msgspec.structs.replace(hashed, revision=revision_of(hashed))


def write_metadata(metadata: ArtifactMetadata, folder: Path) -> None:
    """Write ``artifact.json``; last of all files, as its hashes vouch for the others."""
    content = msgspec.json.format(msgspec.json.encode(metadata), indent=2)
    (folder / METADATA).write_bytes(content + b"\n")


def read_metadata(folder: Path) -> ArtifactMetadata:
    """Read ``artifact.json`` alone. Raises WeirError MODEL_UNAVAILABLE."""
    try:
        content = (folder / METADATA).read_bytes()
    except OSError as error:
        raise _unusable(folder, f"{METADATA} cannot be read", str(error)) from None
    try:
        found = msgspec.json.decode(content, type=_Versioned).format
        if found != FORMAT:
            raise _unusable(folder, f"it has format {found} where this version reads {FORMAT}")
        return msgspec.json.decode(content, type=ArtifactMetadata)
    except msgspec.DecodeError as error:
        raise _unusable(folder, f"{METADATA} is not valid", str(error)) from None


def verify(folder: Path) -> ArtifactMetadata:
    """Read the metadata and check each file's hash against it. Raises WeirError MODEL_UNAVAILABLE."""
    metadata = read_metadata(folder)
    if not set(FILES) <= set(metadata.files) <= {*FILES, MODEL_DATA}:
        raise _unusable(folder, f"{METADATA} does not describe {', '.join(FILES)}")
    for name, expected in metadata.files.items():
        path = folder / name
        if not path.is_file():
            raise _unusable(folder, f"{name} is missing")
        if (found := sha256_of(path)) != expected:
            raise _unusable(folder, f"{name} is not the file that was recorded", f"{found} != {expected}")
    if (found := revision_of(metadata)) != metadata.revision:
        raise _unusable(folder, f"{METADATA} was changed after training", f"{found} != {metadata.revision}")
    return metadata


class _Versioned(msgspec.Struct):
    format: int


def _unusable(folder: Path, why: str, internal: str = "") -> WeirError:
    what, cure = (
        ("The packaged router classifier", "reinstall weir")
        if folder == PACKAGED
        else (f"The router classifier in {folder.name}", "train it again with `weir router train`")
    )
    hint = f"{what} cannot be used: {why}; {cure}."
    return WeirError(ErrorCode.MODEL_UNAVAILABLE, hint, internal=f"{folder}: {why} {internal}".rstrip())
