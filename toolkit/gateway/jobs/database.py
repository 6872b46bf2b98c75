"""The database under the jobs: what SQLite and PostgreSQL have in common.

Both make their tables at the first use and start anew after a failure, so that a database may
come after the gateway, go away and return.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import ColumnElement, make_url
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import ArgumentError

from toolkit.errors import ConfigError, UnavailableError

T = TypeVar("T")

_HINT = "give sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"


class JobStoreUnavailableError(UnavailableError):
    """The database of the jobs does not answer, is full, or is gone; it may come back."""


class Database(Protocol):
    """Runs functions of a connection. Raises ``JobStoreUnavailableError``."""

    skips_locked: bool
    """Whether several may claim at once, each skipping what the others hold."""

    def now(self) -> ColumnElement[float]:
        """Return the clock that all gateways on this database share, in seconds since 1970."""

    async def write(self, act: Callable[[Connection], T]) -> T:
        """Return what ``act`` does in a transaction, once that is committed."""

    async def read(self, act: Callable[[Connection], T]) -> T:
        """Return what ``act`` reads; it waits for no writer."""

    async def close(self) -> None:
        """Close every connection."""


def database(given: str) -> Database:
    """Return the database of a URL; nothing is opened yet. Raises ``ConfigError``."""
    try:
        url = make_url(given.replace("postgres://", "postgresql://", 1))
    except ArgumentError:
        # The text may hold a password, so it is not repeated.
        raise ConfigError("the URL of the job store is no database URL", hint=_HINT) from None
    kind = url.get_backend_name()
    if kind == "sqlite":
        from toolkit.gateway.jobs.sqlite import Sqlite

        if url.database in {None, "", ":memory:"}:
            raise ConfigError("a job store in memory would lose its jobs", hint=_HINT)
        return Sqlite(url)
    if kind == "postgresql":
        from toolkit.gateway.jobs.postgresql import Postgresql

        return Postgresql(url)
    raise ConfigError(f"no job store in a {kind} database", hint=_HINT)


def unavailable(url: URL, error: BaseException) -> JobStoreUnavailableError:
    """Return the error for what a driver raised; it names the place and never a password."""
    where = url.database if url.get_backend_name() == "sqlite" else url.host or "PostgreSQL"
    cause = getattr(error, "orig", None) or error
    reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    return JobStoreUnavailableError(
        f"the job store ({where}) is not available: {reason}", hint="try again in a moment"
    )
