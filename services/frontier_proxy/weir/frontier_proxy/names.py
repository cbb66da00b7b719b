"""People's names in a text, by a token classification model of the operator's choice on ONNX Runtime."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tokenizers import Encoding, Tokenizer

from weir.common.config import ConfigError
from weir.frontier_proxy.redaction import UNSPACED

MODEL, TOKENIZER, CONFIG = "model.onnx", "tokenizer.json", "config.json"
# What models call the parts of a person's name, without the tagging scheme's letter, digits and underscores.
NAME_LABELS = frozenset(
    {"PER", "PERSON", "PERSONNAME", "NAME", "FULLNAME"}
    | {"FIRSTNAME", "GIVENNAME", "MIDDLENAME", "LASTNAME", "SURNAME", "FAMILYNAME"}
)
# Longer texts are read in windows; each sees this many tokens of the one before.
LONGEST_WINDOW, OVERLAP = 512, 64
# Probability of all name labels together from which on a token is part of a name.
THRESHOLD = 0.5
THREADS = 2

_SCHEME = re.compile(r"^[BIELSU]-|[\d_ -]")
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Between the parts of one name.
_JOINTS = re.compile("[ \t'\u2019.-]{1,2}\\Z")


class NameFinder:
    """Finds names. Safe to be used from several threads.

    Args:
        folder: with ``model.onnx`` (inputs of ``input_ids`` and so on, logits [batch, tokens, labels]),
            ``tokenizer.json`` and ``config.json`` (``id2label``, ``max_position_embeddings``), as exported
            from Hugging Face's token classifiers.

    Raises:
        ConfigError: a file is missing or unusable, or no label is a name's.
    """

    def __init__(self, folder: Path) -> None:
        config = _config(folder)
        self._labels = _name_labels(folder, config["id2label"])
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            self._session = _session(folder / MODEL)
        except Exception as error:  # both libraries raise classes of their own
            raise _unusable(folder, f"cannot be opened ({type(error).__name__})") from None
        window = min(LONGEST_WINDOW, int(config.get("max_position_embeddings") or LONGEST_WINDOW))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(window, stride=min(OVERLAP, window // 4))
        inputs = {entry.name for entry in self._session.get_inputs()}
        self._inputs = [name for name in _INPUTS if name in inputs]
        if inputs != set(self._inputs) or "input_ids" not in inputs:
            raise _unusable(folder, f"has other inputs than {', '.join(_INPUTS)}")
        self._check(folder, len(config["id2label"]))

    def _check(self, folder: Path, labels: int) -> None:
        shape = self._logits(self._tokenizer.encode("Ada Lovelace")).shape
        if len(shape) != 2 or shape[1] != labels:
            raise _unusable(folder, f"gives {shape[-1]} scores a token for {labels} labels")

    def __call__(self, text: str) -> list[str]:
        """Return the names in ``text`` as they are written there, each once; takes some milliseconds."""
        marked = bytearray(len(text))
        first = self._tokenizer.encode(text)
        for encoding in (first, *first.overflowing):
            for start, end in self._tokens(encoding):
                marked[start:end] = b"\1" * (end - start)
        found = (text[start:end] for start, end in _spans(text, marked))
        return list(dict.fromkeys(name for name in found if any(map(str.isalpha, name))))

    def _tokens(self, encoding: Encoding) -> Iterator[tuple[int, int]]:
        """Yield where tokens that are part of a name stand."""
        if not encoding.ids:
            return
        logits = self._logits(encoding).astype(np.float64)
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        named = scores[:, self._labels].sum(axis=1) / scores.sum(axis=1)
        for at in np.flatnonzero(named >= THRESHOLD):
            yield encoding.offsets[at]

    def _logits(self, encoding: Encoding) -> npt.NDArray[np.float32]:
        """Run the network; returns float32 [tokens, labels]."""
        values = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
        }
        feed = {name: np.array([values[name]], dtype=np.int64) for name in self._inputs}
        logits: npt.NDArray[np.float32] = self._session.run(None, feed)[0][0]
        return logits


def _spans(text: str, marked: bytearray) -> Iterator[tuple[int, int]]:
    """Join marked parts to names, and complete words of which the model marked a part only."""
    start = end = -1
    for run in re.finditer(rb"\x01+", marked):
        left, right = _whole(text, *run.span())
        if start >= 0 and (left <= end or _JOINTS.match(text[end:left])):
            end = max(end, right)
            continue
        if start >= 0:
            yield start, end
        start, end = left, right
    if start >= 0:
        yield start, end


def _whole(text: str, start: int, end: int) -> tuple[int, int]:
    while text[start:end][:1].isspace():
        start += 1
    while start > 0 and _in_word(text[start - 1]) and _in_word(text[start]):
        start -= 1
    while end < len(text) and _in_word(text[end]) and _in_word(text[end - 1]):
        end += 1
    return start, end


def _in_word(character: str) -> bool:
    return character.isalnum() and not UNSPACED.match(character)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if isinstance(config["id2label"], dict):
            return dict(config)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise _unusable(folder, f"has no {CONFIG} with id2label")


def _name_labels(folder: Path, labels: Mapping[str, str]) -> list[int]:
    kinds = {index: _SCHEME.sub("", _SCHEME.sub("", label.upper(), 1)) for index, label in labels.items()}
    found = sorted(int(index) for index, kind in kinds.items() if kind in NAME_LABELS)
    if not found:
        known = ", ".join(sorted(set(labels.values())))
        raise _unusable(folder, f"has no label for names, but {known}")
    return found


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    # Threads that spin would take the cores of other services while no prompt is redacted.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _unusable(folder: Path, problem: str) -> ConfigError:
    return ConfigError(
        f"frontier.names_model: the model in {folder} {problem}; give a folder with {MODEL}, {TOKENIZER} and "
        f"{CONFIG} of a token classifier."
    )
