"""Which writing systems a text uses, by Unicode's Script property."""

from __future__ import annotations

import regex

# Named alternatives, so that one scan counts all; a language that alone uses a script is known by it.
_SCRIPTS = {
    "latin": ("Latin", None),
    "cyrillic": ("Cyrillic", None),
    "arabic": ("Arabic", None),
    "devanagari": ("Devanagari", None),
    "han": ("Han", None),
    "kana": ("Hiragana}\\p{Script=Katakana", "ja"),
    "hangul": ("Hangul", "ko"),
    "greek": ("Greek", "el"),
    "hebrew": ("Hebrew", "he"),
    "thai": ("Thai", "th"),
    "armenian": ("Armenian", "hy"),
    "georgian": ("Georgian", "ka"),
    "bengali": ("Bengali", None),
    "tamil": ("Tamil", "ta"),
    "telugu": ("Telugu", "te"),
    "kannada": ("Kannada", "kn"),
    "malayalam": ("Malayalam", "ml"),
    "gujarati": ("Gujarati", "gu"),
    "gurmukhi": ("Gurmukhi", "pa"),
    "sinhala": ("Sinhala", "si"),
    "khmer": ("Khmer", "km"),
    "lao": ("Lao", "lo"),
    "myanmar": ("Myanmar", "my"),
    "ethiopic": ("Ethiopic", None),
}
_RUN = regex.compile(
    "|".join(f"(?P<{name}>[\\p{{Script={script}}}]+)" for name, (script, _) in _SCRIPTS.items())
)
# A script with less of the letters than this is a quotation, not a mixture.
_LEAST_SHARE = 0.1


def scripts(text: str) -> tuple[str, ...]:
    """Return the scripts that hold at least a tenth of the letters, the most frequent first."""
    if text.isascii():
        return ("latin",) if any(map(str.isalpha, text)) else ()
    counts: dict[str, int] = {}
    for run in _RUN.finditer(text):
        name = run.lastgroup or ""
        counts[name] = counts.get(name, 0) + run.end() - run.start()
    least = _LEAST_SHARE * sum(counts.values())
    return tuple(sorted((name for name, n in counts.items() if n >= least), key=lambda n: -counts[n]))


def sole_language(found: tuple[str, ...]) -> str | None:
    """Return the language that the scripts alone decide, ``None`` where several languages share them."""
    if set(found) in ({"kana"}, {"kana", "han"}):
        return "ja"
    return _SCRIPTS[found[0]][1] if len(found) == 1 else None
