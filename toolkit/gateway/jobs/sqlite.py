"""Jobs in a SQLite file, which the gateways of one machine may share."""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Double, bindparam, create_engine, event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from toolkit.gateway.jobs.database import unavailable
from toolkit.gateway.jobs.schema import METADATA

T = TypeVar("T")

_BUSY_SECONDS = 5
_READERS = 2


class Sqlite:
    """One thread that writes and two that read.

    A whole transaction is one step to a thread and back: an asynchronous driver takes such a
    step for each statement, which costs more than SQLite itself.
    """

    skips_locked = False

    def __init__(self, url: URL) -> None:
        self._url = url.set(drivername="sqlite+pysqlite")
        self._path = Path(url.database or "")
        self._engine = create_engine(
            self._url, pool_size=1 + _READERS, connect_args={"timeout": _BUSY_SECONDS}
        )
        event.listen(self._engine, "connect", _on_connect)
        event.listen(self._engine, "begin", _on_begin)
        self._writer = ThreadPoolExecutor(1, "jobs-writer")
        self._readers = ThreadPoolExecutor(_READERS, "jobs-reader")
        self._opened: tuple[int, int] | None = None
        self._prepared = False
        self._preparing = Lock()

    def now(self) -> ColumnElement[float]:
        """Return this machine's clock, which is read when the statement is executed."""
        return bindparam("now", callable_=time.time, type_=Double)

    async def write(self, act: Callable[[Connection], T]) -> T:
        """Return what ``act`` does in a transaction, once that is on disk."""
        return await self._in(self._writer, act, False)

    async def read(self, act: Callable[[Connection], T]) -> T:
        """Return what ``act`` reads."""
        return await self._in(self._readers, act, True)

    async def close(self) -> None:
        """Close every connection, which also brings the log into the file."""
        for threads in (self._writer, self._readers):
            await asyncio.to_thread(threads.shutdown)
        self._engine.dispose()

    async def _in(
        self, threads: ThreadPoolExecutor, act: Callable[[Connection], T], reading: bool
    ) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, self._act, act, reading)

    def _act(self, act: Callable[[Connection], T], reading: bool) -> T:
        try:
            self._prepare()
            with self._engine.connect() as connection:
                connection.execution_options(toolkit_reading=reading)
                with connection.begin():
                    return act(connection)
        except (DataError, IntegrityError):
            raise  # a fault of this code, and not of the database
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            self._prepared = False
            self._engine.dispose()
            raise unavailable(self._url, error) from error

    def _prepare(self) -> None:
        """Make the tables where there are none; see that the file is still the one we opened."""
        if self._prepared and _identity(self._path) == self._opened:
            return
        with self._preparing:
            if self._prepared and _identity(self._path) == self._opened:
                return
            self._engine.dispose()
            _ensure_file(self._path, new=self._opened is None)
            with self._engine.begin() as connection:
                METADATA.create_all(connection)
            self._opened = _identity(self._path)
            self._prepared = True


def _on_connect(connection: Any, _record: Any) -> None:
    """Set up a connection.

    ``synchronous=FULL`` outlives a power cut too, where ``NORMAL`` outlives only a killed
    process; submissions share their commits, so that it costs little. Where a transaction
    begins is ours to say: the driver would say it too late.
    """
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    """Take the only writer's place at once: two readers that turn writers would collide."""
    if not connection.get_execution_options().get("toolkit_reading", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file this is; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _ensure_file(path: Path, *, new: bool) -> None:
    """Create the file, readable by its owner only; one that has vanished is waited for.

    A fresh file in its place would take jobs that are lost when the old one returns.
    """
    if new:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    elif not path.exists():
        raise FileNotFoundError(f"{path} is gone; put it back, or restart to begin a new one")
