"""PyIceberg's file interface over our storage: confined, durable, and whole objects only.

The library reads and writes manifests through this, so that a path found in metadata is checked
before it is opened and a manifest is on stable storage before a snapshot can refer to it.
"""

from __future__ import annotations

import io
from types import TracebackType

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream

from catalog.errors import CatalogError, ObjectNotFoundError
from catalog.location import Confinement, Location
from catalog.storage import Storage


class StorageFileIO(FileIO):
    """Files of one table by the text of their location.

    Every method raises the errors of `catalog.errors`, `LocationError` for what lies outside.
    """

    def __init__(self, storage: Storage, confinement: Confinement) -> None:
        super().__init__()
        self._storage = storage
        self._confinement = confinement

    def new_input(self, location: str) -> InputFile:
        """Return an object to be read."""
        return _Object(self._storage, self._confinement.parse(location))

    def new_output(self, location: str) -> OutputFile:
        """Return an object to be written."""
        return _Object(self._storage, self._confinement.parse(location))

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete an object, whether it exists or not."""
        text = location if isinstance(location, str) else location.location
        self._storage.delete([self._confinement.parse(text)])


class _Object(InputFile, OutputFile):
    def __init__(self, storage: Storage, place: Location) -> None:
        super().__init__(str(place))
        self._storage = storage
        self._place = place
        self._written_bytes: int | None = None

    def __len__(self) -> int:
        if self._written_bytes is not None:
            return self._written_bytes
        return self._storage.size(self._place)

    def exists(self) -> bool:
        try:
            self._storage.head(self._place)
        except ObjectNotFoundError:
            return False
        return True

    def to_input_file(self) -> InputFile:
        return self

    def open(self, seekable: bool = True) -> InputStream:
        del seekable
        return io.BytesIO(self._storage.read(self._place))

    def create(self, overwrite: bool = False) -> OutputStream:
        if not overwrite and self.exists():
            raise CatalogError(f"{self._place} exists already")
        return _Sink(self)

    def store(self, data: bytes) -> None:
        self._storage.write(self._place, data)
        self._written_bytes = len(data)


class _Sink(io.BytesIO):
    """Collects an object and stores it on close; one that was left by an error is not stored."""

    def __init__(self, target: _Object) -> None:
        super().__init__()
        self._target = target

    def close(self) -> None:
        if not self.closed:
            self._target.store(self.getvalue())
        super().close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            super().close()
        else:
            self.close()
