"""A child process's pipes, kept apart from asyncio's notion of when a process has ended.

``asyncio.subprocess.Process.wait`` may wait for the pipes that it made itself, which grandchildren hold open
past the end of the child (python/cpython#119710).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager


@asynccontextmanager
async def spawn(
    command: Sequence[str], env: Mapping[str, str] | None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
    """Start a process in a session of its own; the reader has all that it and its children write.

    Its standard input stays open as long as the block and this process last: its end tells the child.
    """
    reader = asyncio.StreamReader()
    lifeline, ours = os.pipe()
    output, theirs = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=None if env is None else dict(env),
            stdin=lifeline,
            stdout=theirs,
            stderr=asyncio.subprocess.STDOUT,
            # Ctrl-C reaches the supervisor alone, which then stops the others in order.
            start_new_session=True,
        )
    except BaseException:
        os.close(ours)
        os.close(output)
        raise
    finally:
        os.close(lifeline)
        os.close(theirs)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb", buffering=0)
    )
    try:
        yield process, reader
    finally:
        transport.close()
        os.close(ours)
