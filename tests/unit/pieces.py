"""Texts cut into any pieces, and stages that take them."""

from __future__ import annotations

from hypothesis import strategies as st

from weir.frontier_proxy.stages import Stage

SIZES = st.lists(st.integers(0, 4), max_size=40)


def run(stage: Stage, *pieces: str) -> str:
    """Return all that comes out of a stage."""
    return "".join(map(stage.feed, pieces)) + stage.flush()


def pieces_of(text: str, sizes: list[int]) -> list[str]:
    """Cut ``text`` into pieces of these sizes and one of what is left."""
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [*pieces, text]
