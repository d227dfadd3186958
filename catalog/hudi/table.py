"""A Hudi table; implements `catalog.table.Table` and `AnnouncingTable`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa

from catalog.announcing import Announcement, Standing, WorkKind
from catalog.commits import ChangeScope, Commit, CommitKind, CommitResult
from catalog.errors import (
    CatalogError,
    CommitConflictError,
    CommitUnknownError,
    CorruptTableError,
    ObjectNotFoundError,
    TableNotFoundError,
)
from catalog.hudi.config import TableConfig, parse_properties, table_config
from catalog.hudi.files import HudiFiles, Outputs
from catalog.hudi.heartbeats import Heartbeats, is_beating
from catalog.hudi.instants import InstantWriter
from catalog.hudi.inventory import read_inventory
from catalog.hudi.layout import file_layout
from catalog.hudi.listing import list_files
from catalog.hudi.locking import Lock, held, lock_of
from catalog.hudi.markers import remove_markers
from catalog.hudi.metadata_table.table import FILES, Operation, open_metadata_table
from catalog.hudi.protocol import require_readable
from catalog.hudi.reading import Source, read_slices
from catalog.hudi.scheduling import (
    carry_on,
    find_work,
    next_time,
    outputs_of,
    schedule,
)
from catalog.hudi.schema import table_schema
from catalog.hudi.slices import Slices
from catalog.hudi.states import as_of, find_snapshot, later_commits
from catalog.hudi.stored_schema import stored_schema
from catalog.hudi.timeline import Action, Instant, State, Timeline, read_timeline, timeline_folder
from catalog.location import Location
from catalog.model import Inventory, Snapshot
from catalog.storage import Storage
from catalog.table import MapFunction
from catalog.upkeep import UpkeepOperation

_OPERATIONS = {
    WorkKind.FOLD: Operation.COMPACTION,
    WorkKind.REPLACE: Operation.CLUSTERING,
    WorkKind.CHANGE: Operation.UPSERT,
}
_LOG = logging.getLogger(__name__)
_PROPERTIES = ("hoodie.properties", "hoodie.properties.backup")


class HudiTable:
    """The coordinator's side of a table at a location."""

    can_mark = False

    def __init__(self, name: str, root: Location, properties: Mapping[str, str]) -> None:
        """Name a table; nothing is read.

        Args:
            name: the target it was opened by.
            root: its directory.
            properties: of the storage, and those of `catalog.hudi.locking`.
        """
        self._name = name
        self._root = root
        self._properties = properties
        self._storage = Storage.from_properties(properties)
        self._last: tuple[Timeline, Slices, Inventory] | None = None
        self._schema: tuple[Timeline, str] | None = None
        self._beats = Heartbeats(self._storage, root)
        # The last state that was asked for, and the timeline by then.
        self._seen: tuple[Snapshot, Timeline] | None = None
        self._merged: tuple[tuple[Instant, ...], Mapping[str, str]] | None = None

    @property
    def name(self) -> str:
        """The target it was opened by."""
        return self._name

    @property
    def root(self) -> Location:
        """Its directory."""
        return self._root

    @property
    def storage(self) -> Storage:
        """Where it is."""
        return self._storage

    @property
    def format(self) -> str:
        """`hudi v9 merge-on-read` and the like, for people."""
        config = self.config()
        kind = "merge-on-read" if config.is_merge_on_read else "copy-on-write"
        return f"hudi v{config.version} {kind}"

    def config(self) -> TableConfig:
        """Read the table's settings.

        Raises:
            TableNotFoundError: there are none.
            UnsupportedTableError: the table has a feature that is not handled.
        """
        for name in _PROPERTIES:
            try:
                text = self._storage.read(self._root.child(".hoodie", name)).decode("latin-1")
            except ObjectNotFoundError:
                # While they are rewritten, only the copy is there.
                continue
            config = table_config(parse_properties(text))
            require_readable(config)
            return config
        raise TableNotFoundError(f"no Hudi table at {self._root}")

    def source(self) -> Source:
        """Read settings and timeline anew."""
        config = self.config()
        timeline = read_timeline(self._storage, self._root, config)
        return Source(self._storage, self._root, config, timeline)

    def slices(self, source: Source) -> Slices:
        """Return the file slices of a timeline."""
        return self._present(source)[0]

    def snapshot(self, snapshot_id: str | None = None) -> Snapshot:
        """Return the current state, or the one with the given id."""
        source = self.source()
        found = find_snapshot(source.timeline, source.config, snapshot_id)
        if snapshot_id is None:
            self._seen = found, source.timeline
        return found

    def inventory(self, snapshot: Snapshot, *, map_function: MapFunction = map) -> Inventory:
        """Return every file slice; footers that are needed are read through `map_function`."""
        source = self._at(snapshot)
        return self._present(source, map_function)[1]

    def files(self, snapshot: Snapshot) -> HudiFiles:
        """Return the workers' side of a state, with the current schema."""
        source = self.source()
        if self._schema is None or self._schema[0].instants != source.timeline.instants:
            # It stands in the newest commit, which may be a large one.
            self._schema = source.timeline, stored_schema(source)
        schema = self._schema[1]
        if not schema:
            raise CorruptTableError(f"{self._name} has no schema: no commit says it")
        return HudiFiles(
            storage=self._storage,
            schema=table_schema(schema),
            layout=file_layout(source.config, self._storage, self._root),
            root=self._root,
            config=source.config,
            timeline=self._at(snapshot).timeline,
        )

    def check_change(self, scope: ChangeScope) -> None:
        """Make sure that the table takes a change."""
        from catalog.hudi.change_rules import require_changeable  # lazy: only for changes

        source = self.source()
        metadata = open_metadata_table(self._storage, self._root, source.config)
        # Not `snapshot`: what had been written when the change was looked for stays as it is.
        present = find_snapshot(source.timeline, source.config, None)
        schema = self.files(present).schema.arrow
        require_changeable(source.config, schema, metadata, scope)

    def watermark(self, source: str) -> str | None:
        """Return how far a source has been merged."""
        from catalog.hudi.watermarks import read_merged  # lazy: only for changes

        present = self.source()
        if self._merged is None or self._merged[0] != present.timeline.instants:
            self._merged = present.timeline.instants, read_merged(present).sources
        return self._merged[1].get(source)

    def standing(self, snapshot: Snapshot) -> Standing:
        """Return the plans that are not carried out, and what may not be touched because of it."""
        del snapshot
        from catalog.hudi.standing import standing_of  # lazy: only planners ask

        source = self.source()
        slices, inventory = self._present(source)
        return standing_of(source, slices, inventory)

    def announce(self, announcement: Announcement) -> HudiFiles:
        """Put work on the timeline, or find it there; give signs of life for it from now on."""
        with self.locked() as (lock, source):
            self._require_writable(source, announcement)
            found = _find(source, announcement)
            if found is None:
                lock.require()
                found = self._schedule(source, announcement)
            elif not found.is_completed or announcement.announced.work_id:
                self._require_idle(source, announcement, found)
                self._carry_on(source, announcement, found)
            # Before anybody else may look whether it is idle.
            self._beats.begin(found.time)
        return self._writing(announcement, found)

    def announced(self, announcement: Announcement) -> HudiFiles | None:
        """Return what files of work are written by that was announced before."""
        source = self.source()
        found = _find(source, announcement)
        if found is None:
            return None
        if not found.is_completed:
            self._beats.begin(found.time)
        if found.state is State.REQUESTED:
            # Whoever requested it died before it was begun.
            with self.locked():
                InstantWriter(self._storage, self._root, source.config).begin(found)
        return self._writing(announcement, found)

    def withdraw(self, announcement: Announcement) -> None:
        """Take work back that will not be done, with all of its files.

        In layout 1 a compaction stays: logs are named after it from its request on. What others
        have announced stays as well: they take our files away when they begin it anew.
        """
        if announcement.announced.work_id:
            self._beats.end(announcement.announced.work_id)
            return
        is_folding = announcement.announced.kind is WorkKind.FOLD
        if is_folding and self.config().layout == 1:
            return
        from catalog.hudi.withdrawing import take_back  # lazy: seldom

        announced = _find(self.source(), announcement)
        if announced is None:
            return
        # Writers roll back what shows no life, and fail where it goes meanwhile.
        self._beats.begin(announced.time)
        try:
            with self.locked() as (lock, source):
                found = _find(source, announcement)
                if found is not None:
                    take_back(source, found, lock)
        finally:
            self._beats.end(announced.time)

    def commit(self, commit: Commit) -> CommitResult:
        """Complete announced work."""
        from catalog.hudi import commit as committing  # lazy: reading needs none

        if commit.kind is not CommitKind.REWRITE:
            self.check_change(ChangeScope(adds_rows=False, removes_rows=True))
        if commit.is_empty:
            return CommitResult(None, (), ())
        ranges = committing.outputs_seen(self.source(), commit)
        with self.locked() as (lock, source):
            instant = committing.work_of(source, commit)
            known = committing.known_result(source, commit, instant)
            if known is None and instant is not None:
                present = committing.Present(source, *self._present(source), lock)
                lock.require()
                known = committing.why_outdated(present, commit, instant)
            if known is None and instant is not None:
                instant = committing.complete(present, commit, instant, ranges)
                known = CommitResult(None, tuple(one.group_id for one in commit.rewrites), ())
                self._maintain(lock)
        if instant is not None and instant.is_completed:
            self._rest(instant)
        elif instant is not None and commit.kind is CommitKind.REWRITE:
            # Its markers say what is to be deleted, by us or by whoever begins it anew. A change
            # shows life until it is withdrawn: writers roll back those that show none.
            self._beats.end(instant.time)
        return self._with_snapshot(known, instant)

    def find_commit(self, commit: Commit) -> CommitResult | None:
        """Return what became of a commit; None while its work is still announced."""
        from catalog.hudi import commit as committing  # lazy: reading needs none

        source = self.source()
        instant = committing.work_of(source, commit)
        known = committing.known_result(source, commit, instant)
        return None if known is None else self._with_snapshot(known, instant)

    def clean_commit(self, commit: Commit) -> None:
        """Do nothing: what a commit began is finished by the next one."""

    def upkeep(self) -> Sequence[UpkeepOperation]:
        """Return what can be done for older file slices and instants, in order."""
        from catalog.hudi.archiver import Archive  # lazy: readers need none
        from catalog.hudi.cleaner import Clean

        return (Clean(self), Archive(self))

    @contextmanager
    def locked(self) -> Iterator[tuple[Lock, Source]]:
        """Hold the lock of the table, and read it anew."""
        lock = lock_of(self._storage, self._root, self.config(), self._properties)
        with held(lock, root=self._root) as taken:
            self._last = None
            yield taken, self.source()

    def listing(self, source: Source) -> pa.Table:
        """Return the files of all partitions, listed after the timeline was read."""
        if FILES not in source.config.metadata_partitions:
            return list_files(self._storage, self._root)
        from catalog.hudi.metadata_table.reading import read_listing  # lazy: some have none

        metadata = open_metadata_table(self._storage, self._root, source.config)
        if metadata is None:
            return list_files(self._storage, self._root)
        return read_listing(metadata, source.timeline)

    def _present(self, source: Source, map_function: MapFunction = map) -> tuple[Slices, Inventory]:
        """Return the slices of a timeline, and as planners read them; the last are remembered."""
        last = self._last
        if last is None or last[0].instants != source.timeline.instants:
            slices = read_slices(source, self.listing(source))
            inventory = read_inventory(source, slices, map_function=map_function)
            self._last = last = source.timeline, slices, inventory
        return last[1], last[2]

    def _maintain(self, lock: Lock) -> None:
        """Do what is due for the metadata table; what fails is done after a later commit."""
        from catalog.hudi.metadata_table.upkeep import maintain_metadata  # lazy: only after commits

        source = self.source()
        metadata = open_metadata_table(self._storage, self._root, source.config)
        if metadata is not None:
            try:
                maintain_metadata(metadata, source.timeline, lock)
            except CatalogError as error:
                _LOG.warning("the metadata table of %s was not kept up: %s", self._name, error)

    def _at(self, snapshot: Snapshot) -> Source:
        """Read the table as it was in a state."""
        source = self.source()
        find_snapshot(source.timeline, source.config, snapshot.snapshot_id)
        folder = timeline_folder(self._root, source.config)
        compactions = []
        for one in later_commits(source.timeline, snapshot):
            plan = replace(one, action=Action.COMPACTION).named(State.REQUESTED)
            if _exists(self._storage, folder.child(plan)):
                compactions.append(one.time)
        return replace(source, timeline=as_of(source.timeline, snapshot, compactions))

    def _require_writable(self, source: Source, announcement: Announcement) -> None:
        metadata = open_metadata_table(self._storage, self._root, source.config)
        if metadata is not None:
            metadata.require_writable(_OPERATIONS[announcement.announced.kind])

    def _schedule(self, source: Source, announcement: Announcement) -> Instant:
        """Put work on the timeline, under the lock."""
        present = self._present(source)
        if announcement.announced.kind is not WorkKind.CHANGE:
            target_bytes = self.files(announcement.base).layout.target_file_size_bytes
            return schedule(source, present[1], announcement, target_bytes=target_bytes)
        from catalog.hudi.changes import announce_change  # lazy: only for changes

        if self._seen is None or self._seen[0] != announcement.base:
            raise CommitConflictError(
                f"it was matched by a process that is gone: which writes of {self._name} ran then"
                " is not known"
            )
        time = next_time(source)
        # Before it is there: writers roll back at once what has never shown life.
        self._beats.begin(time)
        try:
            return announce_change(source, present, announcement, self._seen[1], time)
        except CatalogError:
            self._beats.end(time)
            raise

    def _writing(self, announcement: Announcement, instant: Instant) -> HudiFiles:
        outputs: Outputs = outputs_of(instant, announcement)
        return replace(self.files(announcement.base), outputs=outputs)

    def _with_snapshot(self, result: CommitResult | None, instant: Instant | None) -> CommitResult:
        if result is None:
            raise CommitUnknownError("the instant of the commit cannot be told")
        if not result.committed:
            return result
        # What an archived instant made has no name any more.
        name = None if instant is None else instant.completion_time or instant.time
        return replace(result, snapshot=self.snapshot(name))

    def _carry_on(self, source: Source, announcement: Announcement, instant: Instant) -> None:
        """Begin what is planned; of what is begun without a sign of life nobody knows the end."""
        self._beats.begin(instant.time)
        try:
            carry_on(source, announcement, instant)
        except CommitConflictError:
            self._beats.end(instant.time)
            raise

    def _require_idle(self, source: Source, announcement: Announcement, instant: Instant) -> None:
        """Make sure that nobody else carries out an instant.

        Raises:
            CommitConflictError: somebody gives signs of life for it.
        """
        if instant.time in self._beats or instant.state is not State.INFLIGHT:
            return
        told = announcement.announced
        is_busy = is_beating(self._storage, self._root, instant.time, now=datetime.now(UTC))
        if told.work_id and told.kind is WorkKind.REPLACE:
            from catalog.hudi.others_clustering import may_begin  # lazy: seldom

            is_busy = not may_begin(source, instant)
        if is_busy:
            raise CommitConflictError(
                f"another process is carrying out the {instant.action} {instant.time}",
                hint="if that process is dead, try again in two minutes",
            )

    def _rest(self, instant: Instant) -> None:
        """Leave no marker and no sign of life of an instant that is completed."""
        remove_markers(self._storage, self._root, instant.time)
        self._beats.clear(instant.time)


def _find(source: Source, announcement: Announcement) -> Instant | None:
    """Return the instant of what a job has announced; None for none."""
    if announcement.announced.kind is not WorkKind.CHANGE:
        return find_work(source, announcement)
    from catalog.hudi.changes import find_change  # lazy: only for changes

    return find_change(source, announcement)


def _exists(storage: Storage, location: Location) -> bool:
    try:
        storage.head(location)
    except ObjectNotFoundError:
        return False
    return True
