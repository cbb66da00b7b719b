"""E-mail and IP addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from weir.common.personal_data.candidates import Span, accepted

_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}+@(?:[\w-]{1,63}+\.){1,8}[^\W\d_]{2,24}+")
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)")
_IPV6 = re.compile(r"(?<![\w:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")


def email_spans(text: str, tries: int | None = None) -> Iterator[Span]:
    """Yield where e-mail addresses stand; each match is one."""
    del tries
    return (match.span() for match in _EMAIL.finditer(text)) if "@" in text else iter(())


def ip_spans(text: str, tries: int | None = None) -> Iterator[Span]:
    """Yield where IP addresses stand that lead to another machine."""
    return accepted(_ip_candidates(text), tries)


def _ip_candidates(text: str) -> Iterator[tuple[Span, bool]]:
    for mark, pattern in ((".", _IPV4), (":", _IPV6)):
        for match in pattern.finditer(text) if mark in text else ():
            yield match.span(), _leads_away(match.group())


def _leads_away(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)
