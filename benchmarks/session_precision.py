"""Do a session's logits depend on chunking and rewinding? In f32, as verified with, and in bf16.

    uv run python benchmarks/session_precision.py

Eight real prompts are decoded for 32 tokens one at a time; then the same tokens are fed in chunks of 1 to 4,
each after four junk tokens that are rewound. Needs the converted model, which the first `weir up` leaves.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from unittest import mock

import numpy as np

from weir.common.config.model import EMBEDDED_MODEL, Models
from weir.engines.base import ChatMessage
from weir.engines.core.openvino import ir_cache, raw_model
from weir.engines.text.codec import load_codec
from weir.models.store import ModelStore

TOKENS = 32
BF16 = {"INFERENCE_PRECISION_HINT": "bf16", "KV_CACHE_PRECISION": "f32"}
CONFIGURATIONS = {"f32, no dynamic quantization": dict(raw_model._EXACT), "bf16": BF16}


def measure(model: raw_model.RawModel, prompts: list[list[int]]) -> tuple[float, int, int, float]:
    """Return the largest logit difference, changed arg-maxes, positions, and ms of a one-token pass."""
    random, worst, flips, compared = np.random.default_rng(0), 0.0, 0, 0
    passes: list[float] = []
    for prompt in prompts:
        alone, tokens, expected = raw_model.RawSequence(model), list[int](), []
        logits = alone.forward(prompt, [len(prompt) - 1])[0]
        for _ in range(TOKENS):
            expected.append(logits)
            tokens.append(int(logits.argmax()))
            started = time.perf_counter()
            logits = alone.forward(tokens[-1:], [0])[0]
            passes.append((time.perf_counter() - started) * 1000)
        alone.close()
        chunked, at = raw_model.RawSequence(model), 0
        found = [chunked.forward(prompt, [len(prompt) - 1])[0]]
        while at < TOKENS - 1:
            size, length = min(int(random.integers(1, 5)), TOKENS - 1 - at), chunked.length
            chunked.forward([int(token) for token in random.integers(100, 40_000, 4)], [3])
            chunked.rewind(length)
            found += list(chunked.forward(tokens[at : at + size], list(range(size))))
            at += size
        chunked.close()
        for one, other in zip(expected, found, strict=True):
            worst = max(worst, float(np.abs(one - other).max()))
            flips += int(one.argmax() != other.argmax())
            compared += 1
    return worst, flips, compared, statistics.median(passes)


def main() -> None:
    path = ModelStore(Models()).resolve(EMBEDDED_MODEL).path
    codec, folder = load_codec(path), ir_cache.entry(path, path.parent / ".openvino")
    lines = (Path(__file__).parent / "data" / "mixed.jsonl").read_text(encoding="utf-8").splitlines()[:80:10]
    prompts = [codec.encode_chat([ChatMessage("user", json.loads(line)["turns"][0])]) for line in lines]
    for name, properties in CONFIGURATIONS.items():
        with mock.patch.object(raw_model, "_EXACT", properties):
            worst, flips, compared, ms = measure(raw_model.RawModel(folder), prompts)
        print(
            f"{name}: logits within {worst:.5f}, {flips} of {compared} arg-maxes changed; {ms:.1f} ms a token"
        )


if __name__ == "__main__":
    main()
