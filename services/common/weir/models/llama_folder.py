"""A Llama-type model as Hugging Face keeps it: configuration, named weights and the tokenizer's files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from weir.engines.text import gguf_tokenizer
from weir.engines.text.gguf_metadata import read_metadata

Array = npt.NDArray[np.floating[Any]]
Weights = dict[str, Array]
_COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


@dataclass(frozen=True)
class LlamaModel:
    """``config`` is that of config.json; ``weights`` carry the names of transformers' LlamaForCausalLM."""

    config: Mapping[str, Any]
    weights: Weights


def read_folder(folder: Path) -> LlamaModel:
    """Read config.json and every safetensors file of a folder; 16-bit weights are widened to float32.

    Raises:
        ValueError: a file is missing or damaged.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}/config.json cannot be read: {error}") from error
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} has no safetensors file")
    weights: Weights = {}
    for file in files:
        try:
            weights |= _read(file)
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged: {error}") from error
    return LlamaModel(config, weights)


def _read(file: Path) -> Weights:
    # Registers bfloat16 with NumPy, which safetensors needs to hand such weights over.
    import ml_dtypes  # noqa: F401

    with safe_open(file, framework="numpy") as stored:
        return {name: np.asarray(stored.get_tensor(name), np.float32) for name in stored.keys()}  # noqa: SIM118


def write_folder(model: LlamaModel, source: Path, out: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer of ``source``, a folder or a GGUF file.

    Raises:
        ValueError: the GGUF file's tokenizer is of a kind that is not known.
    """
    out.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        for name in _COPIED:
            if (source / name).is_file():
                shutil.copyfile(source / name, out / name)
    else:
        _write_tokenizer(source, out)
    (out / "config.json").write_text(json.dumps(dict(model.config), indent=2) + "\n", encoding="utf-8")
    save_file(model.weights, out / "model.safetensors", metadata={"format": "pt"})


def _write_tokenizer(gguf: Path, out: Path) -> None:
    metadata = read_metadata(gguf)
    tokenizer, vocabulary = gguf_tokenizer.build(metadata)
    tokenizer.save(str(out / "tokenizer.json"))
    names = {"bos_token": vocabulary.bos, "eos_token": vocabulary.eos}
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    config |= {key: name for key, name in names.items() if name}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if template := metadata.get("tokenizer.chat_template"):
        (out / "chat_template.jinja").write_text(template, encoding="utf-8")
