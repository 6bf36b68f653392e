"""SQLite: how connections are configured, and few trips to their threads.

SQLAlchemy opens, executes, fetches from and closes a cursor of aiosqlite, and each of these steps waits for
the connection's thread. With BEGIN and ROLLBACK that makes eight waits for one row. `DirectConnection` makes
one trip for each statement, and `DirectStatements` run without SQLAlchemy, a whole transaction in one trip.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast
from urllib.parse import quote

import aiosqlite
from sqlalchemy import Executable, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

_T = TypeVar("_T")

BUSY_TIMEOUT_SECONDS: Final = 30
WAL_RETRY_SECONDS: Final = 0.02
HIDE_PARAMETERS: Final = True
"""Keeps parameters (webhook secrets, addresses, transcripts) out of error messages, and so out of logs."""


def sqlite_engine(file: str, *, begin: str, connections: int, query_only: bool = False) -> AsyncEngine:
    """Return an engine with so many connections to a file, whose transactions start with `begin`."""
    engine = create_async_engine(
        "sqlite+aiosqlite:///" + file,
        async_creator=partial(DirectConnection, file),
        pool_size=connections,
        max_overflow=0,
        hide_parameters=HIDE_PARAMETERS,
    )

    def on_connect(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.run_async(_use_wal)
        cursor = dbapi_connection.cursor()
        for pragma in _pragmas(query_only=query_only):
            cursor.execute(pragma)
        cursor.close()

    def on_begin(connection: Connection) -> None:
        # Together with the first statement.
        driver = _driver(connection)
        driver.begin = None if driver.alone else begin

    event.listen(engine.sync_engine, "connect", on_connect)
    event.listen(engine.sync_engine, "begin", on_begin)
    return engine


def _pragmas(*, query_only: bool) -> tuple[str, ...]:
    return (
        "PRAGMA synchronous=FULL",
        "PRAGMA foreign_keys=ON",
        f"PRAGMA busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}",
        f"PRAGMA query_only={'ON' if query_only else 'OFF'}",
    )


@contextmanager
def alone(connection: AsyncConnection) -> Iterator[None]:
    """Run statements of a connection without a transaction while the context lasts."""
    assert connection.sync_connection is not None
    driver = _driver(connection.sync_connection)
    driver.alone = True
    try:
        yield
    finally:
        driver.alone = False


def _driver(connection: Connection) -> DirectConnection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, DirectConnection)
    return driver


async def _use_wal(connection: Any) -> None:
    """Turn on WAL mode, and retry while another process does the same with a new database.

    SQLite answers "locked" at once here, because its busy timeout does not apply to this statement.
    """
    try:
        async with asyncio.timeout(BUSY_TIMEOUT_SECONDS):
            while True:
                try:
                    async with connection.execute("PRAGMA journal_mode=WAL") as cursor:
                        await cursor.fetchall()
                except sqlite3.OperationalError as exc:
                    if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                        raise
                    await asyncio.sleep(WAL_RETRY_SECONDS)
                else:
                    return
    except TimeoutError as exc:
        raise sqlite3.OperationalError("another process holds the lock on the database") from exc


class DirectConnection(aiosqlite.Connection):
    """What SQLAlchemy's `async_creator` needs of aiosqlite, in a thread that no ending process waits for."""

    def __init__(self, file: str) -> None:
        super().__init__(
            # No isolation level: the driver's own transaction control starts late and deferred.
            lambda: sqlite3.connect(file, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None),
            iter_chunk_size=64,
        )
        self._thread.daemon = True
        self.begin: str | None = None
        """The BEGIN of the transaction that the next statement starts."""
        self.alone = False
        self._begun = False

    @override
    def cursor(self) -> DirectCursor:  # type: ignore[override]  # it is awaited as aiosqlite's own would be
        return DirectCursor(self)

    async def call(self, function: Callable[[sqlite3.Connection], None]) -> None:
        """Run a function in the connection's thread."""
        await self._execute(function, self._conn)  # type: ignore[no-untyped-call]

    async def transact(
        self, work: Callable[[sqlite3.Connection], _T], commit: Callable[[sqlite3.Connection], None]
    ) -> _T:
        """Run `work` and `commit` in one transaction, and in one trip. Raises what they raise."""

        def run(connection: sqlite3.Connection) -> _T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                commit(connection)
            except BaseException:
                connection.rollback()
                raise
            return result

        return cast("_T", await self._execute(run, self._conn))  # type: ignore[no-untyped-call]

    def take_begin(self) -> str | None:
        """Return the BEGIN that the next statement has to run first, if any."""
        begin, self.begin = self.begin, None
        self._begun |= begin is not None
        return begin

    @override
    async def commit(self) -> None:
        self.begin, self._begun = None, False
        await super().commit()

    @override
    async def rollback(self) -> None:
        if self._begun:
            # Nobody has to wait for it, since the thread does everything in order.
            self._tx.put_nowait((None, self._conn.rollback))
        self.begin, self._begun = None, False


class DirectStatements:
    """Statements of SQLAlchemy as sqlite3 itself runs them, compiled when they first run.

    A statement always has the same parameters, and its columns need no conversion when they are read.
    """

    def __init__(self) -> None:
        self._dialect = sqlite.dialect()
        self._compiled: dict[Executable, tuple[str, list[tuple[str, Any, Callable[[Any], Any] | None]]]] = {}

    def first_row(
        self, connection: sqlite3.Connection, statement: Executable, parameters: Mapping[str, Any]
    ) -> Sequence[Any] | None:
        """Run the statement to its end and return its first row, if any."""
        sql, binds = self._compiled.get(statement) or self._compile(statement, parameters)
        values = [
            convert(parameters.get(name, default)) if convert else parameters.get(name, default)
            for name, default, convert in binds
        ]
        rows = connection.execute(sql, values).fetchall()
        return rows[0] if rows else None

    def _compile(
        self, statement: Executable, parameters: Mapping[str, Any]
    ) -> tuple[str, list[tuple[str, Any, Callable[[Any], Any] | None]]]:
        made: Any = statement.compile(dialect=self._dialect, column_keys=list(parameters))  # type: ignore[attr-defined]
        binds = [(name, made.binds[name]) for name in made.positiontup]
        compiled = self._compiled[statement] = (
            str(made),
            [
                (name, bind.value, bind.type.dialect_impl(self._dialect).bind_processor(self._dialect))
                for name, bind in binds
            ],
        )
        return compiled


async def open_writer(file: str) -> DirectConnection:
    """Return a connection for `DirectConnection.transact`."""
    connection = await DirectConnection(file)
    assert isinstance(connection, DirectConnection)

    def configure(opened: sqlite3.Connection) -> None:
        for pragma in _pragmas(query_only=False):
            opened.execute(pragma)

    await connection.call(configure)
    return connection


def open_reader(file: str) -> sqlite3.Connection:
    """Return a connection that reads in the thread of its caller, and waits for nobody."""
    connection = sqlite3.connect(f"file:{quote(file)}?mode=ro", uri=True, timeout=0, isolation_level=None)
    connection.execute("PRAGMA query_only=ON")
    return connection


class DirectCursor:
    """A cursor that has fetched everything when `execute` returns."""

    arraysize = 1

    def __init__(self, connection: DirectConnection) -> None:
        self._connection = connection
        self._rows: Sequence[Any] = ()
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Any = ()) -> None:
        """Run a statement."""
        await self._run(sqlite3.Cursor.execute, sql, parameters)

    async def executemany(self, sql: str, parameters: Any) -> None:
        """Run a statement once for each set of parameters."""
        await self._run(sqlite3.Cursor.executemany, sql, parameters)

    async def _run(self, method: Callable[..., object], sql: str, parameters: Any) -> None:
        begin = self._connection.take_begin()

        def run(connection: sqlite3.Connection) -> None:
            if begin is not None:
                connection.execute(begin)
            cursor = connection.cursor()
            try:
                method(cursor, sql, parameters)
                self._rows = cursor.fetchall()
                self.description, self.rowcount = cursor.description, cursor.rowcount
                self.lastrowid = cursor.lastrowid
            finally:
                cursor.close()

        await self._connection.call(run)

    async def fetchall(self) -> Sequence[Any]:
        """Return the rows of the last statement."""
        return self._rows

    async def close(self) -> None:
        """Do nothing: the cursor in the thread is closed already."""
