"""The OpenVINO form of a GGUF model, converted once and kept.

Reading a GGUF file costs about 3.5 s of conversion; the converted model loads in half of that, and raw-logits
sessions need it. An entry is keyed by the file's identity and the runtime's version, written beside its final
name and renamed, so that a reader sees a whole entry or none.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import openvino

T = TypeVar("T")
MODEL = "openvino_model.xml"
_KEPT = (MODEL, "openvino_model.bin")


def entry(model: Path, cache: Path) -> Path:
    """Return the folder in which the converted form of ``model`` is, or would be."""
    facts = model.stat()
    identity = f"{model.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}\0{openvino.get_version()}"
    return cache / f"{model.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def is_complete(folder: Path) -> bool:
    """Whether the entry holds a model."""
    return all((folder / name).is_file() and (folder / name).stat().st_size > 0 for name in _KEPT)


def convert(model: Path, folder: Path, load: Callable[[Path], T]) -> T:
    """Convert into ``folder`` by calling ``load`` on a link to the model; return its result.

    ``load`` must write the converted model beside the file that it is given, as OpenVINO GenAI does.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    try:
        link = scratch / model.name
        link.symlink_to(model.resolve())
        loaded = load(link)
        link.unlink()
        if is_complete(scratch) and not is_complete(folder):
            shutil.rmtree(folder, ignore_errors=True)
            _publish(scratch, folder)
        return loaded
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _publish(scratch: Path, folder: Path) -> None:
    try:
        scratch.rename(folder)
    except OSError:
        if not is_complete(folder):  # otherwise another process was first
            raise
