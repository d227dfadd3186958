"""What the kinds of upkeep of an Iceberg table have in common: the table, and what it allows."""

from __future__ import annotations

import logging
from enum import Enum
from typing import Protocol

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    AssertTableUUID,
    TableRequirement,
    TableUpdate,
)

from catalog.errors import (
    AccessDeniedError,
    CatalogError,
    TableNotFoundError,
    UnsupportedTableError,
)
from catalog.iceberg.catalogs import catalog_errors
from catalog.iceberg.properties import is_set
from catalog.location import Confinement
from catalog.storage import Storage

_LOG = logging.getLogger(__name__)
_GC_ENABLED = "gc.enabled"


class UpkeepTarget(Protocol):
    """The table that is looked after."""

    @property
    def name(self) -> str:
        """How messages call it."""

    @property
    def storage(self) -> Storage:
        """Where its files are."""

    @property
    def confinement(self) -> Confinement:
        """The prefixes that its files may lie below."""

    def load(self) -> Table:
        """Read the table anew from its catalog; raises the errors of `catalog.errors`."""

    def current(self) -> Table:
        """Return the table as it was last read."""


def refuse_shared_files(metadata: TableMetadata) -> None:
    """Refuse to remove files of a table that may not be the only one to use them.

    Raises:
        UnsupportedTableError: the table says so.
    """
    if not is_set(metadata.properties, _GC_ENABLED, default=True):
        raise UnsupportedTableError(
            f"no file of the table may be removed ({_GC_ENABLED} is false)",
            hint=f"set {_GC_ENABLED} to true if no other table shares its files",
        )


def positive(metadata: TableMetadata, name: str, default: int) -> int:
    """Return a positive whole number out of the properties of a table.

    Raises:
        UnsupportedTableError: it is none: what goes is not decided by a guess.
    """
    text = str(metadata.properties.get(name, default))
    if not text.strip().isascii() or not text.strip().isdigit() or not int(text):
        raise UnsupportedTableError(f"the property {name} is not a positive number: {text!r}")
    return int(text)


class Answer(Enum):
    """What a catalog said to a request."""

    TAKEN = "taken"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """Nothing that could be relied on: the table, read anew, may tell."""


def swap(target: UpkeepTarget, table: Table, updates: tuple[TableUpdate, ...]) -> Answer:
    """Ask the catalog for a commit to the table as it was read, with the same references.

    Raises:
        AccessDeniedError: the catalog refuses for good.
        TableNotFoundError: the table is gone.
    """
    refs = table.metadata.refs
    requirements: tuple[TableRequirement, ...] = (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        *(
            AssertRefSnapshotId.model_validate(
                {"type": "assert-ref-snapshot-id", "ref": name, "snapshot-id": ref.snapshot_id}
            )
            for name, ref in refs.items()
        ),
    )
    try:
        with catalog_errors(target.name):
            try:
                table.catalog.commit_table(table, requirements, updates)
            except CommitFailedException:
                return Answer.REFUSED
    except (AccessDeniedError, TableNotFoundError):
        raise
    except CatalogError as error:
        # Also what was to be removed may be gone by now.
        _LOG.info("an update of %s was not answered: %s", target.name, error)
        return Answer.UNKNOWN
    return Answer.TAKEN
