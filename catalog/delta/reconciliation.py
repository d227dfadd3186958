"""What several commits come to: of all that is said of one thing, the last.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#action-reconciliation
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from catalog.delta.actions import Add, Raw, Remove, parse_action
from catalog.delta.named_adds import Identity, identity_of
from catalog.delta.paths import Paths
from catalog.errors import CorruptTableError

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
        facts: the small ones by kind and by what they are about.
        files: `add` and `remove` by the file they are about.
    """

    facts: dict[tuple[str, str], Raw] = field(default_factory=dict)
    files: dict[Identity, tuple[str, Raw]] = field(default_factory=dict)

    def apply(self, actions: Iterable[tuple[str, Raw]], paths: Paths) -> None:
        """Take in the actions of the next commit.

        Raises:
            CorruptTableError: one is malformed.
        """
        files: list[tuple[str, Raw]] = []
        for kind, raw in actions:
            if kind in _KEYS:
                self.add_fact(kind, raw)
            elif kind in ("add", "remove"):
                files.append((kind, raw))
        stored = pa.array([str(raw.get("path", "")) for _, raw in files], pa.string())
        for path, (kind, raw) in zip(paths.resolve(stored).to_pylist(), files, strict=True):
            self.files[_identity(path, kind, raw)] = kind, raw

    def add_fact(self, kind: str, raw: Raw) -> None:
        """Take in one action that is about no file."""
        name = _KEYS[kind]
        self.facts[kind, "" if name is None else str(raw.get(name))] = raw

    def small_actions(self) -> Iterator[tuple[str, Raw]]:
        """Yield what is left of the actions that are about no file, the protocol first."""
        order = list(_KEYS)
        for (kind, _), raw in sorted(self.facts.items(), key=lambda item: order.index(item[0][0])):
            yield kind, raw


def raw_actions(data: bytes, name: str) -> Iterator[tuple[str, Raw]]:
    """Yield the actions of a commit by kind, whole and as they are.

    Raises:
        CorruptTableError: it is cut off or no JSON.
    """
    for line in data.splitlines():
        if not line.strip():
            continue
        try:
            found: Any = json.loads(line)
        except (ValueError, RecursionError) as fault:
            raise CorruptTableError(f"{name} is cut off or no JSON: {fault}") from fault
        if not isinstance(found, dict):
            raise CorruptTableError(f"{name} has a line that is no action")
        yield from ((kind, raw) for kind, raw in found.items() if isinstance(raw, dict))


def _identity(path: str, kind: str, raw: Raw) -> Identity:
    action = parse_action(kind, raw)
    if not isinstance(action, Add | Remove):
        raise AssertionError(f"{kind} is about no file")
    return identity_of(path, action)
