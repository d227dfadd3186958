"""How the columns of a row group go into an output: copied as they are, or encoded anew.

A column is copied when the output declares it in the same bytes and readers of the output find in
it what they found in the input. So one is not when it is of another form or missing, when nulls
in it stand for what follows from its file, and, where the layout of the table is kept, when its
codec or Bloom filter is not the table's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from compactor.parquet import Footer, column_sources, counterparts, why_not_file
from compactor.rewrite.encoding import Encoding
from compactor.rewrite.own_name import made_columns

OTHER_SCHEMA = "the schemas are not equal"
OTHER_CODEC = "another codec than the table's"
NO_FILTER = "no Bloom filter where the table wants one"
UNFILLED = "values that follow from the file it is in are not stored"
SORTED = "the row group states by which columns it is sorted"
# A row group of which less is copied is encoded as a whole.
_COPIED_SHARE_MIN = 0.5
# A guess, for columns that the input does not have.
_VALUE_BYTES = 8
# Codecs of the format by number, as layouts name them; both spellings of LZ4 differ in their bytes.
_CODECS = {
    "none": 0,
    "uncompressed": 0,
    "snappy": 1,
    "gzip": 2,
    "brotli": 4,
    "zstd": 6,
    "lz4": 7,
    "lz4_raw": 7,
}


@dataclass(frozen=True, slots=True)
class Patch:
    """Where each top-level column of an output's row group comes from.

    Attributes:
        copied: the leaf columns of the input that it is copied from; None where it is encoded.
    """

    copied: tuple[range | None, ...]

    @property
    def encoded(self) -> tuple[int, ...]:
        """The numbers of the columns that are encoded."""
        return tuple(number for number, leaves in enumerate(self.copied) if leaves is None)

    def leaves(self) -> list[int]:
        """Return the leaf columns of the input that are copied."""
        return [leaf for leaves in self.copied if leaves is not None for leaf in leaves]

    def parts(self, columns: Sequence[range]) -> list[tuple[bool, range]]:
        """Return the leaves in order, those together that stand together.

        Args:
            columns: the leaves of each top-level column of the output.

        Returns:
            Whether they are encoded, and their numbers in the input or among what is encoded.
        """
        found: list[tuple[bool, range]] = []
        at = 0
        for leaves, own in zip(self.copied, columns, strict=True):
            one = (leaves is None, leaves or range(at, at + len(own)))
            at += len(own) if leaves is None else 0
            if found and found[-1][0] == one[0] and found[-1][1].stop == one[1].start:
                one = (one[0], range(found.pop()[1].start, one[1].stop))
            found.append(one)
        return found


@dataclass(frozen=True, slots=True)
class Fit:
    """How one row group goes into an output.

    Attributes:
        reason: why nothing of it is copied; empty when something is.
        copied_bytes: stored bytes of the columns that are copied.
        patch: how its columns come together; None when it is copied as it is, or not at all.
        encoded_bytes: about what the other columns of a patch take.
    """

    reason: str
    copied_bytes: int = 0
    patch: Patch | None = None
    encoded_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FileFit:
    """How the row groups of one file go into outputs of one form.

    Attributes:
        form: what the outputs are like.
        footer: the file's.
        reason: why none of its bytes can stand in an output; empty when some can.
        sources: per top-level column of the output, the leaves that are the same in the file.
        filled: top-level columns of the output in which a stored null has another meaning there.
    """

    form: Form
    footer: Footer
    reason: str
    sources: tuple[range | None, ...] = ()
    filled: Collection[int] = ()

    def row_group(self, index: int) -> Fit:
        """Return how a row group goes into an output."""
        if self.reason:
            return Fit(self.reason)
        unfit, why = self._unfit(index)
        sizes = self.footer.chunk_bytes(index)
        if (
            not unfit
            and self.sources == self.form.columns
            and len(sizes) == self.form.like.column_count
        ):
            return Fit("", sum(sizes))
        patch = Patch(
            tuple(None if at in unfit else leaves for at, leaves in enumerate(self.sources))
        )
        if self.footer.states_order(index):
            return Fit(why or SORTED)
        copied_bytes = sum(sizes[leaf] for leaf in patch.leaves())
        stored_bytes, new_bytes = self._encoded_bytes(patch, sizes, index)
        if patch.encoded and copied_bytes < _COPIED_SHARE_MIN * (copied_bytes + stored_bytes):
            return Fit(why or OTHER_SCHEMA)
        return Fit("", copied_bytes, patch, stored_bytes + new_bytes)

    def _encoded_bytes(self, patch: Patch, sizes: list[int], index: int) -> tuple[int, int]:
        """Return what the other columns take in the file, and about what those it lacks will."""
        stored = counterparts(self.form.like.schema, self.footer.schema)
        leaves = [leaf for column in patch.encoded for leaf in stored[column] or ()]
        missing = sum(len(self.form.columns[at]) for at in patch.encoded if stored[at] is None)
        rows = self.footer.row_group(index).row_count
        return sum(sizes[leaf] for leaf in leaves), rows * _VALUE_BYTES * missing

    def _unfit(self, index: int) -> tuple[frozenset[int], str]:
        """Return which columns are to be encoded though their form is right, and why one is."""
        found: dict[int, str] = {}
        for reason, leaf_is_unfit in self._conditions(index):
            for column, leaves in enumerate(self.sources):
                own = self.form.columns[column]
                pairs = zip(leaves or (), own, strict=False)
                if any(leaf_is_unfit(column, *pair) for pair in pairs):
                    found.setdefault(column, reason)
        return frozenset(found), next(iter(found.values()), "")

    def _conditions(self, index: int) -> Iterator[tuple[str, Callable[[int, int, int], bool]]]:
        """Yield what not all leaves of a row group pass: given column, leaf there and leaf here."""
        form, footer = self.form, self.footer
        codecs = footer.chunk_codecs(index)
        if form.codec is not None and set(codecs) != {form.codec}:
            yield OTHER_CODEC, lambda _, leaf, __: codecs[leaf] != form.codec
        if form.filtered:
            yield (
                NO_FILTER,
                lambda _, leaf, own: (
                    own in form.filtered and not footer.chunk(index, leaf).has_bloom_filter
                ),
            )
        if self.filled:
            yield (
                UNFILLED,
                lambda column, leaf, _: (
                    column in self.filled and footer.chunk(index, leaf).null_count != 0
                ),
            )


@dataclass(frozen=True, slots=True)
class Form:
    """What outputs are like.

    Attributes:
        encoding: how rows are encoded for them.
        like: the footer of such a file, without row groups.
        columns: the leaves of each top-level column.
        codec: number of the codec that chunks must have; None when any will do.
        filtered: leaf columns that must have Bloom filters.
        is_only_copied: whether `encoding` writes another form: nothing can stand beside copies.
        made: numbers of the top-level columns that are copied from no input.
    """

    encoding: Encoding
    like: Footer
    columns: tuple[range, ...]
    codec: int | None
    filtered: frozenset[int]
    is_only_copied: bool = False
    made: frozenset[int] = frozenset()

    @classmethod
    def of(cls, encoding: Encoding, *, keeps_layout: bool) -> Form:
        """Return the form of files that are encoded in some way.

        Args:
            encoding: the way.
            keeps_layout: whether copies must have its codec and its Bloom filters.
        """
        like, layout = encoding.empty_footer(), encoding.layout
        is_required = keeps_layout and layout.is_codec_required
        codec = _CODECS.get(layout.codec, -1) if is_required else None
        filtered: frozenset[int] = encoding.filtered_leaves() if keeps_layout else frozenset()
        columns = tuple(one.leaves for one in like.schema.columns)
        made = made_columns(encoding.schema, layout)
        return cls(encoding, like, columns, codec, filtered, made=made)

    def fit(self, footer: Footer, filled: Collection[int]) -> FileFit:
        """Return how a file goes into outputs of this form.

        Args:
            footer: the file's.
            filled: numbers of the columns in which nulls stand for what follows from the file.

        Raises:
            CorruptTableError: the key-value metadata or the writer's name cannot be read.
        """
        ignored = self.encoding.replaced_keys()
        reason = why_not_file(self.like, footer, ignored_keys=ignored)
        if reason is not None:
            return FileFit(self, footer, reason)
        found = column_sources(self.like, footer)
        sources = tuple(None if at in self.made else one for at, one in enumerate(found))
        if not any(sources):
            return FileFit(self, footer, OTHER_SCHEMA)
        return FileFit(self, footer, "", sources, filled)
