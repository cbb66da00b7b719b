"""Several prompts at a time on ONNX Runtime: a thread for each on a CPU, padded into one batch elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Rows = npt.NDArray[np.float32]
# Lanes hold the weights a second time: of small networks only.
MAX_LANE_BYTES = 128 * 2**20


class Network:
    """Token ids in, embeddings out. Thread-safe; ``embed`` blocks.

    Small networks on a CPU take each prompt by itself: a lone one with all threads, several in as many lanes
    of one thread. In a padded batch the threads wait for each other at every operator, which on busy cores
    costs more than the batch saves. And int8 activations are scaled over the whole tensor: in a batch, a
    prompt's embedding would depend on who else is asking (cosine 0.993); by itself it is always the same.

    Args:
        path: of the model.
        open_session: opens it with that many threads.
        threads: of the processor to use.
        on_cpu: whether it runs on the processor.
    """

    def __init__(self, path: Path, open_session: Callable[[int], Any], threads: int, *, on_cpu: bool) -> None:
        self._alone = self._lane = open_session(threads)
        self._lanes = threads if on_cpu and path.stat().st_size <= MAX_LANE_BYTES else 0
        if self._lanes > 1:
            self._lane = open_session(1)
            self._helpers = ThreadPoolExecutor(threads - 1, "weir-lane")

    def embed(self, prompts: Sequence[Ids]) -> Rows:
        """Return the embeddings, float32 [len(prompts), dimensions]."""
        if len(prompts) > 1 and self._lanes:
            return self._in_lanes(prompts)
        return _run(self._alone, prompts)

    def _in_lanes(self, prompts: Sequence[Ids]) -> Rows:
        # Longest first: the lanes end at about the same time.
        left = deque(sorted(range(len(prompts)), key=lambda index: -len(prompts[index])))
        found: dict[int, Rows] = {}

        def lane() -> None:
            while left:
                try:
                    index = left.popleft()
                except IndexError:  # another lane was quicker
                    return
                found[index] = _run(self._lane, [prompts[index]])

        helpers = min(self._lanes, len(prompts)) - 1
        running = [self._helpers.submit(lane) for _ in range(helpers)]
        try:
            lane()
        finally:
            left.clear()
            for each in running:
                each.result()
        return np.concatenate([found[index] for index in range(len(prompts))])


def _run(session: Any, prompts: Sequence[Ids]) -> Rows:
    """Run padded to the longest."""
    ids = np.zeros((len(prompts), max(map(len, prompts))), np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = prompt
        mask[row, : len(prompt)] = 1
    rows: Rows = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return rows
