"""What stands before every RPC of a service that authenticates: who calls, and whether not too often."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from weir.common.config.tenancy import Tenancy
from weir.common.interceptors import Rpc
from weir.common.tenancy.authentication import Authenticator
from weir.common.tenancy.limits import RateLimits
from weir.common.tenancy.rights import Rights


class TenantGuard:
    """A component, and a guard of RPCs.

    Args:
        config: the section ``tenancy``.
        environ: where keys that are named by a variable are.
        methods: those that authenticate, by name; others are open and, where credentials are configured,
            have no tenant.
        counted: those of them that count as requests.
        clock: seconds, never going back.

    Raises:
        ConfigError: keys that cannot be used.
    """

    def __init__(
        self,
        config: Tenancy,
        environ: Mapping[str, str],
        *,
        methods: Collection[str],
        counted: Collection[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trusting = not config.authenticates
        self._methods, self._counted = frozenset(methods), frozenset(counted)
        self.rights = Rights(config)
        self.limits = RateLimits(self.rights, clock)
        self._authenticator = Authenticator(config, self.rights, environ, clock)

    async def start(self) -> None:
        """See ``Authenticator.start``."""
        await self._authenticator.start()

    async def aclose(self) -> None:
        """See ``Authenticator.aclose``."""
        await self._authenticator.aclose()

    async def __call__(self, rpc: Rpc) -> None:
        """Let one RPC pass. Raises what ``Authenticator.identify`` and ``RateLimits.admit`` do."""
        name = rpc.info.method.rpartition("/")[2]
        if name in self._methods:
            await self._authenticator.identify(rpc.info)
            if name in self._counted:
                self.limits.admit(rpc.info.tenant)
        elif not self._trusting:
            rpc.info.tenant = ""
