"""Which language the prompt is in, and in which scripts it is written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from weir.router.signals.base import Observation, Written
from weir.router.signals.scripts import scripts, sole_language

# Looked at from a long text: its beginning, middle and end. The time is linear in it, a sixth of a
# millisecond.
_PIECE_CHARS = 64
# Below this the identifier's posterior names no language.
_LEAST_CONFIDENCE = 0.3
UNKNOWN = "und"
# The identifier's name of text that is no language, such as formulas.
_NO_LANGUAGE = "zxx"


@dataclass(frozen=True, slots=True)
class Language:
    """An ISO 639 code (two letters where there are), ``und`` where none is likely; scripts by frequency."""

    code: str
    scripts: tuple[str, ...]


class PromptLanguage:
    """By script where that decides, else by byte n-grams (py3langid, naive Bayes over 139 languages)."""

    name = "language"

    def read(self, seen: Observation) -> Language:  # noqa: D102
        return identify(seen.text)

    def write(self, reading: Language) -> Written:  # noqa: D102
        yield self.name, reading.code
        if reading.scripts not in ((), ("latin",)):
            yield "script", ",".join(reading.scripts)


def identify(text: str) -> Language:
    """Identify from a bounded sample."""
    sample = _sample(text)
    found = scripts(sample)
    code = sole_language(found)
    if code is None and found:
        code, _ = _identifier().classify(sample)
    return Language(UNKNOWN if code in (None, _NO_LANGUAGE) else code, found)


def warm_up() -> None:
    """Load the identifier; blocks for half a second."""
    _identifier()


def known_languages() -> frozenset[str]:
    """All codes that can be found; loads the identifier."""
    return frozenset(_identifier().labels) - {_NO_LANGUAGE} | {UNKNOWN}


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=_LEAST_CONFIDENCE)


def _sample(text: str) -> str:
    if len(text) <= 3 * _PIECE_CHARS:
        return text
    middle = len(text) // 2
    return " ".join((text[:_PIECE_CHARS], text[middle : middle + _PIECE_CHARS], text[-_PIECE_CHARS:]))
