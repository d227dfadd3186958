"""The `add` actions of a few named files, whole: what a commit copies into its removes.

A table has millions of files and a commit replaces some: paths are compared as columns, and only
rows that are asked for become objects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.delta.actions import Action, Add, Remove, parse_action, parse_commit
from catalog.delta.checkpoints import Part, reading_checkpoint
from catalog.delta.file_columns import FileColumns
from catalog.delta.json_actions import blocks, file_actions, lines_of, small_actions
from catalog.delta.log import LogSegment
from catalog.delta.paths import Paths
from catalog.delta.replay import checkpoint_parts
from catalog.errors import CorruptTableError, ObjectNotFoundError
from catalog.storage import Storage

# Path and identity of the deletion vector: what tells files apart.
Identity = tuple[str, str]
NamedAdds = Mapping[Identity, Add]

_KEPT = (
    "path",
    "partitionValues",
    "size",
    "modificationTime",
    "dataChange",
    "stats",
    "tags",
    "deletionVector",
    "baseRowId",
    "defaultRowCommitVersion",
)
_BATCH_ROWS = 16_384


class NamedAddReader:
    """Reads the live files of certain names out of logs."""

    def __init__(self, storage: Storage, paths: Paths, names: Collection[str]) -> None:
        """Look for files.

        Args:
            storage: where the log is.
            paths: where files of the table may lie.
            names: absolute locations of the wanted files, as `Paths.resolve` gives them.
        """
        self._storage = storage
        self._paths = paths
        self._names = pa.array(sorted(names), pa.string())
        self._columns = FileColumns(paths, ())

    def checkpointed(self, segment: LogSegment) -> NamedAdds:
        """Return the wanted files that the checkpoint of a version lists.

        Raises:
            DamagedCheckpointError: the checkpoint cannot be read.
        """
        with reading_checkpoint(segment):
            parts = checkpoint_parts(self._storage, segment)
            return self.follow({}, (add for part in parts for add in self._adds_in(part)))

    def actions_in(self, block: bytes, name: str) -> tuple[Action, ...]:
        """Return the actions of a commit but those about files that are not wanted.

        Raises:
            CorruptTableError: the commit is cut off or malformed.
        """
        found, lines = file_actions(block, self._columns, name), lines_of(block)
        is_wanted = pc.is_in(found.identities["path"].combine_chunks(), self._names)
        chosen = (lines[line] for line in found.lines[is_wanted.to_numpy(False)].tolist())
        small = (parse_action(kind, raw) for kind, raw in small_actions(block, name))
        files = parse_commit(b"\n".join(chosen), name=name)
        return (*(one for one in small if one is not None), *files)

    def follow(self, before: NamedAdds, actions: Iterable[Action]) -> NamedAdds:
        """Return the wanted files after a commit, given its actions about these."""
        files = [one for one in actions if isinstance(one, Add | Remove)]
        paths = self._paths.resolve_all(one.path for one in files)
        wanted = list(zip(paths, files, strict=True))
        gone = {_identity(path, one) for path, one in wanted if isinstance(one, Remove)}
        kept = {key: add for key, add in before.items() if key not in gone}
        return kept | {_identity(path, one): one for path, one in wanted if isinstance(one, Add)}

    def _adds_in(self, part: Part) -> Iterator[Add]:
        try:
            if part.is_json:
                for block in blocks(self._storage, part.location, part.size_bytes):
                    actions = self.actions_in(block, str(part.location))
                    yield from (one for one in actions if isinstance(one, Add))
                return
            with self._storage.open_input(part.location, size_bytes=part.size_bytes) as source:
                yield from self._from_parquet(pq.ParquetFile(source))
        except ObjectNotFoundError as fault:
            raise CorruptTableError(f"a part of the checkpoint is missing: {fault}") from fault
        except pa.ArrowException as fault:
            raise CorruptTableError(f"{part.location} cannot be read: {fault}") from fault

    def _from_parquet(self, file: pq.ParquetFile) -> Iterator[Add]:
        if "add" not in file.schema_arrow.names:
            return
        present = {field.name for field in file.schema_arrow.field("add").type}
        columns = [f"add.{name}" for name in _KEPT if name in present]
        for row_group in range(file.num_row_groups):
            if not self._is_any_in(file, row_group):
                continue
            for batch in file.iter_batches(_BATCH_ROWS, [row_group], columns, use_threads=False):
                adds = batch.column("add")
                yield from _values(adds.filter(self._is_wanted(adds)))

    def _is_any_in(self, file: pq.ParquetFile, row_group: int) -> bool:
        batches = file.iter_batches(_BATCH_ROWS, [row_group], ["add.path"], use_threads=False)
        wanted = (self._is_wanted(batch.column("add")) for batch in batches)
        return any(pc.any(some, min_count=0).as_py() for some in wanted)

    def _is_wanted(self, adds: pa.StructArray) -> pa.BooleanArray:
        """Tell which actions name a wanted file; rows without an action do not."""
        stored = pc.struct_field(adds, "path").cast(pa.string())
        is_wanted = pc.is_in(self._paths.resolve(stored.drop_null()), self._names)
        return pc.replace_with_mask(pa.array([False] * len(stored)), stored.is_valid(), is_wanted)


def only_live(adds: NamedAdds) -> Mapping[str, Add]:
    """Return live files by their absolute location.

    Raises:
        CorruptTableError: a file is live twice, with different deletion vectors.
    """
    found = {path: add for (path, _), add in adds.items()}
    if len(found) != len(adds):
        raise CorruptTableError("the log has a file twice, with different deletion vectors")
    return found


def _identity(path: str, action: Add | Remove) -> Identity:
    vector = action.deletion_vector
    return path, "" if vector is None else vector.unique_id


def _values(adds: pa.StructArray) -> Iterator[Add]:
    for raw in adds.to_pylist(maps_as_pydicts="strict"):
        action = parse_action("add", raw)
        if isinstance(action, Add):
            yield action
