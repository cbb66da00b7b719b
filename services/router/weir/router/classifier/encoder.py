"""The sentence encoder on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from weir.router.classifier.text import Wordpieces, numeric_features, open_tokenizer, tokenize

THREADS = 2
SPIN_US = 200


def session(path: Path, threads: int = THREADS) -> ort.InferenceSession:
    """Open a model for the CPU.

    Threads spin for ``SPIN_US`` at most: not at all costs a fifth more time at 64 wordpieces, without a bound
    they would take the language model's cores while idle.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Encoder:
    """Prompts to feature rows: the sentence embedding, then the plain numbers of ``text.FEATURES``."""

    def __init__(self, model: Path, tokenizer: Path, max_tokens: int, threads: int = THREADS) -> None:
        self._session = session(model, threads)
        self._tokenizer = open_tokenizer(tokenizer)
        self._max_tokens = max_tokens

    @property
    def dimensions(self) -> int:
        """Length of an embedding."""
        return int(self._session.get_outputs()[0].shape[1])

    def tokenize(self, text: str) -> Wordpieces:
        """Return the wordpieces that the encoder sees, and how many there are in all."""
        return tokenize(self._tokenizer, text, self._max_tokens)

    def embed(self, pieces: Wordpieces) -> npt.NDArray[np.float32]:
        """Return the sentence embedding: mean over the positions, of length 1, float32 [1, dimensions]."""
        rows: npt.NDArray[np.float32] = self._session.run(None, {"input_ids": pieces.ids[None]})[0]
        return rows

    def features(self, text: str) -> tuple[npt.NDArray[np.float32], int]:
        """Return the heads' input, float32 [1, dimensions + 6], and the untruncated wordpiece count."""
        pieces = self.tokenize(text)
        numbers = numeric_features(text, pieces.total)[None]
        return np.concatenate([self.embed(pieces), numbers], axis=1), pieces.total
