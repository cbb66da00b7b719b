"""The ledger in PostgreSQL, for several proxies: they write in turn, and each holds a lock while it lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weir.frontier_proxy.ledger.database import Database

if TYPE_CHECKING:
    import psycopg

# Keys of advisory locks: of whoever writes, to the end of its transaction, and with the process' number of
# whoever lives, to the end of its session. "weil" and "weih" in ASCII.
WRITER, LIVING = 0x7765696C, 0x77656968
# So that a server that went silent is noticed: seconds to connect, milliseconds for the rest.
_LIMITS: dict[str, int | str] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "application_name": "weir-frontier-proxy",
}
_PATIENCE = "SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'"
_CAUSES = ("Connection refused", "authentication failed", "does not exist", "starting up", "timeout")


class PostgresDatabase(Database):
    """See ``Database``.

    Args:
        variable: the environment variable that the address is from; it is named, the address never.
        address: as libpq takes it. Its sessions must be ours alone: a pooler must not share them.

    Raises:
        ImportError: the driver is not installed.
        ValueError: not an address.
    """

    integer = "BIGINT"
    rows = "json_array_elements(CAST(? AS JSON)) AS rows(value)"

    def __init__(self, variable: str, address: str) -> None:
        super().__init__()
        import psycopg

        try:
            parts = psycopg.conninfo.conninfo_to_dict(address)
        except psycopg.ProgrammingError:
            # Its text may hold the address.
            raise ValueError("is not of the form postgresql://user@host/database") from None
        self._variable, self._address, self._driver = variable, address, psycopg
        self._settings = psycopg.conninfo.make_conninfo("", **{**_LIMITS, **parts})
        self.down = (psycopg.Error,)

    @property
    def advice(self) -> str:
        """What to do where the server cannot be used."""
        return f"The ledger's PostgreSQL server, which the variable {self._variable} names, cannot be used."

    def twin(self) -> Database:
        """Return the same server, see ``Database.twin``."""
        return PostgresDatabase(self._variable, self._address)

    def hold(self, holder: int) -> None:
        """Take the session's lock, see ``Database.hold``."""
        # Tried, not awaited: an old session of ours may still have it.
        self.do("SELECT pg_try_advisory_lock(?, ?)", (LIVING, holder))

    def dead(self, holder: int) -> bool:
        """Return whether no session has a process' lock, see ``Database.dead``."""
        return bool(self.do("SELECT pg_try_advisory_xact_lock(?, ?)", (LIVING, holder)).fetchone()[0])

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            connection = self._driver.connect(self._settings, autocommit=True)
        except self._driver.Error as error:
            # Its text has the host and the user.
            cause = next((known for known in _CAUSES if known in str(error)), type(error).__name__)
            raise self._driver.OperationalError(f"cannot connect: {cause}") from None
        # Not among the options of the connection, which a pooler between would refuse.
        connection.execute(_PATIENCE)
        return connection

    def _begin(self) -> None:
        # In one round trip; two statements cannot be prepared.
        self._connection.execute(f"BEGIN; SELECT pg_advisory_xact_lock({WRITER})", prepare=False)

    def _placed(self, statement: str) -> str:
        return statement.replace("?", "%s")
