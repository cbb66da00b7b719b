"""The garbage collector of a process that serves."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from weir.common.garbage import spare_collector


@pytest.fixture
def spared() -> Iterator[list[object]]:
    existing = [object()]
    spare_collector()
    yield existing
    gc.unfreeze()


def test_collections_pass_over_what_start_up_made(spared: list[object]) -> None:
    walked = {id(each) for each in gc.get_objects()}
    assert id(spared) not in walked


def test_cycles_made_later_are_still_collected(spared: list[object]) -> None:
    del spared
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    assert gc.collect() >= 1
