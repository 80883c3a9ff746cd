"""The database that outcomes are kept in: SQLite or PostgreSQL, by SQLAlchemy."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Any

from sqlalchemy import URL, Executable, Insert, Row, event, exists, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.outcomes.records import Exposure, Feedback, Given, Record, Turn
from gateway.outcomes.schema import check, prepare
from gateway.outcomes.tables import AssignmentRow, ExposureRow, FeedbackRow, Table, TurnRow

CONNECT_S, WITHIN_S = 5.0, 30.0
UNFIT = ("22", "23")
"""Classes of SQLSTATE: wrong data, violated constraints."""
PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "foreign_keys=ON")


class Away(Exception):
    """The store cannot be reached, or takes nothing now."""


class Unfit(Exception):
    """The store will never take one of these records."""


@contextmanager
def translated() -> Iterator[None]:
    """Raises Away and Unfit instead of what drivers raise. Neither tells parameters, which may be what people said."""
    try:
        yield
    except (DataError, IntegrityError, UnicodeError) as error:
        raise Unfit(words(error)) from None
    except DBAPIError as error:
        kind = Unfit if str(getattr(error.orig, "sqlstate", "") or "").startswith(UNFIT) else Away
        raise kind(words(error)) from None
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise Away(words(error)) from None


def words(error: Exception) -> str:
    """An error's kind and first line."""
    cause: BaseException = getattr(error, "orig", None) or error
    line = next(iter(str(cause).splitlines()), "")
    # As asyncpg's dialect tells it: <class 'asyncpg.exceptions.X'>: message
    return f"{type(error).__name__}: {line}"[:300]


class Store:
    """Use through `opened`. Every method raises Away, and Refused when the tables are of a version that is not known."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._prepared = False

    async def write(self, records: Sequence[Record]) -> None:
        """Keep records, all or none; those that are there already stay as they are. Raises Unfit, too."""
        async with self._begun() as connection:
            await check(connection)
            for table, rows in rows_of(records):
                await connection.execute(self._unless_there(table), rows)

    async def read(self, statement: Executable) -> Sequence[Row[Any]]:
        """All rows of a query."""
        async with self._begun() as connection:
            return (await connection.execute(statement)).all()

    async def stream(self, statement: Executable, at_once: int = 200) -> AsyncGenerator[Sequence[Row[Any]], None]:
        """The rows of a query, some at a time: whoever else is on the loop gets on between them. Close it."""
        async with self._begun() as connection, connection.stream(statement) as found:
            async for rows in found.partitions(at_once):
                yield rows
                await asyncio.sleep(0)

    async def change(self, statement: Executable) -> int:
        """How many rows a statement has changed."""
        async with self._begun() as connection:
            return int((await connection.execute(statement)).rowcount)

    async def given_to(self, session: str) -> list[tuple[str, str]] | None:
        """Flag and variant of all that a session was given; None for one that is not known."""
        given = await self.read(select(ExposureRow.flag, ExposureRow.variant).where(ExposureRow.session == session))
        if given or (await self.read(select(exists().where(TurnRow.session == session))))[0][0]:
            return [(row.flag, row.variant) for row in given]
        return None

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[AsyncConnection]:
        """A transaction on tables of our version."""
        try:
            with translated():
                async with asyncio.timeout(WITHIN_S):
                    await self._prepare()
                    async with self._engine.begin() as connection:
                        yield connection
        except Away:
            # Whatever it is when it is back.
            self._prepared = False
            raise

    def _unless_there(self, table: type[Table]) -> Insert:
        if self._engine.dialect.name == "postgresql":
            return postgresql.insert(table).on_conflict_do_nothing()
        return sqlite.insert(table).on_conflict_do_nothing()

    async def _prepare(self) -> None:
        """In a transaction of its own: others wait for it."""
        if self._prepared:
            return
        try:
            async with self._engine.begin() as connection:
                await prepare(connection)
        except (DataError, IntegrityError) as error:
            # Another gateway was first: nothing is wrong with any record.
            raise Away(words(error)) from None
        self._prepared = True


def rows_of(records: Iterable[Record]) -> Iterator[tuple[type[Table], list[dict[str, Any]]]]:
    """Rows by table, those first that others refer to."""
    found: dict[type[Table], list[dict[str, Any]]] = {
        each: [] for each in (ExposureRow, TurnRow, AssignmentRow, FeedbackRow)
    }
    for record in records:
        match record:
            case Exposure():
                found[ExposureRow].append(columns(record))
            case Turn():
                interrupted = record.outcome == "interrupted"
                found[TurnRow].append(columns(record, "given") | {"interrupted": interrupted})
                ids = {"session": record.session, "turn": record.turn}
                found[AssignmentRow] += [ids | columns(each) for each in record.given]
            case Feedback():
                found[FeedbackRow].append(columns(record))
    return ((table, rows) for table, rows in found.items() if rows)


def columns(record: Record | Given, *but: str) -> dict[str, Any]:
    """PostgreSQL's text holds everything but NUL."""
    return {
        name: value.replace("\0", "") if isinstance(value, str) else value
        for name, value in asdict(record).items()
        if name not in ("kind", *but)
    }


def engine_of(place: URL) -> AsyncEngine:
    """Connects when it is first needed. Parameters are in no message of it."""
    if place.get_backend_name() == "sqlite":
        engine = create_async_engine(place, hide_parameters=True, connect_args={"timeout": CONNECT_S})
        event.listen(engine.sync_engine, "connect", set_up_sqlite)
        return engine
    return create_async_engine(
        place,
        hide_parameters=True,
        pool_size=2,
        max_overflow=0,
        pool_timeout=CONNECT_S,
        pool_recycle=1800,
        pool_pre_ping=True,
        connect_args={"timeout": CONNECT_S, "command_timeout": WITHIN_S},
    )


def set_up_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@asynccontextmanager
async def opened(place: URL) -> AsyncIterator[Store]:
    """The store at a place, which need not be there now."""
    engine = engine_of(place)
    try:
        yield Store(engine)
    finally:
        await engine.dispose()
