"""Which port each part of `weir up` takes, and whether it is free."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from weir.common.config import ConfigError, Settings

# In the order in which they are stopped: those who call before those who are called.
SERVICES = ("router", "verifier", "slm_worker", "frontier_proxy")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to listen on, and the variable that changes its port."""

    name: str
    host: str
    port: int
    variable: str

    @property
    def target(self) -> str:
        """Where clients on this machine find it."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::", "[::]", ""} else self.host  # noqa: S104
        return f"{host}:{self.port}"


def plan_endpoints(settings: Settings) -> dict[str, Endpoint]:
    """Return an endpoint with a real port for each service; 0 in the settings takes a free one.

    Raises:
        ConfigError: a port is taken, or given twice.
    """
    wanted = [
        Endpoint(name, service.host, service.port, f"WEIR_SERVICES__{name.upper()}__PORT")
        for name in SERVICES
        for service in [getattr(settings.services, name)]
    ]
    viewer = settings.viewer
    wanted += [
        Endpoint("trace page", "127.0.0.1", viewer.http_port, "WEIR_VIEWER__HTTP_PORT"),
        Endpoint("trace sink", "127.0.0.1", viewer.otlp_port, "WEIR_VIEWER__OTLP_PORT"),
    ]
    return {endpoint.name: endpoint for endpoint in _claim(wanted)}


def _claim(wanted: Iterable[Endpoint]) -> list[Endpoint]:
    """Bind all at once, so that no free port is given twice, and let go."""
    held: list[socket.socket] = []
    try:
        claimed: list[Endpoint] = []
        for endpoint in wanted:
            twin = next((e for e in claimed if e.port == endpoint.port and endpoint.port), None)
            if twin:
                raise ConfigError(
                    f"Port {endpoint.port} is given to both the {twin.name} and the {endpoint.name}; "
                    f"set {endpoint.variable} to another one."
                )
            held.append(_bind(endpoint))
            port = held[-1].getsockname()[1]
            claimed.append(Endpoint(endpoint.name, endpoint.host, port, endpoint.variable))
        return claimed
    finally:
        for sock in held:
            sock.close()


def _bind(endpoint: Endpoint) -> socket.socket:
    host = endpoint.host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, endpoint.port))
        # Binding alone can succeed beside another listener that reuses the address.
        sock.listen(1)
    except OSError as error:
        sock.close()
        raise ConfigError(_why_not(endpoint, error)) from None
    return sock


def _why_not(endpoint: Endpoint, error: OSError) -> str:
    where = f"Port {endpoint.port}, wanted for the {endpoint.name.replace('_', ' ')},"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where} is in use, perhaps by another `weir up` (`ss -ltnp 'sport = :{endpoint.port}'` tells); "
            f"stop that one or set {endpoint.variable} to another port."
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"{where} may not be opened by this user; set {endpoint.variable} to one above 1023."
    return f"{where} cannot be opened on {endpoint.host} ({error.strerror}); check its host."
