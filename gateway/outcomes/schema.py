"""The store's tables: made where there are none, left alone where they are not known."""

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.outcomes.tables import SCHEMA, SchemaRow, Table
from services.runtime.errors import Refused

NAME = "outcomes"
LOCK = 0x74616C6B
"""Of PostgreSQL, under which one gateway at a time looks and makes."""


async def prepare(connection: AsyncConnection) -> None:
    """Make the tables if there are none. Raises Refused when they are of another version than ours."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    await connection.run_sync(SchemaRow.metadata.tables[SchemaRow.__tablename__].create, checkfirst=True)
    if await version(connection) is None:
        await connection.run_sync(Table.metadata.create_all)
        await connection.execute(insert(SchemaRow).values(name=NAME, version=SCHEMA))
    await check(connection)


async def check(connection: AsyncConnection) -> None:
    """Raises Refused when the tables are of another version than ours: a gateway that is newer may have come by now."""
    found = await version(connection)
    if found != SCHEMA:
        than = "newer" if found and found > SCHEMA else "other"
        raise Refused(
            f"the store of outcomes has schema version {found}, {than} than the {SCHEMA} of this gateway: "
            "update the gateway, or give it a store of its own"
        )


async def version(connection: AsyncConnection) -> int | None:
    """Of the tables; None if there are none."""
    return (await connection.execute(select(SchemaRow.version).where(SchemaRow.name == NAME))).scalar()
