"""What several commits come to: of all that is said of one thing, the last.

What is said of files is kept as the lines that say it: they may be many.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#action-reconciliation
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from catalog.delta.actions import Raw
from catalog.delta.file_columns import FileColumns
from catalog.delta.json_actions import file_actions, lines_of, small_actions

# What tells the things apart that actions of a kind are about; None for the table itself.
_KEYS: Mapping[str, str | None] = {
    "protocol": None,
    "metaData": None,
    "txn": "appId",
    "domainMetadata": "domain",
}


@dataclass(slots=True)
class Reconciled:
    """Actions as they add up.

    Attributes:
        columns: how actions about files are read.
        facts: the small ones by kind and by what they are about.
        files: the lines that add or remove files, by path and deletion vector of these.
    """

    columns: FileColumns
    facts: dict[tuple[str, str], Raw] = field(default_factory=dict)
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def apply(self, block: bytes, name: str) -> None:
        """Take in the lines of the next commit.

        Raises:
            CorruptTableError: they are cut off or malformed.
        """
        for kind, raw in small_actions(block, name):
            self.add_fact(kind, raw)
        found, lines = file_actions(block, self.columns, name), lines_of(block)
        paths, vectors = (found.identities[one].to_pylist() for one in ("path", "vector"))
        for path, vector, line in zip(paths, vectors, found.lines.tolist(), strict=True):
            self.files[path, vector or ""] = lines[line]

    def add_fact(self, kind: str, raw: Raw) -> None:
        """Take in one action that is about no file; kinds that nothing is kept of are passed."""
        if kind in _KEYS:
            name = _KEYS[kind]
            self.facts[kind, "" if name is None else str(raw.get(name))] = raw

    def small_actions(self) -> Iterator[tuple[str, Raw]]:
        """Yield what is left of the actions that are about no file, the protocol first."""
        order = list(_KEYS)
        for (kind, _), raw in sorted(self.facts.items(), key=lambda item: order.index(item[0][0])):
            yield kind, raw
