"""The database: opening, reading, writing, migrating, and translating its errors.

SQLite has one writer connection, which starts every transaction with BEGIN IMMEDIATE (a read transaction that
upgrades to a write fails at once despite the busy timeout), and concurrent readers in WAL mode. PostgreSQL
has one pool for both. Differences between the two are in this module and in `schema.db_now`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine
from typing_extensions import override

from stenobird.errors import ConfigurationError, StorageUnavailable
from stenobird.storage.sqlite import HIDE_PARAMETERS, alone, sqlite_engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from sqlalchemy import Table
    from sqlalchemy.dialects.postgresql import Insert as PostgreSQLInsert
    from sqlalchemy.dialects.sqlite import Insert as SQLiteInsert
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

READERS: Final = 8
POOL_SIZE: Final = 10
GROUP_SIZE: Final = 64
"""The most writes that share a COMMIT."""

NEWEST_REVISION: Final = "0002"
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
    # If we are cut off, the locks that our transactions hold must not wait for TCP to notice.
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

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
_DATABASE_ERRORS: Final = (DBAPIError, PoolTimeout, OSError)


class Database:
    """An open database. `read` and `write` run one transaction each and translate vendor errors.

    Only `IntegrityError` passes through, because the stores decide what a conflict means. `file` is that of
    SQLite, which is noticed when it goes away: SQLite itself would go on writing to what nobody can open.
    """

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
                    await self._run_together()
        finally:
            result.cancel()
        return result.result()

    async def _run_together(self) -> None:
        """Run what waits in one transaction, and settle the result of at least one."""
        self._together = [waiting for waiting in self._together if not waiting[1].done()]
        batch = self._together[:GROUP_SIZE]
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
                raise CommitUnknown(_cause(exc)) from exc
            if isinstance(exc, DBAPIError) and not exc.connection_invalidated:
                raise StorageUnavailable(_cause(exc)) from exc
            raise ConnectionLost(_cause(exc)) from exc

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
            raise StorageUnavailable(FILE_GONE)

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
            raise StorageUnavailable(_cause(exc)) from exc

    def insert(self, table: Table) -> SQLiteInsert | PostgreSQLInsert:
        """Return this dialect's INSERT, which supports ON CONFLICT."""
        return sqlite.insert(table) if self.dialect == "sqlite" else postgresql.insert(table)

    async def lock(self, connection: AsyncConnection, key: int) -> None:
        """Hold an advisory lock until the transaction ends; SQLite's BEGIN IMMEDIATE already is one."""
        if self.dialect == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    async def aclose(self) -> None:
        """Close every connection. Safe to call twice."""
        await self.reader.dispose()
        await self.writer.dispose()


def _settle(result: asyncio.Future[Any], value: Any = None, *, error: BaseException | None = None) -> None:
    if result.done():
        return  # its caller was cancelled
    if error is None:
        result.set_result(value)
    else:
        result.set_exception(error)


def _cause(exc: BaseException) -> str | None:
    """Return what the database says is wrong with it, `None` where the error's own message says it best."""
    orig = getattr(exc, "orig", None)
    if isinstance(orig, sqlite3.Error):
        return _SQLITE_CAUSES.get(getattr(orig, "sqlite_errorcode", 0) & 0xFF)
    return _POSTGRESQL_CAUSES.get(str(getattr(orig or exc, "sqlstate", None)))


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
    because no other process works on this folder's jobs. Raises `ConfigurationError` with the holder's pid.
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
            raise ConfigurationError(
                f"The data folder {data_dir} is in use by process {holder}. Stop it, or set "
                "STENOBIRD_DATA_DIR to another folder."
            ) from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # Closing releases the lock. The file stays: if it were removed, two processes could hold a lock.
        os.close(descriptor)
