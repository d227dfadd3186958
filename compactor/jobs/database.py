"""Reaching the database of the job store: SQLite or PostgreSQL, and nothing else.

SQLite is kept in WAL mode and fully synchronous: what a transaction has written survives the death
of the process and of the machine. A PostgreSQL server may be away for a moment.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from compactor.errors import SettingsError

BUSY_TIMEOUT_SECONDS = 30
# A server is waited for as long as this; less than a claim on a table outlives its last renewal.
RECONNECT_SECONDS = 20.0
_PAUSE_SECONDS, _PAUSE_MAX_SECONDS = 0.1, 2.0
# Execution options of a connection that writes nothing: it need not wait for those that do.
READING = {"is_reading": True}
# A server that vanishes without a word is noticed, by libpq's own names; the URL may say otherwise.
_LIBPQ = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def make_engine(url: str) -> Engine:
    """Return the engine of a SQLAlchemy URL; a SQLite file is made for this user only.

    Raises:
        SettingsError: it is a database of another kind, or its driver is not installed.
        SQLAlchemyError, OSError: the URL cannot be used.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.drivername in ("postgresql", "postgresql+psycopg"):
        return _postgres(parsed)
    raise SettingsError(
        f"`{parsed.render_as_string(hide_password=True)}` cannot be a job store",
        hint="write `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE`",
    )


def connect(engine: Engine) -> Connection:
    """Connect; a server that does not answer is asked again for a while.

    Raises:
        SQLAlchemyError: it stays away, or refuses.
    """
    ends_at = time.monotonic() + RECONNECT_SECONDS
    pause_seconds = _PAUSE_SECONDS
    while True:
        try:
            return engine.connect()
        except OperationalError:
            # SQLite has waited by itself.
            if engine.dialect.name == "sqlite" or time.monotonic() + pause_seconds > ends_at:
                raise
        time.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, _PAUSE_MAX_SECONDS)


def _postgres(url: URL) -> Engine:
    unsaid = {name: value for name, value in _LIBPQ.items() if name not in url.query}
    try:
        # Claims rely on seeing what was committed while they waited for a row.
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args=unsaid,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
        )
    except ImportError as error:
        raise SettingsError(
            "the driver of PostgreSQL is not installed",
            hint="install it: pip install 'lake-compactor[postgres]'",
        ) from error


def _sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        _private_file(Path(url.database))
    engine = create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "isolation_level": None}
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _begin_sqlite(connection: Connection) -> None:
    # Transactions that read first and write later would otherwise fail under contention.
    is_reading = connection.get_execution_options().get("is_reading", False)
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")


def _private_file(path: Path) -> None:
    """Make the file for this user only: plans name every path of a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, stat.S_IRUSR | stat.S_IWUSR))


def _configure_sqlite(connection: Any, _: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
