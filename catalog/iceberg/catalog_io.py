"""Our storage as the file interface of a catalog, for the metadata files that the catalog names.

PyIceberg makes it by its dotted name from a table's properties; its default would load a second
file-system layer, at half a second of processor time in every process.
"""

from __future__ import annotations

from collections.abc import Mapping

from catalog.iceberg.file_io import StorageFileIO
from catalog.location import Confinement, Location
from catalog.storage import Storage


class _Anywhere(Confinement):
    """Admits every location: only paths that the catalog itself answered with are read here."""

    def admits(self, location: Location) -> bool:
        return True


class CatalogFileIO(StorageFileIO):
    """Files of a catalog."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        super().__init__(Storage.from_properties(properties), _Anywhere(()))
        self.properties = dict(properties)
