"""The profile store: what every attempt took, appended to an SQLite file, read back to learn."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, fields
from pathlib import Path

from runtime.api import Profile

HISTORY_MAX = 10_000
"""Attempts read back per operation: about 100 tables at the predictor's full memory."""

KEPT_MAX = 2 * HISTORY_MAX
"""Attempts kept per operation: what is read back, and as many again that may have failed."""

BUSY_TIMEOUT_SECONDS = 10.0

_COLUMNS = [
    "table_name",
    "operation",
    *(field.name for field in fields(Profile) if field.name != "key"),
]
_CREATE = f"CREATE TABLE IF NOT EXISTS profiles (id INTEGER PRIMARY KEY, {', '.join(_COLUMNS)})"
_INDEX = "CREATE INDEX IF NOT EXISTS profiles_by_operation ON profiles (operation, id)"
_INSERT = f"INSERT INTO profiles ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_SELECT = (
    f"SELECT {', '.join(_COLUMNS)} FROM profiles WHERE operation = ? AND outcome = 'done'"  # noqa: S608
    " ORDER BY id DESC LIMIT ?"
)

_SELECT_ALL = (
    f"SELECT {', '.join(_COLUMNS)} FROM profiles WHERE outcome = 'done' ORDER BY id DESC LIMIT ?"  # noqa: S608
)


# Ids grow: the oldest one to stay is found in the index, without counting.
_PRUNE = (
    "DELETE FROM profiles WHERE operation = :operation AND id <= "
    "(SELECT id FROM profiles WHERE operation = :operation ORDER BY id DESC LIMIT 1 OFFSET :kept)"
)


class ProfileStore:
    """Profiles of tasks that have a key. The file is opened per call, by any thread or process."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def append(self, profiles: Iterable[Profile]) -> None:
        """Add profiles in one transaction, and drop the oldest of their operations beyond a bound.

        Those without a key are left out.

        Raises:
            sqlite3.Error: The file cannot be written.
        """
        rows = [(*p.key, *astuple(p)[1:]) for p in profiles if p.key is not None]
        if rows:
            with self._open() as connection:
                connection.executemany(_INSERT, rows)
                grown = [{"operation": name, "kept": KEPT_MAX} for name in {row[1] for row in rows}]
                connection.executemany(_PRUNE, grown)

    def operations(self) -> list[str]:
        """Return the operations that have profiles, in the order of their names."""
        if not self._path.exists():
            return []
        with self._open() as connection:
            rows = connection.execute("SELECT DISTINCT operation FROM profiles ORDER BY 1")
            return [row[0] for row in rows]

    def history(self, operation: str) -> list[Profile]:
        """Return the newest successful attempts of an operation, oldest first."""
        if not self._path.exists():
            return []
        with self._open() as connection:
            rows = connection.execute(_SELECT, (operation, HISTORY_MAX)).fetchall()
        return [Profile((row[0], row[1]), *row[2:]) for row in reversed(rows)]

    def attempts(self) -> list[Profile]:
        """Return the newest successful attempts of all operations, oldest first."""
        if not self._path.exists():
            return []
        with self._open() as connection:
            rows = connection.execute(_SELECT_ALL, (HISTORY_MAX,)).fetchall()
        return [Profile((row[0], row[1]), *row[2:]) for row in reversed(rows)]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_SECONDS)) as connection:
            _prepare(connection)
            with connection:
                yield connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the table, or add the columns that a file of an older version lacks."""
    connection.execute(_CREATE)
    connection.execute(_INDEX)
    present = {row[1] for row in connection.execute("PRAGMA table_info(profiles)")}
    for column in _COLUMNS:
        if column not in present:
            connection.execute(f"ALTER TABLE profiles ADD COLUMN {column} DEFAULT 0")
