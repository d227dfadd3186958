"""When archived instants were completed, which places the logs that they wrote, in layout 2.

Archived instants are in Parquet files named after the first and the last of them; a manifest says
which files count, and a file `_version_` which manifest does.
Specification: "LSM History Timeline" of Hudi's technical specification.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import CorruptTableError, ObjectNotFoundError
from catalog.hudi.config import TableConfig
from catalog.location import Location
from catalog.storage import Storage

_COLUMNS = ["instantTime", "completionTime"]


def completion_times(
    storage: Storage, root: Location, config: TableConfig, instants: Collection[str]
) -> Mapping[str, str]:
    """Return when each of these instants was completed, as far as it is archived.

    Raises:
        CorruptTableError: the archive cannot be read.
    """
    if not instants or config.layout == 1:
        return {}
    first, last = min(instants), max(instants)
    folder = root.child(config.history_path)
    found: dict[str, str] = {}
    for name in archive_files(storage, folder):
        begin, end = name.split("_")[:2]
        if begin <= last and first <= end:
            rows = _rows(storage, folder.child(name))
            found.update(pair for pair in rows if pair[0] in instants)
    return found


def archive_files(storage: Storage, folder: Location) -> Iterator[str]:
    """Yield the names of the files of layout 2 that count.

    Raises:
        CorruptTableError: the manifest cannot be read.
    """
    for entry in archive_manifest(storage, folder)[1]:
        name = str(entry["fileName"])
        if name.count("_") < 2:
            raise CorruptTableError(f"{name} is no name of a file of archived instants")
        yield name


def archive_manifest(
    storage: Storage, folder: Location
) -> tuple[int, tuple[Mapping[str, object], ...]]:
    """Return the version of the manifest that counts, 0 for none, and its files.

    Raises:
        CorruptTableError: it cannot be read.
    """
    try:
        version = int(storage.read(folder.child("_version_")))
        manifest = msgspec.json.decode(storage.read(folder.child(f"manifest_{version}")))
        files = tuple({**one, "fileName": one["fileName"]} for one in manifest["files"])
    except ObjectNotFoundError:
        return 0, ()
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptTableError(f"the manifest of archived instants in {folder} is torn") from error
    return version, files


def _rows(storage: Storage, location: Location) -> Iterator[tuple[str, str]]:
    with storage.open_input(location) as file:
        try:
            rows = pq.read_table(file, columns=_COLUMNS)
        except pa.ArrowException as error:
            raise CorruptTableError(f"{location} cannot be read: {error}") from error
    columns = [rows[name].cast(pa.string()).to_pylist() for name in _COLUMNS]
    for instant, completed in zip(*columns, strict=True):
        if completed is not None:
            yield instant, completed
