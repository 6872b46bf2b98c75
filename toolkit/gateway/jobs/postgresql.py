"""Jobs in PostgreSQL, which the gateways of many machines may share."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import asyncpg
from sqlalchemy import ColumnElement, Double, cast, extract, func, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from toolkit.gateway.jobs.database import unavailable
from toolkit.gateway.jobs.schema import METADATA

T = TypeVar("T")

_LOCK = 0x70_6A_6F_62  # any number of our own: who makes the tables
_AWAY = (
    DBAPIError,
    PoolTimeoutError,
    OSError,
    TimeoutError,
    asyncpg.PostgresError,  # as it comes while connecting
    asyncpg.InterfaceError,
)


class Postgresql:
    """A pool of connections, all dropped when one of them fails."""

    skips_locked = True

    def __init__(self, url: URL) -> None:
        self._url = url.set(drivername="postgresql+asyncpg")
        self._engine = create_async_engine(
            self._url,
            pool_size=4,
            max_overflow=4,
            pool_timeout=10,
            # A server that was restarted while nobody asked must not fail the next request.
            pool_pre_ping=True,
            connect_args={"timeout": 5, "command_timeout": 20},
        )
        self._prepared = False
        self._preparing = asyncio.Lock()

    def now(self) -> ColumnElement[float]:
        """Return the server's clock; an index can be searched with it."""
        return cast(extract("epoch", func.statement_timestamp()), Double)

    async def write(self, act: Callable[[Connection], T]) -> T:
        """Return what ``act`` does in a transaction, once that is committed."""
        async with self._connected() as connection:
            return await connection.run_sync(act)

    async def read(self, act: Callable[[Connection], T]) -> T:
        """Return what ``act`` reads."""
        async with self._connected() as connection:
            return await connection.run_sync(act)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        try:
            await self._prepare()
            async with self._engine.begin() as connection:
                yield connection
        except (DataError, IntegrityError):
            raise  # a fault of this code, and not of the database
        except _AWAY as error:
            self._prepared = False
            with suppress(Exception):  # the first error is the one to tell
                await self._engine.dispose()
            raise unavailable(self._url, error) from error

    async def _prepare(self) -> None:
        """Make the tables where there are none; of several gateways only one does."""
        if self._prepared:
            return
        async with self._preparing:
            async with self._engine.begin() as connection:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
                await connection.run_sync(METADATA.create_all)
            self._prepared = True
