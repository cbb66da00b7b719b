"""The core's end of the socket: length-prefixed frames, read without blocking while there is work."""

from __future__ import annotations

import select
import socket

_PREFIX = 4
_CHUNK = 1 << 18


class Channel:
    """Frames over a stream socket: four bytes of length, big-endian, then the payload."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self.closed = False

    def wake(self) -> None:
        """End a blocking ``receive``; safe from any thread."""
        try:
            self._wake_write.send(b"\0")
        except BlockingIOError:
            return  # a wake-up is already on its way

    def send(self, payload: bytes) -> None:
        """Write one frame; blocks only while the server does not read."""
        try:
            self._socket.sendall(len(payload).to_bytes(_PREFIX, "big") + payload)
        except OSError:
            self.closed = True

    def receive(self, timeout_s: float | None) -> list[bytes]:
        """Return the frames that have come; where there are none, wait for news, a wake-up or the end."""
        ready, _, _ = select.select([self._socket, self._wake_read], [], [], timeout_s)
        if self._wake_read in ready:
            self._wake_read.recv(4096)
        if self._socket in ready:
            self._fill()
        return self._frames()

    def _fill(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except OSError:
            data = b""
        if data:
            self._buffer += data
        else:
            self.closed = True

    def _frames(self) -> list[bytes]:
        frames: list[bytes] = []
        at = 0
        while len(self._buffer) - at >= _PREFIX:
            end = at + _PREFIX + int.from_bytes(self._buffer[at : at + _PREFIX], "big")
            if len(self._buffer) < end:
                break
            frames.append(bytes(self._buffer[at + _PREFIX : end]))
            at = end
        del self._buffer[:at]
        return frames

    def close(self) -> None:
        """Close all sockets."""
        for sock in (self._socket, self._wake_read, self._wake_write):
            sock.close()
