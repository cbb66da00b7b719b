"""Do a session's logits depend on chunking, rewinding and company? And what does a pass take?

    uv run python benchmarks/session_precision.py [FOLDER]

Eight real prompts are fed, and what the model goes on with for 32 tokens, in one way after the other: whole,
token by token, in chunks of 1 to 9 each after four junk tokens that are rewound, and the same beside another
sequence. FOLDER holds a converted model, by default the embedded one, which the first `weir up` leaves.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from weir.common.config.model import EMBEDDED_MODEL, Models
from weir.engines.base import ChatMessage
from weir.engines.core.openvino import ir_cache
from weir.engines.core.openvino.kv_pool import Sequence
from weir.engines.core.openvino.paged_model import Feed, Logits, PagedModel, reserve
from weir.engines.text.codec import load_codec
from weir.models.store import ModelStore

TOKENS = 32
CACHE = 2**30


def forward(model: PagedModel, sequence: Sequence, ids: list[int], beside: Sequence | None = None) -> Logits:
    """Feed one sequence, perhaps beside another that takes one token; logits after each of ``ids``."""
    feeds = [Feed(sequence, ids, range(len(ids)), exact=True)]
    if beside is not None:
        feeds.insert(0, Feed(beside, ids[:1], [0], exact=False))
    for feed in feeds:
        reserve(feed)
    return np.array(model.forward(feeds).logits[-1])


def greedy(model: PagedModel, prompt: list[int]) -> list[int]:
    """Return the prompt and the arg-max tokens after it."""
    sequence, ids = model.sequence(), list(prompt)
    ids.append(int(forward(model, sequence, prompt)[-1].argmax()))
    while len(ids) < len(prompt) + TOKENS:
        ids.append(int(forward(model, sequence, ids[-1:])[-1].argmax()))
    sequence.close()
    return ids


def chunked(model: PagedModel, ids: list[int], sizes: range, *, company: bool) -> Logits:
    """Feed ``ids`` in chunks of random sizes, each after junk that is rewound."""
    random = np.random.default_rng(0)
    sequence, beside = model.sequence(), model.sequence() if company else None
    found: list[Logits] = []
    while sequence.length < len(ids):
        length, size = sequence.length, int(random.integers(sizes.start, sizes.stop))
        forward(model, sequence, [int(token) for token in random.integers(100, 40_000, 4)])
        sequence.rewind(length)
        found.append(forward(model, sequence, ids[length : length + size], beside))
    sequence.close()
    if beside is not None:
        beside.close()
    return np.concatenate(found)


def pass_ms(model: PagedModel, tokens: int, sequences: int = 1) -> float:
    """Return the median ms of a pass that takes so many tokens of each sequence, 64 tokens in."""
    running = [model.sequence() for _ in range(sequences)]
    for sequence in running:
        forward(model, sequence, list(range(100, 164)))
    taken: list[float] = []
    for _ in range(9):
        feeds = [Feed(one, list(range(200, 200 + tokens)), range(tokens), exact=False) for one in running]
        for feed in feeds:
            reserve(feed)
        started = time.perf_counter()
        model.forward(feeds)
        taken.append(1e3 * (time.perf_counter() - started))
        for sequence in running:
            sequence.rewind(64)
    for sequence in running:
        sequence.close()
    return statistics.median(taken)


def main() -> None:
    path = ModelStore(Models()).resolve(EMBEDDED_MODEL).path
    codec = load_codec(path)
    folder = Path(sys.argv[1]) if sys.argv[1:] else ir_cache.entry(path, path.parent / ".openvino")
    lines = (Path(__file__).parent / "data" / "mixed.jsonl").read_text(encoding="utf-8").splitlines()[:80:10]
    prompts = [codec.encode_chat([ChatMessage("user", json.loads(line)["turns"][0])]) for line in lines]
    for name, rounded in (("8-bit activations", True), ("float32 activations", False)):
        model = PagedModel(folder, CACHE, rounded=rounded)
        worst, flips, compared = 0.0, 0, 0
        for ids in (greedy(model, prompt) for prompt in prompts):
            whole = chunked(model, ids, range(len(ids), len(ids) + 1), company=False)
            for sizes, company in ((range(1, 2), False), (range(1, 10), False), (range(1, 10), True)):
                other = chunked(model, ids, sizes, company=company)
                worst = max(worst, float(np.abs(whole - other).max()))
                flips += int((whole.argmax(1) != other.argmax(1)).sum())
                compared += len(ids)
        passes = ", ".join(
            f"{count}: {pass_ms(model, count):.0f}" for count in (1, 2, 4, 5, 8, 9, 12, 16, 32)
        )
        shared = ", ".join(f"{count}: {pass_ms(model, count, 8):.0f}" for count in (1, 2, 4, 8))
        print(f"{name}: logits within {worst:.5f}, {flips} of {compared} arg-maxes changed")
        print(f"  ms of a pass by tokens, one sequence: {passes}; eight sequences: {shared}")


if __name__ == "__main__":
    main()
