"""Keys and prompts are in this process's memory, so a crash must not write it to a disk."""

from __future__ import annotations

import ctypes
import sys

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def forbid_core_dumps() -> None:
    """Leave no core behind, and let no process of the same user read this one's memory.

    A limit of zero stops files. Where the kernel pipes cores to a program the limit means nothing; there only
    Linux's "dumpable" attribute counts (core(5), prctl(2)).
    """
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
