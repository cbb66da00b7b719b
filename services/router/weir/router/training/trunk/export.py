"""An artifact in another precision: the same heads and calibration on a smaller or larger model."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
import onnx

from weir.common.errors import WeirError
from weir.router.classifier import artifact
from weir.router.classifier.artifact import ArtifactMetadata
from weir.router.classifier.model import Classifier
from weir.router.training.dataset import Dataset
from weir.router.training.evaluation import measure, predict
from weir.router.training.trunk import precision
from weir.router.training.trunk.plan import Precision, TrunkError


def export(source: Path, wanted: Precision, out: Path, data: Dataset | None = None) -> ArtifactMetadata:
    """Write the float32 artifact in ``source`` to ``out`` as ``wanted``.

    Args:
        source: an artifact made with ``--precision fp32`` or ``--master``.
        wanted: the new precision.
        out: another folder.
        data: rows to measure both on; the metrics then tell before and after.

    Raises:
        TrunkError: ``source`` is no float32 artifact, is damaged, or is ``out`` itself.
    """
    if source.resolve() == out.resolve():
        raise TrunkError("--out has to be another folder than the artifact's.")
    try:
        metadata = artifact.verify(source)
    except WeirError as error:
        raise TrunkError(error.hint) from None
    model = onnx.load(source / artifact.MODEL)
    if not precision.is_float32(model):
        raise TrunkError(
            f"{source.name} is stored as {metadata.model.precision}; other precisions are made from float32, "
            "which `weir router train --trunk` keeps with --master."
        )
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        for name in (artifact.TOKENIZER, artifact.HEADS, "NOTICE"):
            if (source / name).is_file():
                shutil.copyfile(source / name, made / name)
        precision.save(precision.convert(model, wanted), made / artifact.MODEL)
        facts = msgspec.structs.replace(metadata.model, precision=wanted)
        changed = artifact.sealed(msgspec.structs.replace(metadata, model=facts, metrics={}), made)
        artifact.write_metadata(changed, made)
        if data is not None:
            table = {wanted: _measured(made, data), metadata.model.precision: _measured(source, data)}
            changed = msgspec.structs.replace(changed, metrics=table)
            artifact.write_metadata(changed, made)
        place(made, out)
    return changed


def place(made: Path, out: Path) -> None:
    """Move a finished artifact to ``out``; ``artifact.json`` last, as its hashes vouch for the others."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (*artifact.FILES, artifact.MODEL_DATA, "NOTICE", artifact.METADATA):
        if (made / name).is_file():
            shutil.move(made / name, out / name)
        else:
            (out / name).unlink(missing_ok=True)


def _measured(folder: Path, data: Dataset) -> dict[str, float]:
    rows = data.complete
    found = measure(predict(Classifier.load(folder), rows), rows)
    return {name: round(value, 4) for name, value in found.items()}
