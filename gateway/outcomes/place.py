"""Where the store is: an address that a person writes, as SQLAlchemy wants it. A password in it is told to nobody."""

from pathlib import Path
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from services.runtime.errors import InvalidInput

FIELD = "outcomes_url"
EXPECTED = "postgresql://user@host:5432/database or sqlite:////folder/file.db"
DRIVERS = {"postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
OPTIONS = {"postgresql": {"sslmode"}, "sqlite": set[str]()}
DATABASE = "outcomes.db"


def place(url: str, folder: Path, password: str = "") -> URL:
    """The store at `url`; for "", SQLite in `folder`. `password` takes the place of one in the URL. Raises InvalidInput."""
    made = parsed(url) if url else URL.create("sqlite", database=str(folder / DATABASE))
    query: dict[str, Any] = dict(made.query)
    if mode := query.pop("sslmode", None):
        query["ssl"] = mode
    made = made.set(drivername=DRIVERS[made.drivername], query=query)
    return made.set(password=password) if password else made


def parsed(url: str) -> URL:
    """Raises InvalidInput, which does not repeat the URL."""
    try:
        made = make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidInput(FIELD, "cannot be read", EXPECTED) from None
    if made.drivername not in DRIVERS:
        raise InvalidInput(FIELD, "is of another kind", EXPECTED)
    if unknown := sorted(made.query.keys() - OPTIONS[made.drivername]):
        known = ", ".join(sorted(OPTIONS[made.drivername])) or "none"
        raise InvalidInput(FIELD, f"has the option {unknown[0][:40]!r}", f"{EXPECTED}, with no options but {known}")
    if not made.database or made.database == ":memory:":
        raise InvalidInput(FIELD, "names no database", EXPECTED)
    return made


def told(made: URL) -> str:
    """For logs: without the password."""
    return made.set(query={}).render_as_string(hide_password=True)
