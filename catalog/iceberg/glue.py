"""AWS Glue as a catalog, with the version of a table looked at before and after each change.

Glue itself refuses an update that names another version than the current one. Servers that speak
its language may not, and then the later of two writers wins in silence. So the version is compared
once more right before the update, and afterwards the table is looked at: where it does not point
to what was written, the outcome is unknown until the table itself has been asked for it.
"""

from __future__ import annotations

from typing import Any

from pyiceberg.catalog.glue import GlueCatalog as PyIcebergGlueCatalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

_PARAMETERS = "Parameters"
_METADATA_LOCATION = "metadata_location"


class GlueCatalog(PyIcebergGlueCatalog):
    """PyIceberg's catalog in Glue, which believes no reply that it can check."""

    def _update_glue_table(
        self, database_name: str, table_name: str, table_input: Any, version_id: str
    ) -> None:
        name = f"{self.name}.{database_name}.{table_name}"
        current = self._get_glue_table(database_name, table_name)
        if current.get("VersionId") != version_id:
            raise CommitFailedException(
                f"{name} has version {current.get('VersionId')}, not {version_id} any more"
            )
        super()._update_glue_table(database_name, table_name, table_input, version_id)
        landed = self._get_glue_table(database_name, table_name)
        wanted = table_input.get(_PARAMETERS, {}).get(_METADATA_LOCATION)
        if landed.get(_PARAMETERS, {}).get(_METADATA_LOCATION) != wanted:
            raise CommitStateUnknownException(
                f"{name} has moved on to version {landed.get('VersionId')} since it was changed"
            )
