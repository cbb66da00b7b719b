"""How many of a text's tokens are judged in one round, and which of them complete a unit. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from weir.verifier.acceptance import DraftToken
from weir.verifier.text_level.retokenize import Retokenized

# Tokens of a unit that is judged whole; a longer one is judged in pieces.
MAX_UNIT_TOKENS = 64


def closing(found: Retokenized, ends: Sequence[int], *, final: bool) -> list[int]:
    """Return the counts of leading tokens that complete units, which end at ``ends`` bytes, ascending.

    A token that spells a unit's end and more belongs to that unit. With ``final`` the last token ends one.
    """
    if not found.ids:
        return []
    counts = {bisect_left(found.ends, end) + 1 for end in ends if 0 < end <= found.ends[-1]}
    return sorted(counts | {len(found.ids)} if final else counts)


def in_any_piece(found: Retokenized, closes: Sequence[int], most: int) -> tuple[DraftToken, ...]:
    """Return the drafts of a round whose tokens are judged one by one: ``most``, or up to a unit's end.

    Empty while neither is there.
    """
    count = most if len(found.ids) >= most else (closes[-1] if closes else 0)
    return tuple(map(DraftToken, found.ids[:count]))


def in_whole_units(found: Retokenized, closes: Sequence[int], most: int) -> tuple[DraftToken, ...]:
    """Return the drafts of a round whose units are judged whole: those that ``most`` tokens hold, or one.

    Of a unit beyond ``MAX_UNIT_TOKENS`` it is the first so many. Empty while no unit is complete.
    """
    count = max((count for count in closes if count <= most), default=closes[0] if closes else 0)
    if not 0 < count <= MAX_UNIT_TOKENS:
        count = MAX_UNIT_TOKENS if len(found.ids) >= MAX_UNIT_TOKENS else 0
    ending = {*closes, count}
    return tuple(
        DraftToken(token, ends_unit=place in ending) for place, token in enumerate(found.ids[:count], start=1)
    )
