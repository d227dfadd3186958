"""Record keys and partition paths of rows, as the key generator of a table makes them.  Pure.

What depends on the settings of whoever writes is not guessed: of types only those are taken whose
text does not, and the rule is held against stored rows before it is used.
Hudi's key generators: "Key Generation" of its documentation; classes `*AvroKeyGenerator`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from catalog.errors import UnsupportedTableError
from catalog.hudi.config import TableConfig
from catalog.hudi.schema import PARTITION_PATH, RECORD_KEY

_NULL, _EMPTY = "__null__", "__empty__"
# The folder of rows that have no value.
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_SIMPLE, _COMPLEX, _UNPARTITIONED = "SIMPLE", "COMPLEX", "NON_PARTITION"
# By the ends of the names of classes, for both kinds of records that they are for.
_CLASSES = {
    "SimpleKeyGenerator": _SIMPLE,
    "ComplexKeyGenerator": _COMPLEX,
    "NonpartitionedKeyGenerator": _UNPARTITIONED,
}
_SLASHES = "hoodie.datasource.write.slash.separated.date.partitioning"
# Since this version the one column of a complex key has its name in it; before, it depends.
_NAMES_ONE_VERSION = 9
_ESCAPED = re.compile(r"[\x01-\x1f\"#%'*/:=?\\\x7f{\[\]^]")
_BAD_PATH = re.compile(r"(^|/)(\.{0,2}|\.hoodie.*)(/|$)")


@dataclass(frozen=True, slots=True)
class KeyRule:
    """How a table makes keys and paths.

    Attributes:
        key_fields: columns of the record key.
        names_fields: whether their names are in it.
        partition_fields: columns of the partition path.
        is_hive_style: whether their names are in it.
        is_url_encoded: whether values in it are encoded.
    """

    key_fields: tuple[str, ...]
    names_fields: bool
    partition_fields: tuple[str, ...]
    is_hive_style: bool = False
    is_url_encoded: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that they follow from, each once."""
        return tuple(dict.fromkeys((*self.key_fields, *self.partition_fields)))

    def keys(self, rows: pa.Table) -> pa.Array:
        """Return the record keys of rows.

        Raises:
            UnsupportedTableError: a row has none.
        """
        values = [_texts(rows[name]) for name in self.key_fields]
        has_any = [pc.fill_null(pc.not_equal(one, ""), False) for one in values]
        is_keyed = np.logical_or.reduce([np.asarray(one) for one in has_any])
        if not is_keyed.all():
            raise UnsupportedTableError(
                f"a row has no record key: {', '.join(self.key_fields)} is null or empty"
            )
        if not self.names_fields:
            return values[0]
        parts = [
            pc.binary_join_element_wise(f"{name}:", _spelled(one), "")
            for name, one in zip(self.key_fields, values, strict=True)
        ]
        return pc.binary_join_element_wise(*parts, ",")

    def require_own(self, rows: pa.Table) -> None:
        """Make sure that no record key can be that of a row with other values, too.

        Raises:
            UnsupportedTableError: a value has in it what stands between two of them, or is what
                stands for none.
        """
        if len(self.key_fields) == 1:
            return
        between = "|".join(re.escape(f",{name}:") for name in self.key_fields[1:])
        pattern = f"{between}|^({_NULL}|{_EMPTY})$"
        for name in self.key_fields:
            values = _texts(rows[name])
            if pc.any(pc.match_substring_regex(values, pattern), min_count=0).as_py():
                raise UnsupportedTableError(
                    f"a value of {name} makes a record key that other values make, too: it has the"
                    f" name of a key column between a comma and a colon, or is {_NULL} or {_EMPTY}"
                )

    def paths(self, rows: pa.Table) -> pa.Array:
        """Return the partition paths of rows.

        Raises:
            UnsupportedTableError: a value makes no folder of its own below the table.
        """
        if not self.partition_fields:
            return pa.array([""] * rows.num_rows, pa.string())
        parts = [self._folders(name, _texts(rows[name])) for name in self.partition_fields]
        return pc.binary_join_element_wise(*parts, "/") if len(parts) > 1 else parts[0]

    def _folders(self, name: str, values: pa.Array) -> pa.Array:
        """Return what each value makes of a path; they repeat."""
        encoded = values.dictionary_encode()
        prefix = f"{name}=" if self.is_hive_style else ""
        known = [prefix + self._folder(one) for one in encoded.dictionary.to_pylist()]
        # Spark takes what has an equals sign for a column and its value, and may read nothing. With
        # several columns it counts folders, and nobody could tell (a/b, c) from (a, b/c).
        others = ("" if self.is_hive_style else "=") + "/" * (len(self.partition_fields) > 1)
        for one in known:
            if _BAD_PATH.search(one) or any(sign in one for sign in others):
                raise UnsupportedTableError(
                    f"{one!r} is no path of a partition: a value of {name} is not encoded"
                )
        folders = pa.array(known, pa.string()).take(encoded.indices)
        return pc.fill_null(folders, prefix + NO_PARTITION)

    def _folder(self, value: str) -> str:
        if not value:
            return NO_PARTITION
        if not self.is_url_encoded:
            return value
        return _ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", value)

    def agrees_with(self, stored: pa.Table) -> bool:
        """Tell whether stored rows have the keys and the paths that it makes."""
        try:
            made = self.keys(stored), self.paths(stored)
        except UnsupportedTableError:
            return False
        held = stored[RECORD_KEY], stored[PARTITION_PATH]
        return all(_texts(one).equals(_texts(other)) for one, other in zip(made, held, strict=True))


def key_rule(config: TableConfig, schema: pa.Schema, stored: Iterable[pa.Table]) -> KeyRule:
    """Return how a table makes keys and paths.

    Args:
        config: of the table.
        schema: its columns.
        stored: some of its rows, with both; they decide where the settings do not.

    Raises:
        UnsupportedTableError: it cannot be told, or not for columns of these types.
    """
    rules = list(possible_rules(config, schema))
    for rows in stored:
        rules = [one for one in rules if one.agrees_with(rows)]
        if not rules:
            raise UnsupportedTableError(
                f"stored rows have other record keys or partition paths than the key generator"
                f" {_kind(config)} makes of {', '.join(config.record_key_fields)}"
            )
    if len(rules) > 1:
        raise UnsupportedTableError(
            "it cannot be told whether the name of the one key column is in record keys: the table"
            " has no rows yet, and in this version that depends on its writers"
        )
    return rules[0]


def possible_rules(config: TableConfig, schema: pa.Schema) -> Iterator[KeyRule]:
    """Yield the rules that the settings of a table leave open.

    Raises:
        UnsupportedTableError: they leave none.
    """
    kind = _kind(config)
    _require(bool(config.record_key_fields), "record keys that are generated")
    _require(config.get(_SLASHES).lower() != "true", f"{_SLASHES}")
    rule = KeyRule(
        config.record_key_fields,
        len(config.record_key_fields) > 1,
        () if kind == _UNPARTITIONED else config.partition_fields,
        config.is_hive_style,
        config.is_url_encoded,
    )
    if kind == _SIMPLE:
        is_simple = len(rule.key_fields) == len(rule.partition_fields) == 1
        _require(is_simple, "the key generator SIMPLE with several columns")
    for name in rule.columns:
        _require(name in schema.names, f"keys of the nested or missing column {name}")
        _require(_is_plain(schema.field(name).type), f"keys of {name}: {schema.field(name).type}")
    if kind != _COMPLEX or rule.names_fields:
        yield rule
        return
    yield replace(rule, names_fields=True)
    if config.version < _NAMES_ONE_VERSION:
        yield rule


def _kind(config: TableConfig) -> str:
    """Return which key generator a table has; what is not set follows from its columns."""
    named = config.key_generator.rpartition(".")[2]
    if not named:
        if not config.partition_fields:
            return _UNPARTITIONED
        is_simple = len(config.record_key_fields) == len(config.partition_fields) == 1
        return _SIMPLE if is_simple else _COMPLEX
    kind = _CLASSES.get(named.replace("AvroKey", "Key"), named.removesuffix("_AVRO"))
    _require(kind in (_SIMPLE, _COMPLEX, _UNPARTITIONED), f"the key generator {named}")
    return kind


def _is_plain(kind: pa.DataType) -> bool:
    return bool(
        types.is_string(kind) or types.is_integer(kind) or types.is_boolean(kind)
    ) or types.is_date32(kind)


def _texts(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    found = column.cast(pa.string())
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _spelled(values: pa.Array) -> pa.Array:
    return pc.fill_null(pc.if_else(pc.equal(values, ""), _EMPTY, values), _NULL)


def _require(is_handled: bool, feature: str) -> None:
    if not is_handled:
        raise UnsupportedTableError(f"changes cannot be merged into a table with {feature}")
