"""What looks like personal data and is then checked: how many failures are looked at before doubt counts."""

from __future__ import annotations

from collections.abc import Iterator

Span = tuple[int, int]


def accepted(candidates: Iterator[tuple[Span, bool]], tries: int | None) -> Iterator[Span]:
    """Yield the spans that hold; after ``tries`` that do not, any that comes, unchecked for all one knows.

    A text may hold thousands of candidates, each of which costs some microseconds: whoever only asks whether
    there is anything has to be able to stop, and on the safe side.
    """
    failed = 0
    for span, holds in candidates:
        if holds or failed == tries:
            yield span
        else:
            failed += 1
