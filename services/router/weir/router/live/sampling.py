"""Who belongs to a share of the requests: by hash, so that the same request always draws alike."""

from __future__ import annotations

import hashlib

from weir.router.classifier.base import Question


def drawn(question: Question, share: float, salt: str) -> bool:
    """Whether a question belongs to the share, 0 to 1; draws with different salts are independent."""
    if share <= 0 or share >= 1:
        return share >= 1
    key = f"{salt}\0{question.key or question.text}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) < share * 2**64
