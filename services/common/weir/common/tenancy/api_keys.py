"""Tenants' API keys: only hashes are kept, and files of keys are read again when they change."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable, Mapping

import structlog

from weir.common.config import ConfigError
from weir.common.config.tenancy import ApiKey, Tenant
from weir.common.tenancy.files import WatchedFile

log = structlog.get_logger(__name__)
SHORTEST_KEY = 16
# How old what was read of a file may be: for a key that is known, and for one that is not.
KNOWN_PERIOD_S, UNKNOWN_PERIOD_S = 1.0, 0.1

# By a keyed hash of the hash, which nobody outside can compute: how long a look-up takes says nothing.
_Index = dict[bytes, tuple[bytes, str]]


class KeyRing:
    """The keys of all tenants.

    Args:
        tenants: with their keys.
        environ: where keys that are named by a variable are.
        clock: seconds.

    Raises:
        ConfigError: a variable that is not set, a file that cannot be read, a key that is too short to be
            one, or one that two tenants have.
    """

    def __init__(
        self,
        tenants: Mapping[str, Tenant],
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._secret = clock, secrets.token_bytes(32)
        given = [(name, key) for name, tenant in tenants.items() for key in tenant.api_keys]
        self._fixed = [(name, _digest_of(name, key, environ)) for name, key in given if not key.file]
        self._files = [(name, WatchedFile(key.file)) for name, key in given if key.file]
        self._of_file = [_read(name, file) for name, file in self._files]
        self._index = self._indexed()
        self._looked, self._looking = clock(), asyncio.Lock()

    async def tenant_of(self, key: str) -> str | None:
        """Return whose key this is, ``None`` where it is nobody's."""
        digest = _digest(key)
        await self._refresh(KNOWN_PERIOD_S)
        found = self._find(digest)
        if found is None:
            await self._refresh(UNKNOWN_PERIOD_S)
            found = self._find(digest)
        return found

    def _find(self, digest: bytes) -> str | None:
        known, tenant = self._index.get(self._mark(digest), (b"", ""))
        return tenant if hmac.compare_digest(known, digest) else None

    def _mark(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._secret, digest_size=16).digest()

    def _indexed(self) -> _Index:
        index: _Index = {}
        of_files = [
            (name, d) for (name, _), held in zip(self._files, self._of_file, strict=True) for d in held
        ]
        for name, digest in [*self._fixed, *of_files]:
            if index.setdefault(self._mark(digest), (digest, name))[1] != name:
                raise ConfigError(
                    f"tenancy.tenants.{name}: another tenant has one of its keys; make a new one."
                )
        return index

    async def _refresh(self, period_s: float) -> None:
        """Look at the files where that was not done lately."""
        if not self._files:
            return
        async with self._looking:
            if self._clock() - self._looked >= period_s:
                self._looked = self._clock()
                await asyncio.to_thread(self._look)

    def _look(self) -> None:
        """Take over files that changed; one that cannot be used leaves the keys it had."""
        for place, (name, file) in enumerate(self._files):
            before = self._of_file[place]
            try:
                if (content := file.read_changed()) is None:
                    continue
                self._of_file[place] = _parse(name, content)
                self._index = self._indexed()
                log.info("api_keys_reloaded", tenant=name, keys=len(self._of_file[place]))
            except (OSError, ConfigError) as error:
                self._of_file[place] = before
                log.warning("api_keys_not_reloaded", tenant=name, reason=type(error).__name__)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _digest_of(name: str, key: ApiKey, environ: Mapping[str, str]) -> bytes:
    if key.sha256:
        return bytes.fromhex(key.sha256)
    value = environ.get(key.env or "", "").strip()
    if not value:
        raise ConfigError(f"tenancy.tenants.{name}.api_keys: the variable {key.env} is not set.")
    return _digest(_checked(name, value))


def _read(name: str, file: WatchedFile) -> list[bytes]:
    try:
        content = file.read()
    except OSError as error:
        where = f"tenancy.tenants.{name}.api_keys: {file.path}"
        raise ConfigError(f"{where} cannot be read ({error.strerror}); give a text file of keys.") from None
    return _parse(name, content)


def _parse(name: str, content: bytes) -> list[bytes]:
    try:
        lines: Iterable[str] = content.decode("utf-8").split()
    except UnicodeDecodeError:
        raise ConfigError(f"tenancy.tenants.{name}.api_keys: the file is no text.") from None
    return [_digest(_checked(name, line)) for line in lines]


def _checked(name: str, key: str) -> str:
    if len(key) < SHORTEST_KEY or not (key.isascii() and key.isprintable() and " " not in key):
        problem = f"a key is printable ASCII of at least {SHORTEST_KEY} characters, without spaces"
        raise ConfigError(
            f"tenancy.tenants.{name}.api_keys: {problem}; make one with `openssl rand -hex 32`."
        )
    return key
