"""Provider keys: from environment variables or files alone; a file is read again when it changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from pydantic import SecretStr

from weir.common.config import ConfigError
from weir.common.config.frontier import Provider

log = structlog.get_logger(__name__)
# Variables in which keys are commonly kept, by the kind of provider.
WELL_KNOWN = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}
_VARIABLES = {**WELL_KNOWN, "openai_responses": "OPENAI_API_KEY"}
MAX_KEY_BYTES = 65_536
# File systems keep times so coarsely that a file may change again within this without showing it.
_COARSE_S = 2.0


class Key:
    """A key, or the absence of one. ``source`` names the variable or file it came from, never the key."""

    def __init__(self, source: str = "", value: SecretStr | None = None) -> None:
        self.source = source
        self._values = (value,) if value else ()
        self._listeners: list[Callable[[], None]] = []

    def on_replaced(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever another key has taken this one's place."""
        self._listeners.append(listener)

    def current(self) -> SecretStr | None:
        """Return what to use for the next request."""
        return self._values[0] if self._values else None

    @property
    def pending(self) -> bool:
        """Whether there is none yet and one may come."""
        return False

    def revealed_by(self, text: str) -> bool:
        """Whether ``text`` holds this key, or the one that it has replaced."""
        return any(value.get_secret_value() in text for value in self._values)


NO_KEY = Key()


class KeyFile(Key):
    """A key in a file, which another process may write, or write anew, at any time.

    A file that has become unreadable, empty or nonsense leaves the key as it was; the log says so once. One
    that is empty or not there yet, in a folder that is, is waited for.

    Raises:
        OSError: it cannot be read.
        ConfigError: it holds what is no key.
    """

    def __init__(self, provider: str, path: Path, now: Callable[[], float] = time.time) -> None:
        self._provider, self._path, self._now = provider, path, now
        missing = path.parent.is_dir() and not path.exists()
        # What is no plain file (a pipe) can be read only once.
        self._watched = missing or path.is_file()
        self._stamp, self._settled = self._look()
        super().__init__(str(path), None if missing else _secret(str(path), _text(path)))
        self._problem = "" if self._values else "unreadable" if missing else "empty"
        if self._problem:
            log.warning("key_awaited", provider=provider, file=self.source)

    @property
    def pending(self) -> bool:
        """See ``Key.pending``; looks at the file for as long as it is so."""
        return not self._values and self.current() is None

    def current(self) -> SecretStr | None:
        """Return the key as the file has it now: one ``stat``, and a read where that shows a change."""
        if self._watched:
            stamp, settled = self._look()
            if stamp != self._stamp or not self._settled:
                self._stamp, self._settled = stamp, settled
                self._read()
        return super().current()

    def _look(self) -> tuple[tuple[int, int, int] | None, bool]:
        """Return what tells one content of the file from another, and whether it surely does."""
        try:
            found = self._path.stat()
        except OSError:
            return None, False
        return (found.st_mtime_ns, found.st_size, found.st_ino), self._now() - found.st_mtime > _COARSE_S

    def _read(self) -> None:
        try:
            value = _secret(self.source, _text(self._path))
            problem = "" if value else "empty"
        except (OSError, ConfigError) as error:
            value, problem = None, "unreadable" if isinstance(error, OSError) else "not a key"
        if problem and problem != self._problem:
            log.warning("key_file_ignored", provider=self._provider, file=self.source, problem=problem)
        self._problem = problem
        if value and value != super().current():
            self._values = (value, *self._values[:1])
            log.info("key_reloaded", provider=self._provider, file=self.source)
            for tell in self._listeners:
                tell()


def key_source(provider: Provider) -> str:
    """Say where the key is looked for; empty where a provider is meant to have none."""
    if provider.api_key_file:
        return str(provider.api_key_file)
    return provider.api_key_env or _VARIABLES.get(provider.kind, "")


def find_key(name: str, provider: Provider, environ: Mapping[str, str]) -> Key:
    """Return the key; its ``current`` is ``None`` where there is none.

    Raises:
        ConfigError: a file that cannot be read, or a key that no HTTP header can carry.
    """
    source = key_source(provider)
    if not provider.api_key_file:
        return Key(source, _secret(source, environ.get(source, "")))
    try:
        return KeyFile(name, provider.api_key_file)
    except OSError:
        hint = f"frontier.providers.{name}.api_key_file: {source} cannot be read"
        raise ConfigError(f"{hint}; give the path of a text file that holds the key.") from None


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_KEY_BYTES).decode("utf-8", errors="replace")


def _secret(source: str, value: str) -> SecretStr | None:
    value = value.strip()
    if value and not (value.isascii() and value.isprintable() and " " not in value):
        raise ConfigError(f"the key in {source} holds characters that no key has; copy it again.")
    return SecretStr(value) if value else None
