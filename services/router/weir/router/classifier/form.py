"""The form of a prompt in plain numbers: lengths, counts and shares, never what the words mean.

An embedding hardly keeps how long a text is, how many numbers it works with or how it is laid out, and these
tell much of whether a small model gets by.
"""

from __future__ import annotations

import re
import string

import numpy as np
import numpy.typing as npt

# Longer texts are measured at both ends.
MAX_CHARS = 8_192
FEATURES = (
    "log_chars", "log_words", "chars_per_word", "word_length_mean", "word_length_sd", "log_longest_word",
    "log_numbers", "log_distinct_numbers", "digit_share", "log_largest_number", "log_median_number",
    "decimal_share", "numbers_per_word", "symbol_share", "capital_share", "log_lines", "log_line_mean",
    "log_line_sd", "log_line_longest", "log_line_shortest", "log_sentences", "log_sentence_mean",
    "log_sentence_sd", "log_sentence_longest", "distinct_words", "lines_with_numbers", "lines_of_digits",
    "question_marks", "commas", "quotes", "beyond_ascii", "dollars", "percents", "formula_signs",
    "log_first_line", "first_line_share",
)  # fmt: skip
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE_END = re.compile(r"[.!?\n]+")
# From this share of digits on, a line is one of digits.
_DIGIT_LINE = 0.25
_MOST_DIGITS = 30
_BEYOND = 128
_DIGIT_SIGNS = string.digits
_DIGITS = [ord(sign) for sign in _DIGIT_SIGNS]
_CAPITALS = [ord(sign) for sign in string.ascii_uppercase]
_SYMBOLS = [ord(sign) for sign in string.punctuation]
# Commas, quotes, signs beyond ASCII, dollars, percents, signs of formulas.
_SIGNS = [[ord(",")], [ord('"'), ord("'")], [_BEYOND], [ord("$")], [ord("%")], [ord("("), ord("=")]]
Numbers = npt.NDArray[np.float32]


def form_features(text: str) -> Numbers:
    """Return what ``FEATURES`` names, float32 [36]; signs are counted per hundred characters."""
    half = MAX_CHARS // 2
    sample = text if len(text) <= MAX_CHARS else text[:half] + text[-half:]
    lines, words = sample.split("\n"), _WORD.findall(sample)
    size = max(len(sample), 1)
    codes = np.frombuffer(sample.encode("utf-32-le", errors="replace"), dtype=np.uint32)
    table = np.bincount(np.minimum(codes, _BEYOND), minlength=_BEYOND + 1)
    first = len(lines[0])
    found = [
        np.log1p(len(text)),
        *_of_words(words, size),
        *_of_numbers(_NUMBER.findall(sample), int(table[_DIGITS].sum()) / size, len(words)),
        table[_SYMBOLS].sum() / size,
        table[_CAPITALS].sum() / size,
        *_of_lines(lines),
        *_of_sentences(sample),
        len({word.lower() for word in words}) / max(len(words), 1),
        sum(_NUMBER.search(line) is not None for line in lines) / len(lines),
        sum(_mostly_digits(line) for line in lines) / len(lines),
        table[ord("?")],
        *(table[signs].sum() * 100 / size for signs in _SIGNS),
        np.log1p(first),
        first / size,
    ]
    return np.array(found, dtype=np.float32)


def _of_words(words: list[str], size: int) -> list[float]:
    lengths = np.array([len(word) for word in words] or [0])
    return [
        np.log1p(len(words)),
        size / max(len(words), 1),
        lengths.mean(),
        lengths.std(),
        np.log1p(lengths.max()),
    ]


def _of_numbers(numbers: list[str], digit_share: float, words: int) -> list[float]:
    values = np.array([_value(number) for number in numbers] or [0.0])
    return [
        np.log1p(len(numbers)),
        np.log1p(len(set(numbers))),
        digit_share,
        np.log1p(values.max()),
        np.log1p(np.median(values)),
        sum("." in number for number in numbers) / max(len(numbers), 1),
        len(numbers) / max(words, 1),
    ]


def _value(number: str) -> float:
    """Read a number, commas as thousands; digits that make no number ("1.2.3") by their first part."""
    plain = number.replace(",", "")
    whole, _, rest = plain.partition(".")
    # Past this many digits nothing is told by more of them, and a float would overflow.
    return float(f"{whole[:_MOST_DIGITS]}.{rest.partition('.')[0][:_MOST_DIGITS] or 0}")


def _of_lines(lines: list[str]) -> list[float]:
    lengths = np.array([len(line) for line in lines if line.strip()] or [0])
    spread = (lengths.mean(), lengths.std(), lengths.max(), lengths.min())
    return [np.log1p(len(lines)), *np.log1p(spread)]


def _of_sentences(sample: str) -> list[float]:
    lengths = np.array([len(part) for part in _SENTENCE_END.split(sample) if part.strip()] or [0])
    return [np.log1p(len(lengths)), *np.log1p((lengths.mean(), lengths.std(), lengths.max()))]


def _mostly_digits(line: str) -> bool:
    return sum(map(line.count, _DIGIT_SIGNS)) >= _DIGIT_LINE * max(len(line), 1)
