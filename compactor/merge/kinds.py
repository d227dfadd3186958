"""What a change does, read from the spellings that change-data streams use for it.

| stream | upsert | delete |
|---|---|---|
| letters | `I`, `U` | `D` |
| words | `insert`, `update`, `upsert` | `delete` |
| Debezium | `c`, `u`, `r` | `d` |
| Flink | `+I`, `+U` | `-U`, `-D` |
| change data feed of Delta Lake | `insert`, `update_postimage` | `update_preimage`, `delete` |
| booleans, `_hoodie_is_deleted` of Hudi | false, null | true |

Case does not count. What a row was before an update is deleted: the update may have changed its
key. Anything else, a null among texts too, is refused.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from compactor.errors import ChangesRefusedError
from compactor.merge.keys import whole
from compactor.rewrite.conversion import is_bytes, stored_type

UPSERT, DELETE = 0, 1
Kinds = npt.NDArray[np.int8]

_UPSERTS = ("i", "u", "c", "r", "insert", "update", "upsert", "update_postimage", "+i", "+u")
_DELETES = ("d", "delete", "update_preimage", "-u", "-d")
_KINDS = {**dict.fromkeys(_UPSERTS, UPSERT), **dict.fromkeys(_DELETES, DELETE)}
_SHOWN_MAX = 3


def kinds_of(column: pa.ChunkedArray, *, name: str) -> Kinds:
    """Return what each change does.

    Args:
        column: the op column.
        name: of the changes, for messages.

    Raises:
        ChangesRefusedError: a value or the type of the column has no meaning.
    """
    kind = stored_type(column.type)
    plain = whole(column.cast(kind))
    if types.is_boolean(kind):
        return np.asarray(pc.fill_null(plain, False)).astype(np.int8)
    if not is_bytes(kind):
        raise ChangesRefusedError(f"{name}: the op column is a {kind}, not text or booleans")
    encoded = plain.cast(pa.string()).dictionary_encode()
    values = encoded.dictionary.to_pylist()
    meanings = [_KINDS.get(value.lower()) for value in values]
    strange = [value for value in values if value.lower() not in _KINDS]
    if strange or encoded.null_count:
        shown = ", ".join(map(repr, strange[:_SHOWN_MAX])) or "null"
        raise ChangesRefusedError(
            f"{name}: the op column has values of no known meaning: {shown}",
            hint="Known are I/U/D, c/u/d/r, insert/update/delete, +I/-U/+U/-D and booleans.",
        )
    found = np.array([one for one in meanings if one is not None], np.int8)
    return found[encoded.indices.to_numpy()] if len(encoded) else np.empty(0, np.int8)
