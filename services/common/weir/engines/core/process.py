"""A core process and the frames to and from it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import structlog

log = structlog.get_logger(__name__)

_PREFIX = 4
_GRACE_S = 2.0


class CoreProcess:
    """One life of a core: spawned, never forked from the running server's state, with one socket to it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._unsent: list[bytes] = []

    @staticmethod
    async def spawn() -> CoreProcess:
        """Start a core, in a session of its own: a signal to the server's group leaves the drain to it."""
        ours, theirs = socket.socketpair()
        arguments = ["-m", "weir.engines.core.main", str(theirs.fileno()), str(os.getpid())]
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,  # the runtime's own messages belong on stderr
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        return CoreProcess(process, reader, writer)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, payload: bytes) -> None:
        """Write one frame; lost where the core is gone, which ``receive`` tells.

        Frames of one turn of the event loop are written at once: calls that were made together are there
        together when the core looks for work, so that they share a pass.
        """
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent += (len(payload).to_bytes(_PREFIX, "big"), payload)

    async def receive(self) -> bytes:
        """Return the next frame; empty once the core is gone."""
        try:
            size = int.from_bytes(await self._reader.readexactly(_PREFIX), "big")
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def aclose(self) -> None:
        """Close the socket, which ends the core; kill it where it does not end within the grace period."""
        self._flush()
        self._writer.close()
        try:
            async with asyncio.timeout(_GRACE_S):
                await self._process.wait()
        except TimeoutError:
            self._kill()
            await self._process.wait()
        except asyncio.CancelledError:
            self._kill()
            raise
        if self._process.returncode:
            log.warning("engine_core_ended", pid=self.pid, status=self._process.returncode)

    def _flush(self) -> None:
        frames, self._unsent = self._unsent, []
        if frames and not self._writer.is_closing():
            self._writer.writelines(frames)

    def _kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
