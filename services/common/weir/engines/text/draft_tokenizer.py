"""Whether a draft model for use inside an engine speaks the target's tokens."""

from __future__ import annotations

from pathlib import Path

from weir.common.errors import ErrorCode, WeirError
from weir.engines.text.codec import Codec, load_codec


def require_same_tokenizer(codec: Codec, draft: Path) -> None:
    """Compare the draft model's tokenizer with ``codec``, by vocabulary and merges.

    Raises:
        WeirError: MODEL_UNAVAILABLE where it is another one, or cannot be read.
    """
    try:
        same = load_codec(draft).sha256 == codec.sha256
    except (OSError, ValueError) as error:
        hint = f"The draft model '{draft.name}' cannot be read ({error}): correct run.speculative_model."
        raise WeirError(ErrorCode.MODEL_UNAVAILABLE, hint) from error
    if not same:
        raise WeirError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"The draft model '{draft.name}' has another tokenizer than its target: give "
            "run.speculative_model a model of the same family, or set run.speculative to 'ngram' or 'none'.",
        )
