"""Keys and tokens, by the shapes that their issuers give them (gitleaks' rules list most of them)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from weir.common.personal_data.candidates import Span

_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]+?-----END [A-Z ]*PRIVATE KEY-----"
    r"|(?<![A-Za-z0-9])(?:"
    r"sk-[A-Za-z0-9_-]{20,}+|A[KS]IA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}+|github_pat_[A-Za-z0-9_]{22,}+"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}+|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{30,}+|glpat-[A-Za-z0-9_-]{20,}+"
    r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16,}+|npm_[A-Za-z0-9]{36}|pypi-AgEI[A-Za-z0-9_-]{50,}+"
    r"|SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}|ya29\.[A-Za-z0-9_-]{20,}+|do[opr]_v1_[a-f0-9]{64}"
    r"|gsk_[A-Za-z0-9]{20,}+|xai-[A-Za-z0-9]{20,}+"
    r"|eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+"
    r")"
)
# One of these stands in each; looking for them first is much cheaper.
_MARKS = (
    "PRIVATE KEY", "sk-", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "xox",
    "AIza", "hf_", "glpat-", "eyJ", "k_live_", "k_test_", "npm_", "pypi-", "SG.", "ya29.", "_v1_", "gsk_",
    "xai-",
)  # fmt: skip


def spans(text: str, tries: int | None = None) -> Iterator[Span]:
    """Yield where keys stand; each match is one."""
    del tries
    if not any(mark in text for mark in _MARKS):
        return iter(())
    return (match.span() for match in _KEY.finditer(text))
