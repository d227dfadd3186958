"""Prove that a rewrite kept the table's content: row arithmetic always, every row on demand."""

from __future__ import annotations

import pyarrow.parquet as pq

from catalog.errors import CorruptTableError
from catalog.model import Inventory
from catalog.schema import TableSchema
from catalog.table import TableFiles
from compactor.errors import VerificationError
from compactor.rewrite.encoding import schema_text
from compactor.rewrite.fingerprint import digest_batch
from compactor.rewrite.input import ParquetInput, open_parquet, row_groups
from compactor.rewrite.own_name import unnamed
from compactor.rewrite.projection import FileColumns, plan_projection
from compactor.rewrite.read import SliceReader, is_stored
from compactor.rewrite.task import EMPTY_DIGEST, Proof, RowDigest
from compactor.rewrite.write import WrittenFile


def digest_slices(table: TableFiles, files: Inventory) -> RowDigest:
    """Fingerprint the rows that readers see in some file slices.

    Raises:
        CatalogError: as reading them raises it.
    """
    reader = SliceReader.of(table, files, unnamed(table.schema, table.layout))
    digest = EMPTY_DIGEST
    for file in files.slices():
        for batch in reader.batches(file):
            digest += digest_batch(batch)
    return digest


def check_rows(*, read: int, dropped: int, written: int) -> None:
    """Hold the arithmetic of a rewrite.

    Raises:
        VerificationError: rows were lost or invented.
    """
    if read - dropped != written:
        raise VerificationError(
            f"{read} rows were read and {dropped} of them dropped, but {written} were written"
        )


def check_digests(*, inputs: RowDigest, outputs: RowDigest) -> None:
    """Compare the content of inputs and outputs.

    Raises:
        VerificationError: they differ.
    """
    if inputs != outputs:
        raise VerificationError(
            f"the {outputs.row_count} rows read back from the outputs are not the"
            f" {inputs.row_count} surviving rows of the inputs"
        )


def read_back(
    table: TableFiles, file: WrittenFile, schema_expected: str, proof: Proof
) -> RowDigest | None:
    """Check a new file as storage has it; with `Proof.FULL` decode all of it.

    Returns:
        The fingerprint of its rows; None without `Proof.FULL`.

    Raises:
        VerificationError: it is not what was meant to be written.
    """
    name = str(file.location)
    try:
        with open_parquet(
            table.storage, file.location, name=name, size_bytes=file.size_bytes
        ) as written:
            _check_footer(written.metadata, file, schema_expected)
            columns = unnamed(table.schema.stored, table.layout)
            return _digest(written, columns) if proof is Proof.FULL else None
    except CorruptTableError as error:
        raise VerificationError(f"an output cannot be read back: {error}") from error


def check_inputs(table: TableFiles, files: Inventory) -> None:
    """Open every input: copied bytes go unread until the output is, and an input is to be named.

    Raises:
        CatalogError: one of them cannot be opened.
    """
    for file in filter(is_stored, files.slices()):
        location = table.locate(file.path)
        with open_parquet(
            table.storage, location, name=file.path, size_bytes=file.size_bytes, reads_ahead=False
        ):
            pass


def _check_footer(metadata: pq.FileMetaData, file: WrittenFile, schema_expected: str) -> None:
    found = tuple(group.num_rows for group in row_groups(metadata))
    if found != file.row_groups or metadata.num_rows != file.row_count:
        raise VerificationError(
            f"{file.location} was written with row groups of {file.row_groups} rows,"
            f" its footer says {found}"
        )
    if schema_text(metadata) != schema_expected:
        raise VerificationError(f"{file.location} does not have the schema of the table")


def _digest(file: ParquetInput, schema: TableSchema) -> RowDigest:
    projection = plan_projection(FileColumns(file.name, file.file.schema_arrow), schema, {})
    digest = EMPTY_DIGEST
    for index in range(file.metadata.num_row_groups):
        for batch in file.batches(index, projection.columns):
            digest += digest_batch(projection.apply(batch))
    return digest
