"""Python's garbage collector in a process that serves: short pauses."""

from __future__ import annotations

import gc


def spare_collector() -> None:
    """Let collections pass over everything that exists now (``gc.freeze``).

    To be called once a service has started. All threads stand still while the collector walks, and a full
    collection would walk through what all imports have made: 52 to 59 ms of CPU time with the modules of
    the frontier proxy, and more of waiting where the machine is busy.
    """
    gc.collect()
    gc.freeze()
