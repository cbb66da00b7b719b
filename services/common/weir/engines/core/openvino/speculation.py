"""Speculation inside OpenVINO GenAI: a draft model in the same pipeline, or lookup in the text so far."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openvino_genai as genai

from weir.engines.core.backend import RequestFailed
from weir.engines.core.openvino import ir_cache

_TOKENIZER = "openvino_tokenizer.xml"


@dataclass(frozen=True, slots=True)
class Speculation:
    """How a pipeline drafts: with the model in the folder ``draft``, or by lookup where that is ``None``.

    ``tokens`` are drafted at a time; a lookup matches ``max_ngram`` tokens or fewer.
    """

    tokens: int
    max_ngram: int
    draft: Path | None = None

    @property
    def samples(self) -> bool:
        """Whether it may be used above temperature 0.

        With a draft model the runtime handles a rejection one token late then: it ends the process or drops a
        word of the text (openvino.genai issue 4190, seen here with 2026.4.1).
        """
        return self.draft is None

    def properties(self) -> dict[str, Any]:
        """Return what the pipeline is built with."""
        if self.draft is None:
            return {"prompt_lookup": True}
        return {"draft_model": genai.draft_model(str(self.draft), "CPU")}

    def configure(self, config: genai.GenerationConfig) -> None:
        """Set what each request must carry."""
        config.num_assistant_tokens = self.tokens
        if self.draft is None:
            config.max_ngram_size = self.max_ngram


def folder_with_tokenizer(source: Path, cache: Path, convert: Callable[[Path], object]) -> Path:
    """Return the OpenVINO folder of a model with its tokenizer, which the runtime asks of both models.

    Args:
        source: such a folder, or a GGUF file, whose converted form is kept in ``cache``.
        convert: see ``ir_cache.convert``.

    Raises:
        RequestFailed: MODEL_UNAVAILABLE for a folder without one.
    """
    if source.is_dir():
        if not (source / _TOKENIZER).is_file():
            hint = (
                f"The folder '{source.name}' has no {_TOKENIZER}, which a draft model needs of both models: "
                "export it with its tokenizer (`optimum-cli export openvino`), or give a GGUF file."
            )
            raise RequestFailed("MODEL_UNAVAILABLE", hint)
        return source
    folder = ir_cache.entry(source, cache)
    if not ir_cache.is_complete(folder):
        ir_cache.convert(source, folder, convert)
    if not (folder / _TOKENIZER).is_file():
        _add_tokenizer(source, folder)
    return folder


def _add_tokenizer(source: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".tokenizing-", dir=folder.parent) as scratch:
        link = Path(scratch) / source.name
        link.symlink_to(source.resolve())
        genai.Tokenizer(str(link), enable_save_ov_model=True)
        made = Path(scratch).glob("openvino_*tokenizer.*")
        # The file that tells that all are there comes last.
        for path in sorted(made, key=lambda path: path.name == _TOKENIZER):
            path.replace(folder / path.name)
