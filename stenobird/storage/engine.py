"""The database: opening, reading, writing, migrating, and translating its errors.

An outage is logged here, once; whoever meets `StorageUnavailable` only waits or refuses.

SQLite has one writer connection, which starts every transaction with BEGIN IMMEDIATE (a read transaction that
upgrades to a write fails at once despite the busy timeout), and concurrent readers in WAL mode. PostgreSQL
has one pool for both. Differences between the two are in this module and in `schema.db_now`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import sqlite3
import time
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import structlog
from sqlalchemy import Executable, Table, UpdateBase, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, RowMapping, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from typing_extensions import override

from stenobird.errors import ConfigurationError, DataFolderInUse, StorageUnavailable
from stenobird.storage.sqlite import (
    HIDE_PARAMETERS,
    DirectStatements,
    alone,
    open_reader,
    open_writer,
    sqlite_engine,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from sqlalchemy.dialects.postgresql import Insert as PostgreSQLInsert
    from sqlalchemy.dialects.sqlite import Insert as SQLiteInsert

    from stenobird.storage.sqlite import DirectConnection

READERS: Final = 8
POOL_SIZE: Final = 10
GROUP_SIZE: Final = 64
"""The most writes that share a COMMIT."""

OUTAGE_SECONDS: Final = 30.0
"""Without a failure for so long, the next one belongs to another outage."""
SLOW_DISK_SECONDS: Final = 60.0
"""How long `Database.find` uses a thread after one that waited for the disk, over `slow_read_seconds`."""

NEWEST_REVISION: Final = "0005"
"""The last of `storage/migrations/versions`."""
MIGRATION_LOCK: Final = 7_205_110_001
QUEUE_LOCK: Final = 7_205_110_002
"""Keys of PostgreSQL's advisory locks; SQLite's one writer needs none."""


ANSWER_SECONDS: Final = 3.0
"""How long a transaction on PostgreSQL may take, the wait for a connection included."""
HURRIED_SECONDS: Final = 0.6
"""The same for `HURRY_SECONDS` after one ran out of time: three attempts at one write then end within 5 s."""
HURRY_SECONDS: Final = 5.0
PATIENT_SECONDS: Final = 60.0
"""The same for a transaction that changes thousands of rows in the background."""
CLOSE_SECONDS: Final = 0.2
SERVER_SETTINGS: Final = {
    "application_name": "stenobird",
    # If we are cut off, the locks that our transactions hold must not wait for TCP to notice.
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

_END_STUCK: Final = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    " AND usename = current_user AND application_name = :name AND state = 'active'"
    " AND wait_event = 'ClientRead' AND xact_start < clock_timestamp() - make_interval(secs => :seconds)"
)

_SQLITE_CAUSES: Final = {
    sqlite3.SQLITE_FULL: "The disk of the database is full. Nothing can be saved until some of it is freed.",
    sqlite3.SQLITE_READONLY: "The database's file or folder is read-only. Make it writable.",
    sqlite3.SQLITE_IOERR: "The disk of the database fails or is full. Check it.",
    sqlite3.SQLITE_CORRUPT: "The database's file is damaged. Restore a backup.",
    sqlite3.SQLITE_NOTADB: "The database's file is no database, or damaged. Restore a backup.",
    sqlite3.SQLITE_CANTOPEN: "The database's file can't be opened. Check its folder and its mode.",
    sqlite3.SQLITE_BUSY: "Another process keeps the database locked. End it.",
}
_POSTGRESQL_CAUSES: Final = {
    "25006": "The database is read-only. Connect to the primary server.",
    "28000": "The database refuses our user. Check STENOBIRD_DATABASE_URL.",
    "28P01": "The database refuses our password. Check STENOBIRD_DATABASE_URL.",
    "3D000": "The database does not exist on its server. Create it, or check STENOBIRD_DATABASE_URL.",
    "53100": "The disk of the database server is full. Nothing can be saved until some of it is freed.",
    "53300": "The database server has no free connection. Raise its max_connections.",
    "57P03": "The database server is starting or stopping. Send the same request again in a moment.",
    "XX001": "The database is damaged. Restore a backup.",
    "XX002": "The database is damaged. Restore a backup.",
}
FILE_GONE: Final = (
    "The database's file was deleted or replaced while the service was running. Stop the service, restore a"
    " backup, and start it again."
)


class ConnectionLost(StorageUnavailable):
    """The connection to the database broke; nothing was changed. Send the same request again in a moment."""


class CommitUnknown(StorageUnavailable):
    """The database did not confirm the change, which may have been made. Look before you send it again."""


_T = TypeVar("_T")
_Row: TypeAlias = "Sequence[Any]"
_log = structlog.get_logger(__name__)
_DATABASE_ERRORS: Final = (DBAPIError, PoolTimeout, OSError)


@dataclass(frozen=True, slots=True)
class Steps:
    """A transaction whose statements, each with its parameters, are known before it begins.

    `lock` is that of `Database.lock`. `check` gets the first row of each of `reads`, and refuses by raising,
    so that only then `writes` run.
    """

    lock: int
    reads: Sequence[tuple[Executable, Mapping[str, Any]]]
    check: Callable[[Sequence[Any]], None]
    writes: Sequence[tuple[Executable, Mapping[str, Any]]]


class Database:
    """An open database. `read` and `write` run one transaction each and translate vendor errors.

    Only `IntegrityError` passes through, because the stores decide what a conflict means. `file` is that of
    SQLite, which is noticed when it goes away: SQLite itself would go on writing to what nobody can open.
    """

    slow_read_seconds = 0.01
    stuck_seconds = PATIENT_SECONDS

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine, file: Path | None = None) -> None:
        self.writer = writer
        self.reader = reader
        self.dialect = writer.dialect.name
        self._file = file
        self._opened: tuple[int, int] | None = None
        self._hurry_until = 0.0
        # Hands the one connection out in order; a pool would time out its waiters.
        self._turn: asyncio.Lock | nullcontext[None] = (
            asyncio.Lock() if self.dialect == "sqlite" else nullcontext()
        )
        self.outbox_filled = asyncio.Event()
        """Set when this process has committed something to send."""
        self._together: list[tuple[Callable[[AsyncConnection], Awaitable[Any]], asyncio.Future[Any]]] = []
        self._steps: list[tuple[Steps, asyncio.Future[Any]]] = []
        self._stepping: asyncio.Task[None] | None = None
        self._statements = DirectStatements()
        self._direct: DirectConnection | None = None
        self._near: sqlite3.Connection | None = None
        self._far_until = 0.0
        self._failed_at = float("-inf")
        self._looked_at = float("-inf")
        self.blocks_read: Callable[[], int] = _blocks_read

    @asynccontextmanager
    async def write(self, *, patient: bool = False) -> AsyncIterator[AsyncConnection]:
        """Run a transaction that may write, and commit it unless the body raises.

        Raises `ConnectionLost` if nothing was written, `CommitUnknown` if that can't be known, and
        `StorageUnavailable` for any other failure of the database. After a cancellation during COMMIT the
        outcome is unknown as well. On PostgreSQL, see `ANSWER_SECONDS` and, if `patient`, `PATIENT_SECONDS`.
        """
        async with self._turn, self._transaction(patient=patient) as (connection, commit):
            yield connection
            await commit()

    async def write_together(self, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        """Run `work` in a transaction, and return its result once that is durable.

        On SQLite all that wait for their turn share a transaction, and so a COMMIT, which takes longer than
        their work. A savepoint keeps one that raises from undoing the others. `work` may run again when the
        transaction fails because of another one. Raises what `work` and `write` raise.
        """
        if self.dialect != "sqlite":
            async with self.write() as connection:
                return await work(connection)
        result: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._together.append((work, result))
        try:
            async with self._turn:
                # Whoever had the turn before may have done this work, too.
                while not result.done():
                    self._together = _unsettled(self._together)
                    await self._run_together(self._together[:GROUP_SIZE])
        finally:
            result.cancel()
        return result.result()

    async def write_steps(self, steps: Steps) -> Sequence[_Row | None]:
        """Run the transaction, and return the first row of each write once that is durable.

        On SQLite all that wait for their turn share a trip to its thread and a COMMIT. Raises what
        `steps.check` and `write` raise.
        """
        if self.dialect == "sqlite":
            result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._steps.append((steps, result))
            if self._stepping is None or self._stepping.done():
                self._stepping = asyncio.create_task(self._run_all_steps(), context=Context())
            done: Sequence[_Row | None] = await result
            return done
        async with self.write() as connection:
            await self.lock(connection, steps.lock)
            steps.check([(await connection.execute(*read)).first() for read in steps.reads])
            results = [await connection.execute(*write) for write in steps.writes]
            return [result.first() if result.returns_rows else None for result in results]

    async def _run_all_steps(self) -> None:
        """Run batches until nothing waits. The next one begins before the callers of the last one go on."""
        try:
            while True:
                async with self._turn:
                    self._steps = _unsettled(self._steps)
                    if not self._steps:
                        return
                    await self._run_steps(self._steps[:GROUP_SIZE])
        finally:
            for _, result in self._steps:
                result.cancel()

    async def _run_steps(self, batch: Sequence[tuple[Steps, asyncio.Future[Any]]]) -> None:
        """Run a batch in one transaction and settle its results; if one breaks it, each in one of its own."""

        def work(connection: sqlite3.Connection) -> list[tuple[Any, Exception | None]]:
            return [self._run_one(connection, steps) for steps, _ in batch]

        try:
            outcomes = await self.transact(work)
        except sqlite3.IntegrityError as exc:
            await self._run_apart(batch, IntegrityError(None, None, exc))
        except sqlite3.Error as exc:
            await self._run_apart(batch, StorageUnavailable(self._cause(exc)))
        except StorageUnavailable as exc:
            for _, result in batch:
                _settle(result, error=exc)
        except Exception as exc:  # noqa: BLE001  # its caller gets it
            await self._run_apart(batch, exc)
        else:
            for (_, result), (value, error) in zip(batch, outcomes, strict=True):
                _settle(result, value, error=error)

    async def _run_apart(self, batch: Sequence[tuple[Steps, asyncio.Future[Any]]], error: Exception) -> None:
        if len(batch) == 1:
            _settle(batch[0][1], error=error)
            return
        for one in batch:
            await self._run_steps([one])

    def _run_one(self, connection: sqlite3.Connection, steps: Steps) -> tuple[Any, Exception | None]:
        run = partial(self._statements.first_row, connection)
        reads = [run(*read) for read in steps.reads]
        try:
            steps.check(reads)
        except Exception as exc:  # noqa: BLE001  # its caller gets it
            return None, exc
        return [run(*write) for write in steps.writes], None

    async def transact(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work` in a transaction in SQLite's thread. Tests override this to lose the answer.

        Raises `sqlite3.Error` if nothing was written, and `CommitUnknown` if that can't be known.
        """
        self._check_file()
        if self._direct is None:
            self._direct = await open_writer(self._sqlite_file())

        def commit(connection: sqlite3.Connection) -> None:
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as exc:
                raise CommitUnknown(self._cause(exc)) from exc

        return await self._direct.transact(work, commit)

    def _sqlite_file(self) -> str:
        file = self.writer.url.database
        assert file is not None
        return file

    async def _run_together(
        self, batch: Sequence[tuple[Callable[[AsyncConnection], Awaitable[Any]], asyncio.Future[Any]]]
    ) -> None:
        """Run a batch in one transaction, and settle the result of at least one."""
        done: dict[asyncio.Future[Any], Any] = {}
        failed = [result for _, result in batch]
        committing = False
        try:
            async with self._transaction() as (connection, commit):
                for work, result in batch:
                    failed = [result]
                    try:
                        async with connection.begin_nested() if done else nullcontext():
                            done[result] = await work(connection)
                    except Exception as exc:
                        if isinstance(exc, _DATABASE_ERRORS) and not isinstance(exc, IntegrityError):
                            raise
                        if not done:
                            await connection.rollback()
                            await connection.begin()
                        _settle(result, error=exc)
                failed, committing = list(done), True
                await commit()
            for result, value in done.items():
                _settle(result, value)
        except BaseException as exc:
            # A failed transaction is the result of who met the failure; the others have not run.
            unavailable = isinstance(exc, StorageUnavailable)
            if committing or unavailable:
                for result in failed:
                    _settle(result, error=exc if unavailable else CommitUnknown())
            if not unavailable:
                raise

    @asynccontextmanager
    async def _transaction(
        self, *, patient: bool = False
    ) -> AsyncIterator[tuple[AsyncConnection, Callable[[], Awaitable[None]]]]:
        """Begin a transaction and yield its connection and what commits it; translate errors."""
        committing = False

        async def commit() -> None:
            nonlocal committing
            committing = True
            await self.commit(connection)

        try:
            async with self._in_time(patient=patient), self.writer.connect() as connection:
                await connection.begin()
                yield connection, commit
        except IntegrityError:
            raise
        except _DATABASE_ERRORS as exc:
            if committing:
                raise CommitUnknown(self._cause(exc)) from exc
            if isinstance(exc, DBAPIError) and not exc.connection_invalidated:
                raise StorageUnavailable(self._cause(exc)) from exc
            raise ConnectionLost(self._cause(exc)) from exc

    @asynccontextmanager
    async def _in_time(self, *, patient: bool = False) -> AsyncIterator[None]:
        """Check that SQLite's file is there, or bound the time of a transaction on PostgreSQL."""
        if self.dialect == "sqlite":
            self._check_file()
            yield
            return
        clock = asyncio.get_running_loop().time
        hurried = clock() < self._hurry_until
        seconds = PATIENT_SECONDS if patient else HURRIED_SECONDS if hurried else ANSWER_SECONDS
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            if not hurried:
                self._hurry_until = clock() + HURRY_SECONDS
            raise
        self._hurry_until = 0.0

    def _check_file(self) -> None:
        if self._file is None:
            return
        try:
            status = os.stat(self._file)  # noqa: PTH116  # runs before each transaction
            found = (status.st_dev, status.st_ino)
        except FileNotFoundError:
            found = None
        if self._opened is None:
            self._opened = found
        elif found != self._opened:
            self._note_outage(FILE_GONE)
            raise StorageUnavailable(FILE_GONE)

    def _cause(self, exc: BaseException) -> str | None:
        """Return what the database says is wrong with it, `None` where the error's message says it best."""
        orig = getattr(exc, "orig", exc)
        if isinstance(orig, sqlite3.Error):
            cause = _SQLITE_CAUSES.get(getattr(orig, "sqlite_errorcode", 0) & 0xFF)
        else:
            cause = _POSTGRESQL_CAUSES.get(str(getattr(orig, "sqlstate", None)))
        self._note_outage(cause or f"{type(orig).__name__}: {orig}")
        return cause

    def _note_outage(self, reason: str) -> None:
        """Log the first failure of an outage, for everything in this process that meets it."""
        now = time.monotonic()
        if now - self._failed_at > OUTAGE_SECONDS:
            _log.warning("database_unavailable", reason=reason)
        self._failed_at = now

    async def commit(self, connection: AsyncConnection) -> None:
        """Commit. Tests override this to lose the answer."""
        await connection.commit()

    @asynccontextmanager
    async def read(self, *, once: bool = False) -> AsyncIterator[AsyncConnection]:
        """Run a transaction that only reads, from one snapshot on SQLite.

        With `once` the body executes one statement, and BEGIN and ROLLBACK are left out.
        """
        try:
            async with self._in_time(), self.reader.connect() as connection:
                if once and self.dialect == "postgresql":
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                with alone(connection) if once and self.dialect == "sqlite" else nullcontext():
                    yield connection
        except _DATABASE_ERRORS as exc:
            raise StorageUnavailable(self._cause(exc)) from exc

    async def rows(self, query: Executable) -> Sequence[RowMapping]:
        """Return the rows of a SELECT."""
        async with self.read(once=True) as connection:
            return (await connection.execute(query)).mappings().all()

    async def row(self, query: Executable, parameters: Mapping[str, Any] | None = None) -> RowMapping | None:
        """Return the only row of a SELECT, if any."""
        async with self.read(once=True) as connection:
            return (await connection.execute(query, parameters)).mappings().one_or_none()

    async def number(self, query: Executable) -> int:
        """Return the count or sum that a SELECT finds."""
        async with self.read(once=True) as connection:
            return int(await connection.scalar(query) or 0)

    async def execute(self, change: UpdateBase, *, patient: bool = False) -> int:
        """Run one statement as a transaction; return how many rows it changed. Raises what `write` raises."""
        async with self.write(patient=patient) as connection:
            return (await connection.execute(change)).rowcount

    async def changed(self, change: Executable) -> RowMapping | None:
        """Run one statement as a transaction; return the row that its RETURNING has, if any."""
        async with self.write() as connection:
            return await one_or_none(connection, change)

    async def find(self, statement: Executable, parameters: Mapping[str, Any]) -> _Row | None:
        """Return the first row of a SELECT that finds it with an index.

        On SQLite this takes 20 µs, and a thread would take five times as long. So it runs at once, unless one
        has recently waited long for the disk, which streams must not. On a busy machine any read may take
        long, and a thread would make that worse.
        """
        if self.dialect == "sqlite" and (began := time.monotonic()) >= self._far_until:
            self._check_file()
            blocks = self.blocks_read()
            try:
                if self._near is None:
                    self._near = open_reader(self._sqlite_file())
                row = self._statements.first_row(self._near, statement, parameters)
            except sqlite3.Error:
                pass  # the thread waits for locks, and knows the cause of any other error
            else:
                if time.monotonic() - began > self.slow_read_seconds and self.blocks_read() > blocks:
                    self._far_until = time.monotonic() + SLOW_DISK_SECONDS
                return row
        async with self.read(once=True) as connection:
            return (await connection.execute(statement, parameters)).first()

    def insert(self, table: Table) -> SQLiteInsert | PostgreSQLInsert:
        """Return this dialect's INSERT, which supports ON CONFLICT."""
        return sqlite.insert(table) if self.dialect == "sqlite" else postgresql.insert(table)

    async def add_up(
        self,
        connection: AsyncConnection,
        table: Table,
        key: Mapping[str, Any],
        numbers: Mapping[str, float],
    ) -> None:
        """Add the numbers to those of the row with this primary key, which is inserted if it is missing."""
        new = self.insert(table).values(**key, **numbers)
        sums = {name: table.c[name] + new.excluded[name] for name in numbers}
        await connection.execute(new.on_conflict_do_update(index_elements=list(key), set_=sums))

    async def lock(self, connection: AsyncConnection, key: int) -> None:
        """Hold an advisory lock until the transaction ends; SQLite's BEGIN IMMEDIATE already is one."""
        if self.dialect == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    async def end_stuck(self) -> None:
        """End the transactions of processes that stand still, and so give up their locks; look once a minute.

        PostgreSQL ends idle transactions by itself, but none whose client has prepared a statement and stands
        still before it runs it.
        """
        now = time.monotonic()
        if self.dialect == "sqlite" or now - self._looked_at < self.stuck_seconds:
            return
        self._looked_at = now
        parameters = {"name": SERVER_SETTINGS["application_name"], "seconds": self.stuck_seconds}
        async with self.read(once=True) as connection:
            await connection.execute(_END_STUCK, parameters)

    async def aclose(self) -> None:
        """Close every connection, after what is being written. Safe to call twice."""
        if self._stepping is not None:
            await self._stepping
        if self._near is not None:
            self._near.close()
        if self._direct is not None:
            await self._direct.close()
        self._near = self._direct = None
        await self.reader.dispose()
        await self.writer.dispose()


async def one(connection: AsyncConnection, statement: Executable) -> RowMapping:
    """Run the statement and return its only row."""
    return (await connection.execute(statement)).mappings().one()


async def one_or_none(connection: AsyncConnection, statement: Executable) -> RowMapping | None:
    """Run the statement and return its only row, if any."""
    return (await connection.execute(statement)).mappings().one_or_none()


def _unsettled(waiting: Sequence[tuple[_T, asyncio.Future[Any]]]) -> list[tuple[_T, asyncio.Future[Any]]]:
    return [one for one in waiting if not one[1].done()]


def _settle(result: asyncio.Future[Any], value: Any = None, *, error: BaseException | None = None) -> None:
    if result.done():
        return  # its caller was cancelled
    if error is None:
        result.set_result(value)
    else:
        result.set_exception(error)


def _blocks_read() -> int:
    """Return how many blocks this thread has read from a disk."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock


def sqlite_url(data_dir: Path) -> str:
    """Return the URL of the embedded database in the data folder."""
    return f"sqlite+aiosqlite:///{data_dir / 'stenobird.db'}"


@asynccontextmanager
async def open_database(url: str, *, migrate_first: bool = True) -> AsyncIterator[Database]:
    """Open the database at this SQLAlchemy URL, migrate its schema, and close it on exit.

    Raises `ConfigurationError` for an unusable URL and `StorageUnavailable` if the database does not answer.
    """
    database = _connect(url)
    try:
        if migrate_first:
            await migrate(database)
        yield database
    finally:
        await database.aclose()


async def migrate(database: Database) -> None:
    """Upgrade the schema to the newest revision, under a lock that serialises concurrent processes."""
    async with database.read() as connection:
        if await connection.run_sync(_revision) == NEWEST_REVISION:
            return
    async with database.write(patient=True) as connection:
        await database.lock(connection, MIGRATION_LOCK)
        # Another process may have had the lock before. Alembic's context is global, so only the holder of
        # the lock may enter it; on SQLite this is the statement that takes it.
        if await connection.run_sync(_revision) != NEWEST_REVISION:
            await connection.run_sync(_upgrade)


def _revision(connection: Connection) -> str | None:
    """Return the revision of the schema; `None` for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _upgrade(connection: Connection) -> None:
    # Importing Alembic takes a quarter of a second, which no command should spend on an unchanged schema.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "stenobird.storage:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as exc:
        raise ConfigurationError(
            f"This version of Stenobird does not know the database's schema ({exc}). If a newer version has "
            "used the database, run that version, or restore an older backup."
        ) from exc


def _connect(url: str) -> Database:
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise ConfigurationError("STENOBIRD_DATABASE_URL is not a database URL.") from exc
    try:
        if parsed.drivername == "sqlite+aiosqlite":
            return _connect_sqlite(parsed.database)
        if parsed.drivername == "postgresql+asyncpg":
            engine = create_async_engine(
                url,
                pool_size=POOL_SIZE,
                max_overflow=POOL_SIZE,
                pool_pre_ping=True,
                hide_parameters=HIDE_PARAMETERS,
                connect_args={
                    "connection_class": _quickly_closed(),
                    "command_timeout": PATIENT_SECONDS,
                    "server_settings": SERVER_SETTINGS,
                },
            )
            return Database(engine, engine)
    except (NoSuchModuleError, ModuleNotFoundError) as exc:
        raise ConfigurationError(f"The driver {parsed.drivername} is not installed.") from exc
    raise ConfigurationError(
        "STENOBIRD_DATABASE_URL must start with postgresql+asyncpg:// or sqlite+aiosqlite:///, "
        f"not {parsed.drivername}://."
    )


def _quickly_closed() -> type:
    """Return asyncpg's connection, closing within `CLOSE_SECONDS` also if the server does not answer."""
    from asyncpg import Connection  # type: ignore[import-untyped]  # noqa: PLC0415  # only where it is used

    class QuicklyClosed(Connection):  # type: ignore[misc]
        @override
        async def close(self, *, timeout: float | None = None) -> None:
            with suppress(TimeoutError):  # it has been aborted then
                await super().close(timeout=CLOSE_SECONDS)

    return QuicklyClosed


def _connect_sqlite(file: str | None) -> Database:
    if not file or file == ":memory:":
        raise ConfigurationError("An SQLite database must be a file: readers and the writer share it.")
    folder = Path(file).absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        # Checked first, because the driver's thread would outlive a failed connection.
        raise ConfigurationError(f"The folder {folder} of the database is missing or can't be written.")
    writer = sqlite_engine(file, begin="BEGIN IMMEDIATE", connections=1)
    reader = sqlite_engine(file, begin="BEGIN", connections=READERS, query_only=True)
    return Database(writer, reader, Path(file))


@contextmanager
def locked_data_folder(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir/lock` until the context ends or the process dies, however it dies.

    Creates the folder (mode 0700) if necessary. The holder of the lock may call `JobStore.expire_leases`,
    because no other process works on this folder's jobs. Raises `DataFolderInUse` with the holder's pid.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigurationError(
            f"The data folder {data_dir} can't be written ({exc.strerror}). "
            "Set STENOBIRD_DATA_DIR to one that can."
        ) from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise DataFolderInUse(
                f"The data folder {data_dir} is in use by process {holder}. Stop it, or set "
                "STENOBIRD_DATA_DIR to another folder."
            ) from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # Closing releases the lock. The file stays: if it were removed, two processes could hold a lock.
        os.close(descriptor)
