"""The packages that fine-tuning needs (extra ``weir[finetune]``), named where one is missing."""

from __future__ import annotations

import importlib.util

FINE_TUNING = ("torch", "transformers", "peft", "onnxscript")
EXPORTING = ("onnx", "onnx_ir", "safetensors", "sklearn")


class MissingPackageError(RuntimeError):
    """A package of an extra is not installed; the message says what to install."""


def require(names: tuple[str, ...], extra: str) -> None:
    """Raise MissingPackageError unless all ``names`` can be imported."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"This needs {', '.join(missing)}: install the extra with `pip install 'weir[{extra}]'`."
        )
