"""The file system view on columns shows what a plain one shows, file by file."""

from collections import defaultdict

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.slices import (
    LISTING,
    Pending,
    View,
    file_slices,
    log_instants,
    rival_bases,
)
from catalog.hudi.timeline import Action, Instant, State, instant_of, timeline_of

# Instants 10 to 29; what is older is archived.
TIMES = [str(number) for number in range(10, 30)]
GROUPS = [("p=1", "a"), ("p=1", "b"), ("p=2", "a"), ("", "c")]
WRITES = (Action.COMMIT, Action.DELTACOMMIT, Action.REPLACECOMMIT)


def listing(files):
    rows = [(path, name, 7) for path, name in files]
    return pa.table([list(column) for column in zip(*rows, strict=True)] or [[], [], []], LISTING)


def base(file_id, time):
    return f"{file_id}_0-1-2_{time}.parquet"


def log(file_id, time, version=1):
    return f".{file_id}_{time}.log.{version}_0-1-2"


@st.composite
def instants(draw, layout):
    found = []
    for time in draw(st.lists(st.sampled_from(TIMES[3:]), unique=True, max_size=8)):
        state = draw(st.sampled_from([State.COMPLETED, State.COMPLETED, State.INFLIGHT]))
        action = draw(st.sampled_from(WRITES))
        if state is not State.COMPLETED and draw(st.booleans()):
            action = Action.COMPACTION
        late = draw(st.integers(1, 6))
        end = str(int(time) + late) if state is State.COMPLETED and layout == 2 else None
        found.append(Instant(time, action, state, end, ""))
    return timeline_of(found, layout=layout)


@st.composite
def tables(draw):
    layout = draw(st.sampled_from([1, 2]))
    timeline = draw(instants(layout))
    files = set()
    for path, file_id in GROUPS:
        for time in draw(st.lists(st.sampled_from(TIMES), max_size=3)):
            files.add((path, base(file_id, time)))
        for time in draw(st.lists(st.sampled_from(TIMES), max_size=4)):
            files.add((path, log(file_id, time, draw(st.sampled_from([1, 2, 10])))))
    compacting = [one.time for one in timeline.pending(Action.COMPACTION)]
    plans = st.dictionaries(st.sampled_from(GROUPS), st.sampled_from(compacting or ["0"]))
    pending = Pending(compactions=draw(plans) if compacting else {})
    replaced = draw(st.frozensets(st.sampled_from(GROUPS), max_size=2))
    archived = {time: str(int(time) + draw(st.integers(0, 4))) for time in TIMES[:3]}
    view = View(timeline, pending, replaced, archived)
    return draw(st.permutations(sorted(files))), view


class Model:
    """One file group, put together as its description says."""

    def __init__(self, view, group):
        self.view, self.timeline = view, view.timeline
        self.slices = defaultdict(lambda: [None, []])
        self.pending = {one.time for one in view.timeline.pending()}
        self.planned = view.pending.compactions.get(group)

    def add_logs(self, logs):
        """Place logs: bases of writes that are not completed begin no slice for them."""
        begun = [one for one in self.slices if one == self.planned or self.is_seen(one)]
        ends = {**self.view.archived, **self.timeline.completion_times}
        early = []
        for name, time in logs:
            earlier = [one for one in begun if time not in ends or one <= ends[time]]
            if self.timeline.layout == 1:
                self.slices[time][1].append((name, time))
            elif earlier:
                self.slices[max(earlier)][1].append((name, time))
            else:
                early.append((name, time))
        for named in early:
            self.slices[min(time for _, time in early)][1].append(named)

    def is_seen(self, time):
        visible = self.timeline.visible
        if not visible or time > max(visible):
            return False
        return time in visible or (time < min(visible) and time not in self.pending)

    def shown(self):
        seen = [time for time in sorted(self.slices) if self.is_seen(time)]
        if not seen:
            return None
        chosen, logs = self.slices[seen[-1]]
        if seen[-1] == self.planned:
            chosen = None
            if len(seen) > 1:
                chosen = self.slices[seen[-2]][0]
                logs = self.slices[seen[-2]][1] + logs
        names = [name for name, time in sorted(logs, key=order) if self.is_complete(time)]
        return (chosen, names) if chosen or names else None

    def is_complete(self, time):
        if self.timeline.layout == 1:
            return True
        firsts = [one.time for one in self.timeline.instants]
        known = {**self.view.archived, **self.timeline.completion_times}
        return time in known or time < min(firsts, default="")


def order(named):
    name, time = named
    return time, int(name.split(".log.")[1].split("_")[0])


def expected(files, view):
    found = {}
    for group in {*GROUPS}:
        path, file_id = group
        ours = [name for where, name in files if where == path]
        model = Model(view, group)
        for name in ours:
            if name.startswith(f"{file_id}_"):
                time = name.split("_")[2].split(".")[0]
                model.slices[time][0] = name
        logs = [
            (name, name.split("_")[1].split(".")[0])
            for name in ours
            if name.startswith(f".{file_id}_")
        ]
        if model.planned and (logs or model.slices):
            model.slices[model.planned]
        model.add_logs(sorted(logs, key=order))
        shown = model.shown()
        if shown and group not in view.replaced:
            found[group] = shown
    return found


def told(found):
    names = found.logs["name"].to_pylist()
    return {
        (one["partition_path"], one["file_id"]): (
            one["base_name"],
            [names[number] for number in one["logs"]],
        )
        for one in found.slices.to_pylist()
    }


@settings(max_examples=100, deadline=None)
@given(tables())
def test_slices_are_those_of_a_plain_view(table):
    files, view = table
    assert told(file_slices(listing(files), view)) == expected(files, view)


def completed(*times, layout=2):
    ends = {time: str(int(time) + 1) if layout == 2 else None for time in times}
    found = [Instant(time, Action.COMMIT, State.COMPLETED, ends[time], "") for time in times]
    return timeline_of(found, layout=layout)


def test_what_is_no_data_file_is_passed_over():
    names = [".hoodie_partition_metadata", "x.txt", "notes.parquet", log("a", "11") + ".cdc"]
    found = file_slices(listing([("p", name) for name in names]), View(completed("11")))
    assert found.slices.num_rows == found.logs.num_rows == 0


def test_slices_say_what_they_are_part_of():
    pending = Pending({("p", "a"): "13"}, {("p", "a"): "14"}, {("q", "b"): "15"})
    files = [("p", base("a", "11")), ("q", base("b", "11")), ("q", base("c", "11"))]
    rows = file_slices(listing(files), View(completed("11"), pending)).slices.to_pylist()
    assert [(one["partition_path"], one["file_id"], one["base_size_bytes"]) for one in rows] == [
        ("p", "a", 7),
        ("q", "b", 7),
        ("q", "c", 7),
    ]
    columns = ("instant", "pending_compaction", "pending_log_compaction", "pending_clustering")
    assert [[one[name] for name in columns] for one in rows] == [
        ["11", "13", "14", None],
        ["11", None, None, "15"],
        ["11", None, None, None],
    ]


def test_rivals_for_a_slice_are_told_and_refused():
    files = [("p", "a_1-0-1_11.parquet"), ("p", "a_2-0-1_11.parquet"), ("p", base("b", "11"))]
    rivals = rival_bases(listing(files))
    assert sorted(rivals["name"].to_pylist()) == [name for _, name in files[:2]]
    with pytest.raises(CorruptTableError, match="several base files"):
        file_slices(listing(files), View(completed("11")))


def test_files_that_were_only_registered_are_refused():
    with pytest.raises(UnsupportedTableError, match="registered"):
        file_slices(listing([("p", "x.parquet_11_hudiext")]), View(completed("11")))


def test_base_files_may_have_another_extension():
    files = [("files", "files-0000-0_1-0-1_11.hfile"), ("files", base("a", "11"))]
    found = file_slices(listing(files), View(completed("11"), extension="hfile"))
    assert found.slices["base_name"].to_pylist() == [files[0][1]]


def test_the_instants_of_logs_are_those_in_their_names():
    files = [("p", log("a", "12")), ("p", base("a", "11")), ("q", log("b", "13"))]
    assert log_instants(listing(files)) == {"12", "13"}


def test_what_was_logged_while_a_write_failed_stays():
    """The base file of a write that is not completed begins no slice for logs of others."""
    found = [
        Instant("11", Action.DELTACOMMIT, State.COMPLETED, "12", ""),
        Instant("13", Action.DELTACOMMIT, State.INFLIGHT, None, ""),
        Instant("14", Action.DELTACOMMIT, State.COMPLETED, "15", ""),
    ]
    files = [("p", base("a", "11")), ("p", base("a", "13")), ("p", log("a", "14"))]
    view = View(timeline_of(found, layout=2))
    assert told(file_slices(listing(files), view)) == {("p", "a"): (files[0][1], [files[2][1]])}


def test_writes_that_were_archived_behind_a_savepoint_are_seen():
    names = ["11_12.commit", "11_12.savepoint", "17_18.deltacommit"]
    timeline = timeline_of((instant_of(name, layout=2) for name in names), layout=2)
    files = [("p", base("a", "11")), ("p", base("a", "13")), ("p", log("a", "14"))]
    view = View(timeline, archived={"13": "14", "14": "15"})
    assert told(file_slices(listing(files), view)) == {("p", "a"): (files[1][1], [files[2][1]])}
