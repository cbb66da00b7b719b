"""The controller's state, shared by router replicas through Valkey or Redis."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
import structlog

from weir.common.config import ConfigError, Settings
from weir.router.control.settings import law
from weir.router.control.state import State
from weir.router.control.summary import Summary, merged

if TYPE_CHECKING:
    from valkey.asyncio import Valkey

TIMEOUT_S = 0.5
# Windows after which an unused state is forgotten.
KEPT_WINDOWS = 12
log = structlog.get_logger(__name__)
_Shared = TypeVar("_Shared", Summary, State)

# Publish one replica's summary, drop those not renewed in time, return all: [id, payload, ...].
_MERGE = """
local time = redis.call('TIME'); local now = time[1] + time[2] / 1e6
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3])) do
  redis.call('HDEL', KEYS[1], id); redis.call('ZREM', KEYS[2], id)
end
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[3] * 1000))
redis.call('PEXPIRE', KEYS[2], math.ceil(ARGV[3] * 1000))
return redis.call('HGETALL', KEYS[1])
"""
# Keep the state with the higher version, the one that was there first among equals; return it and its age.
_AGREE = """
local time = redis.call('TIME'); local now = time[1] + time[2] / 1e6
local known = redis.call('HMGET', KEYS[1], 'version', 'at', 'state')
if not known[1] or tonumber(known[1]) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'version', ARGV[1], 'at', string.format('%.6f', now), 'state', ARGV[2])
  known = {ARGV[1], string.format('%.6f', now), ARGV[2]}
end
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[3] * 1000))
return {known[1], string.format('%.6f', now - known[2]), known[3]}
"""


class ValkeyState:
    """What one replica reads and writes; without a connection it goes on alone, and says so.

    A move is a compare-and-set on the state's version: of replicas that move at once the first wins, and the
    others follow it, its dwell time included. Times are exchanged as ages: no two clocks have to agree.

    Args:
        address: valkey://, redis:// (with s: TLS) or unix://.
        name: of the state; only replicas of one configuration may share one.
        fresh_s: how long a replica's summary counts without renewal.
        kept_s: how long a state outlives the last replica.
    """

    def __init__(self, address: str, name: str, *, fresh_s: float, kept_s: float) -> None:
        self._address = address
        # One hash slot, so that a cluster keeps them together.
        self._keys = {part: f"weir:{{control:{name}}}:{part}" for part in ("state", "summaries", "replicas")}
        self._fresh_s, self._kept_s = fresh_s, kept_s
        self._replica = uuid.uuid4().hex
        self._client: Valkey | None = None
        self._connected: bool | None = None

    @property
    def connected(self) -> bool:
        """Whether the last exchange reached the server."""
        return bool(self._connected)

    async def merge(self, mine: Summary) -> Summary:
        """Publish this replica's summary and return the sum over all; ``mine`` without a connection."""
        keys = [self._keys["summaries"], self._keys["replicas"]]
        found = await self._call(_MERGE, keys, self._replica, msgspec.msgpack.encode(mine), self._fresh_s)
        if found is None:
            return mine
        others = [
            summary
            for replica, payload in zip(found[::2], found[1::2], strict=True)
            if replica.decode() != self._replica and (summary := _read(payload, Summary)) is not None
        ]
        return merged([mine, *others])

    async def agree(self, mine: State, now: float) -> State:
        """Return the newest state of all; ``mine`` where it is that, or without a connection."""
        payload = msgspec.msgpack.encode(mine.shifted(-now))
        found = await self._call(_AGREE, [self._keys["state"]], mine.version, payload, self._kept_s)
        if found is None:
            return mine
        theirs = _read(found[2], State)
        # A state of the same version may still be another's: the first to move won.
        if theirs is None or (theirs.version, theirs.thresholds) == (mine.version, mine.thresholds):
            return mine
        return theirs.shifted(now - float(found[1]))

    async def aclose(self) -> None:
        """Disconnect; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _call(self, script: str, keys: list[str], *arguments: str | bytes | float) -> Any:
        from valkey.exceptions import ValkeyError

        try:
            # The stubs know text arguments alone.
            run = cast("Callable[..., Awaitable[Any]]", self._connection().eval)
            found = await run(script, len(keys), *keys, *arguments)
        except (ValkeyError, OSError) as error:
            self._note(connected=False, reason=type(error).__name__)
            return None
        self._note(connected=True)
        return found

    def _connection(self) -> Valkey:
        if self._client is None:
            from valkey.asyncio import Valkey

            self._client = Valkey.from_url(
                self._address, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
            )
        return self._client

    def _note(self, *, connected: bool, reason: str = "") -> None:
        if connected is self._connected:
            return
        self._connected = connected
        if connected:
            log.info("shared_state_joined", replica=self._replica)
        else:
            log.warning("shared_state_lost", reason=reason, hint="this replica goes on alone")


def _read(payload: bytes, kind: type[_Shared]) -> _Shared | None:
    """Decode what a replica wrote, ``None`` where another version of the program means something else."""
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except msgspec.DecodeError as error:
        log.warning("shared_state_foreign", kind=kind.__name__, reason=type(error).__name__)
        return None


def shared_state(settings: Settings) -> ValkeyState | None:
    """Return the state that the configuration names, ``None`` where replicas are on their own.

    Raises:
        ConfigError: the variable is not set, or holds no address.
    """
    variable = settings.state.shared_env
    if variable is None:
        return None
    address = os.environ.get(variable, "")
    if not address.startswith(("valkey://", "valkeys://", "redis://", "rediss://", "unix://")):
        raise ConfigError(
            f"state.shared_env: the variable {variable} holds no address such as valkey://host:6379."
        )
    wanted = law(settings)
    name = hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]
    return ValkeyState(
        address, name, fresh_s=max(5.0, 5 * wanted.period_s), kept_s=KEPT_WINDOWS * wanted.window_s
    )
