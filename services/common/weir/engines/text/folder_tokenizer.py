"""A tokenizer from a model folder: ``tokenizer.json`` and the configuration files beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from weir.engines.text.vocabulary import Vocabulary, end_ids


def load(folder: Path) -> tuple[Tokenizer, Vocabulary, str]:
    """Return the tokenizer, its vocabulary and the chat template ("" where there is none).

    Raises:
        ValueError: no usable ``tokenizer.json``.
    """
    source = folder / "tokenizer.json"
    if not source.is_file():
        raise ValueError(f"{folder.name} has no tokenizer.json")
    text = source.read_text(encoding="utf-8")
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"{folder.name}/tokenizer.json cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    config = _json(folder / "tokenizer_config.json")
    return (
        tokenizer,
        _vocabulary(json.loads(text), config, _json(folder / "generation_config.json")),
        _template(folder, config),
    )


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content


def _vocabulary(spec: dict[str, Any], config: dict[str, Any], generation: dict[str, Any]) -> Vocabulary:
    model, added = spec["model"], spec.get("added_tokens", [])
    ids: dict[str, int] = dict(model["vocab"]) | {entry["content"]: entry["id"] for entry in added}
    tokens = [""] * (max(ids.values()) + 1)
    for token, index in ids.items():
        tokens[index] = token
    control = frozenset(entry["id"] for entry in added if entry["special"])
    bos, eos = _name(config.get("bos_token")), _name(config.get("eos_token"))
    listed = generation.get("eos_token_id", [])
    declared = [*(listed if isinstance(listed, list) else [listed])] + ([ids[eos]] if eos in ids else [])
    return Vocabulary(
        tokens=tuple(tokens),
        merges=tuple(m if isinstance(m, str) else " ".join(m) for m in model.get("merges", [])),
        byte_level=not model.get("byte_fallback", False),
        control=control,
        literal=frozenset(entry["id"] for entry in added if not entry["special"]),
        stop_ids=end_ids(tokens, control, declared),
        bos=bos,
        eos=eos,
    )


def _name(token: str | dict[str, Any] | None) -> str:
    return str(token["content"]) if isinstance(token, dict) else token or ""


def _template(folder: Path, config: dict[str, Any]) -> str:
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    declared = config.get("chat_template", "")
    if isinstance(declared, list):
        declared = next((entry["template"] for entry in declared if entry["name"] == "default"), "")
    return str(declared)


def context_length(folder: Path) -> int | None:
    """Return the context that the folder's ``config.json`` states, in tokens."""
    stated = _json(folder / "config.json").get("max_position_embeddings")
    return int(stated) if stated else None
