"""The files of a log as columns: what planning needs of each, and no Python object for any.

The same columns come out of checkpoints and of commits.  A file is told apart by its location and
the deletion vector that it has; what is said of it later takes the place of what was said before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from catalog.delta.paths import Paths
from catalog.errors import CorruptTableError

FILES = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        # The identity of the deletion vector; null without one.
        pa.field("vector", pa.string()),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("modified_ms", pa.int64()),
        # Null where the log has no statistics of the file.
        pa.field("row_count", pa.int64()),
        pa.field("first_row_id", pa.int64()),
        pa.field("row_version", pa.int64()),
        pa.field("vector_bytes", pa.int64()),
        pa.field("vector_rows", pa.int64()),
        # Null where it was not asked for.
        pa.field("is_clustered", pa.bool_()),
    ]
)
_LABEL = pa.dictionary(pa.int32(), pa.string())

_VECTOR = pa.struct(
    [
        pa.field("storageType", pa.string()),
        pa.field("pathOrInlineDv", pa.string()),
        pa.field("offset", pa.int64()),
        pa.field("sizeInBytes", pa.int64()),
        pa.field("cardinality", pa.int64()),
    ]
)
# The tag of files that were put in order together, by whoever did it.
CUBE_TAG = "ZCUBE_ID"
_CUBE = pa.struct([pa.field(CUBE_TAG, pa.string())])
# Where writers put it; a search further on could find a column of this name.
_ROW_COUNT_BYTES = 64
_ROW_COUNT = r'^\s*\{\s*"numRecords"\s*:\s*(?P<rows>\d{1,18})\s*[,}]'


@dataclass(frozen=True, slots=True)
class FileColumns:
    """Reads file actions of one table.

    Attributes:
        paths: where its files may lie.
        partitions: physical names of its partition columns.
        reads_cubes: whether it matters which files are clustered.
    """

    paths: Paths
    partitions: tuple[str, ...]
    reads_cubes: bool = False

    @property
    def schema(self) -> pa.Schema:
        """`FILES`, and one text column for each partition column."""
        columns = [pa.field(partition_name(at), _LABEL) for at in range(len(self.partitions))]
        return pa.schema([*FILES, *columns])

    @property
    def add_type(self) -> pa.StructType:
        """What is read of an `add` in JSON."""
        values = pa.struct([pa.field(name, pa.string()) for name in self.partitions])
        return pa.struct(
            [
                pa.field("path", pa.string()),
                *([pa.field("partitionValues", values)] if self.partitions else []),
                *([pa.field("tags", _CUBE)] if self.reads_cubes else []),
                pa.field("size", pa.int64()),
                pa.field("modificationTime", pa.int64()),
                pa.field("stats", pa.string()),
                pa.field("deletionVector", _VECTOR),
                pa.field("baseRowId", pa.int64()),
                pa.field("defaultRowCommitVersion", pa.int64()),
            ]
        )

    @property
    def remove_type(self) -> pa.StructType:
        """What is read of a `remove` in JSON."""
        return pa.struct([pa.field("path", pa.string()), pa.field("deletionVector", _VECTOR)])

    def checkpoint_columns(self, adds: pa.StructType) -> list[str]:
        """Name the columns of a checkpoint that are read besides those of every file."""
        has_tags = self.reads_cubes and adds.get_field_index("tags") >= 0
        return ["add.tags"] if has_tags else []

    def identities(self, actions: pa.StructArray) -> pa.Table:
        """Return path and vector of actions, none of which is null."""
        names = FILES.names[:2]
        columns = [self.paths.resolve(_required(actions, "path")), _vector_ids(actions)]
        return pa.table(columns, schema=pa.schema([FILES.field(name) for name in names]))

    def files(self, adds: pa.StructArray) -> pa.Table:
        """Return the files of some `add` actions, none of which is null.

        Raises:
            CorruptTableError: one lacks what it must have, or has what cannot be.
            LocationError: one lies outside of the table's prefixes.
        """
        vectors = child(adds, "deletionVector", _VECTOR)
        identities = self.identities(adds)
        columns = [
            *identities.columns,
            _counts(adds, "size", is_required=True),
            child(adds, "modificationTime", pa.int64()),
            row_counts(adds),
            _counts(adds, "baseRowId"),
            _counts(adds, "defaultRowCommitVersion"),
            _counts(vectors, "sizeInBytes"),
            _counts(vectors, "cardinality"),
            self._is_clustered(adds),
            *(self._partition(adds, name) for name in self.partitions),
        ]
        return pa.table(columns, schema=self.schema)

    def _is_clustered(self, adds: pa.StructArray) -> pa.BooleanArray:
        """Tell which files belong to a cube."""
        if not self.reads_cubes:
            return pa.nulls(len(adds), pa.bool_())
        return _entry(child(adds, "tags"), CUBE_TAG).is_valid()

    def _partition(self, adds: pa.StructArray, name: str) -> pa.DictionaryArray:
        """Return the texts of a partition column."""
        texts = _entry(child(adds, "partitionValues"), name).dictionary_encode()
        _checked(texts.dictionary, name)
        return texts.cast(_LABEL)


def _entry(values: pa.Array, name: str) -> pa.StringArray:
    """Return the value of a key from maps, which JSON holds as objects."""
    if isinstance(values.type, pa.MapType):
        found = pc.map_lookup(values, pa.scalar(name, values.type.key_type), "first")
        return found.cast(pa.string())
    return child(values, name, pa.string())


def partition_name(position: int) -> str:
    """Return how the columns of files are called that hold a partition column."""
    return f"partition {position}"


def child(array: pa.Array, name: str, kind: pa.DataType | None = None) -> pa.Array:
    """Return a field of structs, null where the struct is; nulls when there is no such field."""
    kind = kind or pa.null()
    if not pa.types.is_struct(array.type) or array.type.get_field_index(name) < 0:
        return pa.nulls(len(array), kind)
    found = pc.struct_field(array, name)
    if kind == pa.null() or pa.types.is_struct(kind):
        return found
    try:
        return found.cast(kind)
    except pa.ArrowException as fault:
        raise CorruptTableError(f"the log has {name!r} as {found.type}: {fault}") from fault


def row_counts(adds: pa.StructArray) -> pa.Int64Array:
    """Return the number of rows of each file by its statistics; null where there are none."""
    parsed = child(child(adds, "stats_parsed"), "numRecords", pa.int64())
    stats = child(adds, "stats", pa.string())
    if not parsed.null_count or stats.null_count == len(stats):
        return parsed
    heads = pc.binary_slice(stats.cast(pa.binary()), 0, _ROW_COUNT_BYTES)
    found = pc.struct_field(pc.extract_regex(heads, _ROW_COUNT), "rows").cast(pa.string())
    counts = pc.if_else(pc.equal(found, ""), None, found).cast(pa.int64())
    is_odd = pc.and_(pc.is_valid(stats), pc.is_null(counts))
    if pc.any(is_odd).as_py():
        counts = pc.replace_with_mask(counts, is_odd, _row_counts_of(stats.filter(is_odd)))
    return pc.coalesce(parsed, counts)


def _row_counts_of(stats: pa.StringArray) -> pa.Int64Array:
    """Read statistics that begin with something else; what is no JSON counts as none."""
    options = pj.ParseOptions(
        explicit_schema=pa.schema([pa.field("numRecords", pa.int64())]),
        unexpected_field_behavior="ignore",
    )
    texts = stats.cast(pa.binary()).to_pylist()
    lines = b"\n".join(b" ".join(text.splitlines()) for text in texts)
    try:
        block = pj.ReadOptions(use_threads=False, block_size=len(lines) + 1)
        found = pj.read_json(pa.BufferReader(lines), read_options=block, parse_options=options)
    except (pa.ArrowException, ValueError):
        return pa.nulls(len(stats), pa.int64())
    counts = found["numRecords"].combine_chunks()
    usable = len(counts) == len(stats)
    return (
        pc.if_else(pc.less(counts, 0), None, counts) if usable else pa.nulls(len(stats), pa.int64())
    )


def _vector_ids(actions: pa.StructArray) -> pa.StringArray:
    """Return what tells vectors apart: kind, place and offset; null without a vector."""
    vectors = child(actions, "deletionVector", _VECTOR)
    kinds = child(vectors, "storageType", pa.string())
    if kinds.null_count == len(kinds):
        return pa.nulls(len(actions), pa.string())
    places = child(vectors, "pathOrInlineDv", pa.string())
    offsets = child(vectors, "offset", pa.int64())
    is_inline = pc.equal(kinds, "i")
    is_known = pc.or_(
        is_inline, pc.and_(pc.is_in(kinds, pa.array(["u", "p"])), pc.is_valid(offsets))
    )
    is_complete = pc.and_(pc.is_valid(places), is_known)
    if not pc.all(pc.or_(pc.is_null(kinds), is_complete)).as_py():
        raise CorruptTableError("the log has a deletion vector that says not where it is kept")
    inline = pc.binary_join_element_wise(kinds, places, "")
    placed = pc.binary_join_element_wise(inline, offsets.cast(pa.string()), "@")
    return _checked(pc.if_else(is_inline, inline, placed), "deletionVector")


def _required(array: pa.StructArray, name: str) -> pa.StringArray:
    found = child(array, name, pa.string())
    if found.null_count:
        raise CorruptTableError(f"the log names a file without {name!r}")
    return _checked(found, name)


def _checked(texts: pa.Array, name: str) -> pa.Array:
    """Return texts that are text: Arrow takes bytes from Parquet for what the schema says."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as fault:
        raise CorruptTableError(f"the log has {name!r} that is no UTF-8") from fault
    return texts


def _counts(array: pa.Array, name: str, *, is_required: bool = False) -> pa.Int64Array:
    found = child(array, name, pa.int64())
    if is_required and found.null_count:
        raise CorruptTableError(f"the log names a file without {name!r}")
    least = pc.min(found).as_py()
    if least is not None and least < 0:
        raise CorruptTableError(f"the log names a file with {name!r} of {least}")
    return found


def newest(identities: pa.Table) -> npt.NDArray[np.int64]:
    """Return the rows that say the last of a file each, ascending."""
    codes = identity_keys(identities).dictionary_encode().indices.to_numpy()
    _, last = np.unique(codes[::-1], return_index=True)
    rows: npt.NDArray[np.int64] = np.sort(len(codes) - 1 - last)
    return rows


def superseded(files: pa.Table, later: pa.Table) -> pa.BooleanArray | None:
    """Tell which files something later is said of; None for none of them.

    Args:
        files: with the columns `path` and `vector`.
        later: identities.
    """
    touched = pc.is_in(files["path"], later["path"].combine_chunks())
    if not pc.any(touched).as_py():
        return None
    rows = pa.array(np.flatnonzero(touched.to_numpy()))
    same = pc.is_in(identity_keys(files.take(rows)), identity_keys(later))
    found = np.zeros(files.num_rows, np.bool_)
    found[rows.to_numpy()] = same.to_numpy(False)
    return pa.array(found)


def identity_keys(files: pa.Table) -> pa.StringArray:
    """Return one text for path and vector together; paths have no control characters."""
    vectors = pc.fill_null(files["vector"], "").combine_chunks()
    return pc.binary_join_element_wise(files["path"].combine_chunks(), vectors, "\n")
