"""Receipts in PostgreSQL, for several routers: one chain, to which they append in turn."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from weir.common.errors import ErrorCode, WeirError
from weir.router.receipts.sql import SqlDatabase

if TYPE_CHECKING:
    import psycopg

# The key of the advisory lock that a writer holds to the end of its transaction: "weir" in ASCII.
LOCK = 0x77656972
# So that a server that went silent is noticed: seconds to connect, milliseconds for the rest.
_LIMITS: dict[str, int | str] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "application_name": "weir-router",
}
_PATIENCE = "SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'"
_CAUSES = ("Connection refused", "authentication failed", "does not exist", "starting up", "timeout")


class PostgresDatabase(SqlDatabase):
    """See ``Database``. The address is read from an environment variable, and never logged."""

    integer, double, blob = "BIGINT", "DOUBLE PRECISION", "BYTEA"

    def __init__(self, variable: str) -> None:
        super().__init__()
        try:
            import psycopg
        except ModuleNotFoundError as error:
            hint = "Receipts in PostgreSQL need the extra: pip install 'weir[server,postgres]'."
            raise WeirError(ErrorCode.INTERNAL, hint, internal=str(error)) from error
        self._variable = variable
        self._driver = psycopg
        self.down = (psycopg.Error,)

    def _connect(self) -> psycopg.Connection[Any]:
        address = os.environ.get(self._variable, "")
        if not address:
            raise self._misconfigured("is not set")
        try:
            parts = self._driver.conninfo.conninfo_to_dict(address)
        except self._driver.ProgrammingError:
            # Its text may hold the address.
            raise self._misconfigured("is not of the form postgresql://user@host/database") from None
        try:
            settings = self._driver.conninfo.make_conninfo("", **{**_LIMITS, **parts})
            connection = self._driver.connect(settings, autocommit=True)
        except self._driver.Error as error:
            # Its text has the host and the user.
            cause = next((known for known in _CAUSES if known in str(error)), type(error).__name__)
            raise self._driver.OperationalError(f"cannot connect: {cause}") from None
        # Not among the options of the connection, which a pooler between would refuse.
        connection.execute(_PATIENCE)
        return connection

    def _begin(self, *, write: bool) -> None:
        if not write:
            self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return
        self._connection.execute("BEGIN")
        self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))

    def _sql(self, statement: str) -> str:
        return statement.replace("?", "%s")

    def _misconfigured(self, problem: str) -> WeirError:
        hint = f"The variable {self._variable}, which state.receipts.postgres_env names, {problem}."
        return WeirError(ErrorCode.INTERNAL, hint)
