"""One writer of the race: commits through PyIceberg and notes what it has committed.

Usage: python -m tests.acceptance.writer DIRECTORY KIND NUMBER SECONDS

It owns the rows of its number, a partition of its own, so that what must be in the table at the
end follows from its own notes alone: one line per commit, the whole content it has left behind.
"""

from __future__ import annotations

import json
import random
import sys
import time
import warnings
from pathlib import Path

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.expressions import And, EqualTo, In, LessThan
from pyiceberg.table import Table
from sqlalchemy.exc import OperationalError

from tests.iceberg_tables import (
    commit_deletes_if_live,
    data_files,
    sql_catalog,
    write_position_deletes,
)

SCHEMA = pa.schema(
    [
        pa.field("writer", pa.int64(), nullable=False),
        pa.field("id", pa.int64(), nullable=False),
        pa.field("value", pa.string()),
    ]
)
# What a writer is told when another one was first: nothing of its commit is in the table.
LOST = (CommitFailedException, ValidationException, OperationalError)
# A file that is there once the compactions, too, have got somewhere.
ENOUGH = "enough"
# On a busy machine a race may last so many times as long, until all have got somewhere.
PATIENCE = 5


class Writer:
    """Keeps `content`, id to value: its rows as of its last successful commit."""

    def __init__(self, table: Table, number: int) -> None:
        self.table = table
        self.number = number
        self.random = random.Random(number)
        self.content: dict[int, str] = {}
        self.next_id = 0

    def rows(self, count: int) -> dict[int, str]:
        first, self.next_id = self.next_id, self.next_id + count
        return {key: f"{self.random.random()}" for key in range(first, first + count)}

    def arrow(self, content: dict[int, str]) -> pa.Table:
        columns = [[self.number] * len(content), list(content), list(content.values())]
        return pa.table(columns, schema=SCHEMA)

    def append(self) -> dict[int, str]:
        new = self.rows(20)
        self.table.append(self.arrow(new))
        return self.content | new

    def delete(self) -> dict[int, str]:
        if len(self.content) < 40:
            return self.append()
        gone = set(self.random.sample(sorted(self.content), 5))
        self.table.delete(And(EqualTo("writer", self.number), In("id", gone)))
        return {key: value for key, value in self.content.items() if key not in gone}

    def overwrite(self) -> dict[int, str]:
        if len(self.content) < 40:
            return self.append()
        below = sorted(self.content)[len(self.content) // 3]
        new = self.rows(10)
        mine = And(EqualTo("writer", self.number), LessThan("id", below))
        self.table.overwrite(self.arrow(new), overwrite_filter=mine)
        return {key: value for key, value in self.content.items() if key >= below} | new

    def delete_positions(self) -> dict[int, str]:
        if len(self.content) < 40:
            return self.append()
        mine = [f for f in data_files(self.table) if f.partition[0] == self.number]
        file = self.random.choice(mine)
        stored = self.table.io.new_input(file.file_path)
        with stored.open() as source:
            ids = pa.parquet.ParquetFile(source).read(columns=["id"])["id"].to_pylist()
        positions = sorted(self.random.sample(range(len(ids)), min(3, len(ids))))
        deletes = write_position_deletes(self.table, {file.file_path: positions}, like=file)
        commit_deletes_if_live(self.table, deletes, file.file_path)
        gone = {ids[position] for position in positions}
        return {key: value for key, value in self.content.items() if key not in gone}


def is_over(directory: Path, begun: float, seconds: float, *, has_won: bool) -> bool:
    """Return whether the time is over, and this writer and the compactions got somewhere."""
    elapsed = time.monotonic() - begun
    is_enough = has_won and (directory / ENOUGH).exists()
    return elapsed >= seconds * (1 if is_enough else PATIENCE)


def main(directory: Path, kind: str, number: int, seconds: float) -> None:
    """Write until the race is over; print the content, as JSON, and how often it won and lost."""
    writer = Writer(sql_catalog(directory).load_table("ns.race"), number)
    act = getattr(writer, kind)
    won = lost = 0
    begun = time.monotonic()
    while not is_over(directory, begun, seconds, has_won=won > 0):
        try:
            writer.table.refresh()
            writer.content = act()
            won += 1
        except LOST:
            lost += 1
        time.sleep(writer.random.random() * 0.3)
    report = {"number": number, "won": won, "lost": lost, "content": writer.content}
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
