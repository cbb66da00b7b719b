"""Runs a module as a program that ends when its parent does: ``python -m weir.cli.guarded MODULE``.

The parent holds the other end of standard input; its end, however it came about, closes the pipe.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

# After the end of the parent, before the hard end of this process.
GRACE_S = 20.0


def _follow_parent() -> None:
    while os.read(0, 4096):
        continue
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    # The whole session: what this process started must not outlive it either.
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_follow_parent, daemon=True, name="follow-parent").start()
    module = sys.argv.pop(1)
    sys.argv[0] = module
    runpy.run_module(module, run_name="__main__", alter_sys=True)
