"""A file that is read again when it changes."""

from __future__ import annotations

import os
from pathlib import Path


class WatchedFile:
    """Tells whether a file has changed since it was last read. Its methods block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def read(self) -> bytes:
        """Return the content. Raises OSError."""
        with self.path.open("rb") as file:
            seen = _version(os.fstat(file.fileno()))
            content = file.read()
        self._seen = seen
        return content

    def read_changed(self) -> bytes | None:
        """Return the content where it is not what was read last, else ``None``. Raises OSError."""
        return None if _version(self.path.stat()) == self._seen else self.read()


def _version(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
