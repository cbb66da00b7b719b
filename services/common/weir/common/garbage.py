"""Python's garbage collector in a process that serves: short pauses."""

from __future__ import annotations

import gc

# Objects more than have been freed, by which a collection is due; the interpreter's own number is 700.
YOUNG = 5_000


def spare_collector() -> None:
    """Let collections pass over everything that exists now, and come less often.

    To be called once a service has started. All threads stand still while the collector walks, and a full
    collection walks through what all imports have made: 70 ms of CPU time in the frontier proxy, a hundred or
    more of waiting where the machine is busy. See ``gc.freeze``.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
