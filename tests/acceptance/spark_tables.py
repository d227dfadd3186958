"""Tables as Spark leaves them behind: partitioned, evolved, ordered and placed in every way.

Each is a list of statements in which `{t}` is the table. All have a column `id` of whole numbers,
a column `text`, small files that belong together, and rows that are deleted.
"""

from __future__ import annotations

from dataclasses import dataclass

_TEXT = "concat('text ', id)"


@dataclass(frozen=True)
class Recipe:
    """How a table comes to be.

    Attributes:
        columns: those it is created with.
        steps: what is done with it then.
        parted: how it is partitioned at first.
        properties: of the table, besides the format version.
        versions: the format versions in which it can be.
    """

    columns: str
    steps: tuple[str, ...]
    parted: str = ""
    properties: str = ""
    versions: tuple[int, ...] = (1, 2, 3)

    def statements(self, name: str, version: int, scratch: str) -> list[str]:
        """Return what Spark has to be told."""
        places = {"{t}": f"rest.ns.{name}", "{name}": name, "{dir}": scratch}
        modes = ", ".join(
            f"'write.{kind}.mode'='{'copy' if version == 1 else 'merge'}-on-{_ON[version > 1]}'"
            for kind in ("delete", "update", "merge")
        )
        rest = f", {self.properties}" if self.properties else ""
        parted = f" partitioned by ({self.parted})" if self.parted else ""
        create = (
            f"create table {{t}} ({self.columns}) using iceberg{parted}"
            f" tblproperties('format-version'='{version}', {modes}{rest})"
        )
        told = [create, *self.steps]
        for place, value in places.items():
            told = [one.replace(place, value) for one in told]
        return told


_ON = ("write", "read")


def _inserts(*columns: str, rows: int = 8, times: int = 3, start: int = 0) -> tuple[str, ...]:
    return tuple(
        f"insert into {{t}} select {', '.join(columns)} from range({first}, {first + rows}, 1, 1)"
        for first in range(start, start + rows * times, rows)
    )


_PLAIN = ("id", _TEXT)
_DELETE = "delete from {t} where id in (1, 9, 10)"

# A column of each type that may part a table; a row of values, one of nulls, one of odd ones.
_KINDS = {
    "k_bool": ("boolean", "true", "false"),
    "k_int": ("int", "-7", "2147483647"),
    "k_long": ("bigint", "-7", "9223372036854775807"),
    "k_float": ("float", "-0.5", "'NaN'"),
    "k_double": ("double", "1.5", "'NaN'"),
    "k_dec": ("decimal(20, 3)", "-12345678901234.567", "0.001"),
    "k_small_dec": ("decimal(9, 2)", "-1.5", "7.25"),
    "k_text": ("string", "'a/b=c d%é'", "''"),
    "k_bin": ("binary", "X'00FF'", "X''"),
    "k_date": ("date", "'1969-12-31'", "'2026-02-28'"),
    "k_ts": ("timestamp", "'1969-12-31 23:59:59.999999'", "'2026-02-28 01:02:03'"),
    "k_ntz": ("timestamp_ntz", "'1969-12-31 23:59:59.999999'", "'2026-02-28 01:02:03'"),
}
_CASES = [
    f"case id % 3 when 0 then cast({one} as {kind}) when 1 then null"
    f" else cast({other} as {kind}) end as {name}"
    for name, (kind, one, other) in _KINDS.items()
]
_TYPED = [f"{name} {kind}" for name, (kind, *_) in _KINDS.items()]
_MOMENT = "timestamp'2024-02-28 23:30:00' + make_interval(0, id, 0, 0, id)"

RECIPES = {
    "flat": Recipe("id bigint, text string", (*_inserts(*_PLAIN), _DELETE)),
    "identity_of_every_type": Recipe(
        ", ".join(["id bigint", *_TYPED, "text string"]),
        (*_inserts("id", *_CASES, _TEXT), _DELETE),
        parted=", ".join(_KINDS),
    ),
    "times": Recipe(
        "id bigint, y timestamp, m timestamp_ntz, d date, h timestamp, text string",
        (
            *_inserts(
                "id",
                f"case when id % 4 = 3 then null else {_MOMENT} end",
                "cast('1969-12-31 23:59:59.5' as timestamp_ntz)",
                "date'1970-01-01' - cast(id % 2 as int)",
                "timestamp'1969-12-31 23:59:59.999999' + make_dt_interval(0, id % 2)",
                _TEXT,
            ),
            _DELETE,
        ),
        parted="years(y), months(m), days(d), hours(h)",
    ),
    "buckets_and_truncated": Recipe(
        "id bigint, bi int, bs string, bd decimal(10, 2), bb binary, bt timestamp, bdate date,"
        " ts string, ti int, td decimal(10, 2), tb binary, text string",
        (
            *_inserts(
                "id", "id % 2", "if(id % 5 = 0, null, concat('é', id % 2))", "(id % 2) / 4",
                "cast(concat('b', id % 2) as binary)", "timestamp'2024-01-01 00:00:00.123456'",
                "date'2024-01-01'", "concat('aé€', id % 2)", "-(id % 3)", "(id % 3) - 1.05",
                "cast(concat('bin', id % 2) as binary)", _TEXT,
            ),
            _DELETE,
        ),
        parted="bucket(2, bi), bucket(2, bs), bucket(2, bd), bucket(2, bb), bucket(2, bt),"
        " bucket(2, bdate), truncate(2, ts), truncate(2, ti), truncate(1, td), truncate(3, tb)",
    ),
    "schema_evolved": Recipe(
        "id int, gone int, again string, f float, d decimal(9, 2),"
        " s struct<a: int, b: string, n: struct<x: float, y: int>>,"
        " l array<struct<p: int, q: string>>, m map<string, struct<v: int, w: date>>, text string",
        (
            *_inserts(
                "cast(id as int)", "id", "'old'", "id / 2", "id / 4",
                "named_struct('a', id, 'b', 'b', 'n',"
                " if(id % 2 = 0, null, named_struct('x', 1.5, 'y', id)))",
                "if(id % 3 = 0, null, array(named_struct('p', id, 'q', null), null))",
                "map('k', named_struct('v', id, 'w', date'2024-01-01'))", _TEXT, times=2,
            ),
            "alter table {t} alter column id type bigint",
            "alter table {t} alter column f type double",
            "alter table {t} alter column d type decimal(18, 2)",
            "alter table {t} drop column gone",
            "alter table {t} drop column again",
            "alter table {t} add column again int after id",
            "alter table {t} rename column s.a to c",
            "alter table {t} drop column s.b",
            "alter table {t} add column s.b int",
            "alter table {t} alter column s.n.x type double",
            "alter table {t} alter column s.n first",
            "alter table {t} alter column l.element.p type bigint",
            "alter table {t} add column l.element.r string",
            "alter table {t} alter column m.value.v type bigint",
            "alter table {t} rename column m.value.w to z",
            "alter table {t} rename column text to words",
            "alter table {t} rename column words to text",
            "delete from {t} where id = 1",
            "insert into {t} select id, id, id / 2, id / 4,"
            " named_struct('n', null, 'c', id, 'b', id),"
            " array(named_struct('p', id, 'q', 'q', 'r', 'r')), null, concat('text ', id)"
            " from range(16, 24, 1, 1)",
            "delete from {t} where id in (9, 10, 17)",
        ),
    ),
    "specs_evolved": Recipe(
        "id bigint, part string, at timestamp, text string",
        (
            *_inserts("id", "'a'", "timestamp'2024-01-01'", _TEXT, times=2),
            "alter table {t} add partition field bucket(2, id)",
            *_inserts("id", "'a'", "timestamp'2024-01-01'", _TEXT, times=2, start=16),
            "alter table {t} drop partition field part",
            *_inserts("id", "'b'", "timestamp'2024-01-01'", _TEXT, times=2, start=32),
            "alter table {t} replace partition field bucket(2, id) with months(at)",
            *_inserts("id", "'b'", "timestamp'2024-02-01'", _TEXT, times=2, start=48),
            "alter table {t} replace partition field at_month with days(at) as day",
            *_inserts(
                "id", "if(id % 2 = 0, 'c', null)", "timestamp'2024-02-01'", _TEXT, times=2, start=64
            ),
            "delete from {t} where id in (1, 17, 34, 49, 50, 70)",
        ),
        parted="part",
    ),
    "ordered": Recipe(
        "id bigint, part string, key int, text string",
        (
            *_inserts("id", "'a'", "hash(id) % 5", _TEXT),
            "alter table {t} write ordered by key desc nulls last, id",
            *_inserts("id", "'a'", "if(id % 4 = 0, null, hash(id) % 5)", _TEXT, start=24),
            "delete from {t} where id in (1, 9, 30)",
        ),
        parted="part",
    ),
    "upgraded": Recipe(
        "id bigint, part string, text string",
        (
            *_inserts("id", "'a'", _TEXT, times=2),
            "alter table {t} set tblproperties ('format-version'='2',"
            " 'write.delete.mode'='merge-on-read', 'write.update.mode'='merge-on-read')",
            "delete from {t} where id = 1",
            *_inserts("id", "'a'", _TEXT, times=2, start=16),
            "alter table {t} set tblproperties ('format-version'='3')",
            "delete from {t} where id in (2, 17)",
            *_inserts("id", "'a'", _TEXT, times=2, start=32),
            "delete from {t} where id in (33, 41)",
        ),
        parted="part",
        versions=(1,),
    ),
    "placed_elsewhere": Recipe(
        "id bigint, part string, text string",
        (*_inserts("id", "'a b/c'", _TEXT), _DELETE),
        parted="part",
        properties="'write.data.path'='file://{dir}/data of {name}',"
        " 'write.metadata.path'='file://{dir}/meta of {name}',"
        " 'write.object-storage.enabled'='true'",
    ),
    "objects_without_partition_paths": Recipe(
        "id bigint, part string, text string",
        (*_inserts("id", "'a'", _TEXT), _DELETE),
        parted="part",
        properties="'write.object-storage.enabled'='true',"
        " 'write.object-storage.partitioned-paths'='false',"
        " 'write.parquet.compression-codec'='gzip', 'write.delete.granularity'='partition'",
    ),
    "files_added": Recipe(
        "id bigint, part string, text string",
        (
            "create or replace temporary view came as"
            " select id, concat('text ', id) as text, if(id % 2 = 0, 'a', 'b') as part"
            " from range(0, 24, 1, 3)",
            "insert overwrite directory '{dir}/warehouse/ns/{name}/came' using parquet"
            " select * from came",
            "call rest.system.add_files(table => '{t}',"
            " source_table => '`parquet`.`{dir}/warehouse/ns/{name}/came`')",
            "alter table {t} rename column text to words",
            "alter table {t} add column text string",
            "insert into {t} select id, 'c', concat('text ', id), null from range(24, 32, 1, 1)",
            _DELETE,
        ),
    ),
    "metrics": Recipe(
        "id bigint, long_text string, d double, none int, counted string, text string",
        (
            *_inserts(
                "id", "repeat(concat('é', chr(1114111), id), 20)",
                "if(id % 3 = 0, double('NaN'), -0.0)", "null", "'x'", _TEXT,
            ),
            _DELETE,
        ),
        properties="'write.metadata.metrics.default'='truncate(7)',"
        " 'write.metadata.metrics.column.none'='none',"
        " 'write.metadata.metrics.column.counted'='counts',"
        " 'write.metadata.metrics.column.id'='full'",
    ),
}  # fmt: skip

# What streaming writers and years leave behind; the keys are deleted by hand, by their old name.
WORN = Recipe(
    "id bigint, part string, key int, s struct<a: int, b: float>, old string",
    (
        *_inserts(
            "id", "if(id % 4 = 0, 'a', null)", "hash(id) % 5",
            "if(id % 3 = 0, null, named_struct('a', id, 'b', id / 4))", _TEXT, rows=16, times=2,
        ),
        "delete from {t} where id in (1, 17, 28)",
    ),
    parted="part",
    versions=(2,),
)  # fmt: skip
WORN_KEYS = {"a": [4, 20, 24], None: [5, 13, 29, 30]}
WORN_SINCE = (
    "alter table {t} rename column old to text",
    "alter table {t} alter column s.b type double",
    "alter table {t} drop column s.a",
    "alter table {t} add column more int after key",
    "alter table {t} write ordered by key desc, id",
    "insert into {t} select id, 'a', hash(id) % 5, id, named_struct('b', id / 4),"
    " concat('text ', id) from range(32, 40, 1, 1)",
    "delete from {t} where id in (7, 8, 9, 33)",
)
