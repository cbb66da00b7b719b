"""A token classifier of a few kilobytes: it knows a handful of names by heart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

LABELS = ("O", "B-PER", "I-PER", "B-LOC")
# What each word is; names come in pieces, as in real vocabularies.
WORDS = {
    "ada": 1, "love": 2, "##lace": 2, "grace": 1, "hopper": 2, "jean": 1, "luc": 2, "in": 0, "london": 3,
    "李": 1, "雷": 2,
}  # fmt: skip
_SPECIAL = ("[UNK]", "[CLS]", "[SEP]")


def write_tiny_names(folder: Path, labels: Sequence[str] = LABELS, longest: int = 512) -> Path:
    """Write the model's three files in the form of Hugging Face's; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: at for at, word in enumerate((*_SPECIAL, *WORDS))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"id2label": dict(enumerate(labels)), "max_position_embeddings": longest}
    (folder / "config.json").write_text(json.dumps(config))
    scores = np.zeros((len(vocabulary), len(LABELS)), np.float32)
    scores[range(len(_SPECIAL)), 0] = 4
    for word, label in WORDS.items():
        scores[vocabulary[word], label] = 4
    onnx.save(_network(scores), folder / "model.onnx")
    return folder


def _network(scores: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> onnx.ModelProto:
    """Return a network that looks each token's scores up."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "n"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "n", len(LABELS)])]
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["ids"]),
        helper.make_node("Gather", ["scores", "ids"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "names", inputs, outputs, [numpy_helper.from_array(scores, "scores")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
