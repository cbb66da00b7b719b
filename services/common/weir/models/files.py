"""Putting files into a model's folder: hashed while written, synced, and visible only when right."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from weir.common.errors import ErrorCode, WeirError
from weir.models.manifest import FileSpec

CHUNK_BYTES = 1 << 20

# Called with what is being done, bytes so far and bytes in all (0: unknown); from any thread.
Progress = Callable[[str, int, int], None]


class SourceError(Exception):
    """A source did not give what was asked for; the next one may."""


class CancelledPull(Exception):  # noqa: N818 - not an error, but the end of a thread's work
    """The pull was given up while a thread worked for it."""


class Folder:
    """A model's folder, while one process fills it."""

    def __init__(self, path: Path, progress: Progress, cancelled: threading.Event) -> None:
        self.path = path
        self.progress = progress
        self._cancelled = cancelled

    def check_cancelled(self) -> None:
        """Raise CancelledPull where the pull was given up."""
        if self._cancelled.is_set():
            raise CancelledPull

    def place(self, file: FileSpec, stream: IO[bytes]) -> None:
        """Copy a stream to its place. Raises SourceError on a wrong hash, WeirError when the disk refuses."""
        target = self.path / file.name
        partial = target.with_name(target.name + ".partial")
        with self._writing(partial):
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as out:
                digest = self._copy(file, stream, out)
                out.flush()
                os.fsync(out.fileno())
            check_digest(file, digest)
            _publish(partial, target)

    def adopt(self, file: FileSpec, path: Path) -> None:
        """Move a finished download on the same disk to its place, if its hash is right; delete it if not."""
        digest = file_sha256(path)
        try:
            check_digest(file, digest)
        except SourceError:
            path.unlink()
            raise
        target = self.path / file.name
        with self._writing(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            _publish(path, target)

    def _copy(self, file: FileSpec, stream: IO[bytes], out: IO[bytes]) -> str:
        sha = hashlib.sha256()
        done = 0
        while chunk := _read(file, stream):
            self.check_cancelled()
            sha.update(chunk)
            out.write(chunk)
            done += len(chunk)
            self.progress(f"writing {file.name}", done, file.size)
        return sha.hexdigest()

    @contextmanager
    def _writing(self, partial: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise storage_error(self.path, error) from error
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def storage_error(folder: Path, error: OSError) -> WeirError:
    """Describe a folder that cannot be written to."""
    return WeirError(
        ErrorCode.MODEL_UNAVAILABLE,
        f"The model cannot be stored in {folder} ({error.strerror}); free space there, "
        "or choose another folder with WEIR_MODELS__DIRECTORY, and pull again.",
        internal=str(error),
    )


def check_digest(file: FileSpec, digest: str) -> None:
    """Raise SourceError unless the digest is the file's."""
    if digest != file.sha256:
        raise SourceError(f"{file.name} has SHA-256 {digest}, expected {file.sha256}")


def file_sha256(path: Path) -> str:
    """Hash a file of any size."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(file: FileSpec, stream: IO[bytes]) -> bytes:
    try:
        return stream.read(CHUNK_BYTES)
    except Exception as error:
        raise SourceError(f"{file.name} cannot be read: {error}") from error


def _publish(partial: Path, target: Path) -> None:
    partial.replace(target)
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
