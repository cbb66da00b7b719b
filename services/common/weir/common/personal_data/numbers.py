"""Bank accounts and payment cards: numbers in groups that carry check digits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from stdnum import iban, luhn
from stdnum.iso7064 import mod_97_10

from weir.common.personal_data.candidates import Span, accepted

_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}")
_CARD = re.compile(r"(?<![\d.])[2-6](?:[ -]?\d){12,18}(?!\d)")
_SEPARATORS = str.maketrans("", "", " -")
# Every tenth number passes the Luhn check, so the issuer's range (ISO/IEC 7812) has to fit as well.
_ISSUERS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3[0689]\d{12}|35\d{14}"
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}|62\d{14,17}|(?:50|5[6-9]|6[0-9])\d{11,17}"
)


def iban_spans(text: str, tries: int | None = None) -> Iterator[Span]:
    """Yield where IBANs (ISO 13616, mod 97) stand."""
    return accepted(_grouped(_IBAN, text, _is_iban), tries)


def card_spans(text: str, tries: int | None = None) -> Iterator[Span]:
    """Yield where payment card numbers (ISO/IEC 7812, Luhn) stand."""
    return accepted(_grouped(_CARD, text, _is_card), tries)


def _grouped(
    pattern: re.Pattern[str], text: str, is_valid: Callable[[str], bool]
) -> Iterator[tuple[Span, bool]]:
    """Yield the longest valid numbers in grouped digits: what stands before or after may look like a part."""
    position = 0
    while match := pattern.search(text, position):
        found, start = match.group(), match.start()
        length = next((end for end in _ends(found) if is_valid(found[:end].translate(_SEPARATORS))), 0)
        position = start + (length or 1)
        yield (start, start + (length or len(found))), bool(length)


def _ends(found: str) -> Iterator[int]:
    """Where a group ends, the last first."""
    for at in range(len(found), 12, -1):
        if found[at - 1].isalnum() and not found[at : at + 1].isalnum():
            yield at


def _is_iban(compact: str) -> bool:
    # The check digits are cheap and nearly always decide; what a country's own rules cost is not.
    return mod_97_10.is_valid(compact[4:] + compact[:4]) and iban.is_valid(compact)


def _is_card(digits: str) -> bool:
    return bool(_ISSUERS.fullmatch(digits)) and luhn.is_valid(digits)
