"""Personal data and secrets out of a prompt before it leaves, and back into the answer."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import phonenumbers
from stdnum import iban, luhn
from stdnum.iso7064 import mod_97_10

# Told to the model when something was replaced, so that the answer keeps the placeholders as they are.
NOTICE = "Words in square brackets such as {example} stand for withheld data. Keep them exactly as they are."
# Numbers written without a country code are tried as numbers of these countries.
PHONE_REGIONS = ("US", "GB", "DE")

_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]+?-----END [A-Z ]*PRIVATE KEY-----"
    r"|(?<![A-Za-z0-9])(?:"
    r"sk-[A-Za-z0-9_-]{20,}+|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}+|github_pat_[A-Za-z0-9_]{22,}+"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}+|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{30,}+|glpat-[A-Za-z0-9_-]{20,}+"
    r"|eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+"
    r")"
)
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}+@(?:[\w-]{1,63}+\.){1,8}[^\W\d_]{2,24}+")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}")
_CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?!\d)")
# Every tenth number passes the Luhn check, so the issuer's range (ISO/IEC 7812) has to fit as well.
_ISSUERS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3[0689]\d{12}|35\d{14}"
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}|62\d{14,17}|(?:50|5[6-9]|6[0-9])\d{11,17}"
)
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)")
# The matcher takes some milliseconds per kilobyte; most prompts have no seven digits near each other.
_PHONE_HINT = re.compile(r"\d(?:[^\w\n]{0,4}\d){6}")
_IPV6 = re.compile(r"(?<![\w:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")


class Finding(NamedTuple):
    """One span of personal data."""

    start: int
    end: int
    kind: str


def find(text: str) -> list[Finding]:
    """Return the personal data in ``text``, in order; where two findings overlap, the first kind wins.

    Found are keys of well-known shapes, e-mail addresses, IBANs (mod 97), payment cards (Luhn), IP
    addresses (not loopback) and telephone numbers (libphonenumber's metadata). Names and postal addresses
    are not.
    """
    taken, findings = bytearray(len(text)), []
    for finding in _all(text):
        if taken.find(1, finding.start, finding.end) < 0:
            taken[finding.start : finding.end] = b"\1" * (finding.end - finding.start)
            findings.append(finding)
    return sorted(findings)


def _all(text: str) -> Iterator[Finding]:
    yield from (Finding(*match.span(), "KEY") for match in _KEY.finditer(text))
    yield from (Finding(*match.span(), "EMAIL") for match in _EMAIL.finditer(text))
    yield from (Finding(*span, "IBAN") for span in _checked(_IBAN, text, _is_iban))
    yield from (Finding(*span, "CARD") for span in _checked(_CARD, text, _is_card))
    for pattern in (_IPV4, _IPV6):
        yield from (Finding(*m.span(), "IP") for m in pattern.finditer(text) if _is_address(m.group()))
    for region in PHONE_REGIONS if _PHONE_HINT.search(text) else ():
        for number in phonenumbers.PhoneNumberMatcher(text, region):
            yield Finding(number.start, number.end, "PHONE")


def _checked(
    pattern: re.Pattern[str], text: str, is_valid: Callable[[str], bool]
) -> Iterator[tuple[int, int]]:
    """Yield the longest valid numbers in grouped digits: what stands before or after may look like a part."""
    position = 0
    while match := pattern.search(text, position):
        found = match.group()
        ends = [
            at
            for at in range(len(found), 12, -1)
            if found[at - 1].isalnum() and not found[at : at + 1].isalnum()
        ]
        length = next((end for end in ends if is_valid(found[:end])), 0)
        position = match.start() + (length or 1)
        if length:
            yield match.start(), position


def _is_iban(text: str) -> bool:
    compact = iban.compact(text)
    # The check digits are cheap and nearly always decide; what a country's own rules cost is not.
    return mod_97_10.is_valid(compact[4:] + compact[:4]) and iban.is_valid(compact)


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return bool(_ISSUERS.fullmatch(digits)) and luhn.is_valid(digits)


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


class Redactor:
    """Replaces personal data by placeholders, the same for the same text throughout one request.

    Args:
        texts: everything that will be redacted; no placeholder is used that occurs in it.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._text = "\0".join(texts)
        self._placeholders: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    @property
    def originals(self) -> dict[str, str]:
        """Placeholder to original."""
        return {placeholder: original for original, placeholder in self._placeholders.items()}

    @property
    def notice(self) -> str:
        """A sentence for the model about the placeholders; empty where none was needed."""
        example = next(iter(self._placeholders.values()), "")
        return NOTICE.format(example=example) if example else ""

    def redact(self, text: str) -> str:
        """Return ``text`` with placeholders such as ``[EMAIL_1]``; linear in its length."""
        parts, position = [], 0
        for start, end, kind in find(text):
            parts += [text[position:start], self._placeholder(text[start:end], kind)]
            position = end
        return "".join([*parts, text[position:]])

    def _placeholder(self, original: str, kind: str) -> str:
        while original not in self._placeholders:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            placeholder = f"[{kind}_{self._counts[kind]}]"
            if placeholder not in self._text:
                self._placeholders[original] = placeholder
        return self._placeholders[original]
