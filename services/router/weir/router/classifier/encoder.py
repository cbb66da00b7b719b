"""The network that embeds prompts, on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from weir.router.classifier import artifact
from weir.router.classifier.artifact import ModelFacts
from weir.router.classifier.form import form_features
from weir.router.classifier.lanes import Network
from weir.router.classifier.providers import CPU, Provider, opened
from weir.router.classifier.text import Wordpieces, open_tokenizer, tokenize

THREADS = 2
SPIN_US = 200
Rows = npt.NDArray[np.float32]


def session(path: Path, threads: int = THREADS, providers: Sequence[Provider] = CPU) -> ort.InferenceSession:
    """Open a model.

    Threads spin for ``SPIN_US`` at most: not at all costs a fifth more time at 64 wordpieces, without a bound
    they would take the language model's cores while idle.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    options.log_severity_level = 3
    return opened(path, options, providers)


class Encoder:
    """Prompts to feature rows: the embedding, then the plain numbers of ``form.FEATURES``."""

    def __init__(
        self, folder: Path, facts: ModelFacts, threads: int = THREADS, providers: Sequence[Provider] = CPU
    ) -> None:
        path = folder / artifact.MODEL
        self._network = Network(
            path, lambda count: session(path, count, providers), threads, on_cpu=tuple(providers) == CPU
        )
        self._tokenizer = open_tokenizer(folder / artifact.TOKENIZER)
        self.facts = facts

    def tokenize(self, text: str) -> Wordpieces:
        """Return the tokens that the network sees, and how many there are in all."""
        return tokenize(self._tokenizer, text, self.facts.max_tokens, self.facts.begin, self.facts.end)

    def embed(self, pieces: Sequence[Wordpieces]) -> Rows:
        """Return the embeddings, float32 [len(pieces), dimensions]; see ``lanes`` for several at a time."""
        return self._network.embed([prompt.ids for prompt in pieces])

    def features(self, texts: Sequence[str]) -> tuple[Rows, list[int]]:
        """Return the heads' input, float32 [len(texts), dimensions + 36], and the whole token counts."""
        pieces = [self.tokenize(text) for text in texts]
        numbers = np.stack([form_features(text) for text in texts])
        return np.concatenate([self.embed(pieces), numbers], axis=1), [prompt.total for prompt in pieces]
