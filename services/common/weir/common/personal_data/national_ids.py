"""Identity, tax and social security numbers of the countries whose numbers can be told from others.

A number counts where its shape and its check digits fit. Bare numbers whose single check digit one number in
ten passes (the Dutch BSN, the Canadian SIN) would name too many others and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from stdnum.br import cpf
from stdnum.ch import ssn as ahv
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.us import ssn

from weir.common.personal_data.candidates import Span, accepted


def _pesel_or_idnr(number: str) -> bool:
    return bool(pesel.is_valid(number) or idnr.is_valid(number))


# Shape and check of each. The British number has no check digit, but a narrow shape.
_SHAPES: dict[str, tuple[str, Callable[[str], bool]]] = {
    "us_ssn": (r"\d{3}-\d{2}-\d{4}", ssn.is_valid),
    "es_dni": (r"\d{8}-?[A-Z]", dni.is_valid),
    "es_nie": (r"[XYZ]-?\d{7}-?[A-Z]", nie.is_valid),
    "it_codice": (r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", codicefiscale.is_valid),
    "fr_nir": (r"[1-478] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}", nir.is_valid),
    "br_cpf": (r"\d{3}\.\d{3}\.\d{3}-\d{2}", cpf.is_valid),
    "ch_ahv": (r"756\.\d{4}\.\d{4}\.\d{2}", ahv.is_valid),
    "se_personnummer": (r"\d{6}[-+]\d{4}", personnummer.is_valid),
    "cn_ric": (r"\d{17}[\dX]", ric.is_valid),
    "in_aadhaar": (r"[2-9]\d{3}[ -]\d{4}[ -]\d{4}", aadhaar.is_valid),
    "eleven_digits": (r"\d{11}", _pesel_or_idnr),
    "gb_nino": (
        r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]",
        lambda _: True,
    ),
}
_ANY = re.compile(
    r"(?<![\w.+-])(?:"
    + "|".join(f"(?P<{name}>{shape})" for name, (shape, _) in _SHAPES.items())
    + r")(?![\w-])(?!\.\d)"
)
# All have two digits in a row; a scan for those is much cheaper than the one above.
_HINT = re.compile(r"\d\d")


def spans(text: str, tries: int | None = None) -> Iterator[Span]:
    """Yield where national numbers stand."""
    matches = _ANY.finditer(text) if _HINT.search(text) else iter(())
    return accepted(((match.span(), _holds(match)) for match in matches), tries)


def _holds(match: re.Match[str]) -> bool:
    return _SHAPES[match.lastgroup or ""][1](match.group())
