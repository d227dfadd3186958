"""`compact doctor`: whether this machine, its configuration and a table are fit for work."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from compactor.cli.exits import ExitCode
from compactor.cli.options import shared_options
from compactor.cli.session import Session

if TYPE_CHECKING:
    from catalog.location import Location
    from catalog.model import Snapshot
    from catalog.storage import Storage
    from catalog.table import Table
    from compactor.cli.checks import Finding


@click.command("doctor")
@click.argument("target", required=False)
@shared_options
def command(target: str | None) -> ExitCode:
    """Check versions, memory, disks and clocks, and TARGET when one is given.

    For a target: it is found, the table is supported, its list of files can be read, its
    storage takes conditional writes and, on S3, copies ranges by itself. Exits 1 when there is a
    problem.
    """
    from compactor.cli.checks import Grade, machine_findings

    session = Session.of()
    findings = list(machine_findings(session.settings()))
    findings.extend(_catalogs())
    if target is not None:
        findings.extend(_table_findings(target))
    is_fit = all(finding.grade is not Grade.PROBLEM for finding in findings)
    session.emit(
        lambda: {"fit": is_fit, "checks": [asdict(finding) for finding in findings]},
        lambda: _render(findings),
    )
    return ExitCode.DONE if is_fit else ExitCode.FAILED


def _catalogs() -> Iterator[Finding]:
    """Open every catalog and ask it for its namespaces."""
    from compactor.cli.checks import Finding, Grade, attempt

    names: list[str] = []

    def look() -> Finding:
        from catalog.iceberg.catalogs import known_catalogs

        names.extend(known_catalogs())
        if names:
            return Finding("catalogs", Grade.OK, ", ".join(f"`{name}`" for name in names))
        hint = "add one to .pyiceberg.yaml or set PYICEBERG_CATALOG__<NAME>__URI"
        return Finding("catalogs", Grade.WARNING, "none is configured", hint)

    yield attempt("catalogs", look)
    for name in names:
        yield attempt(f"catalog `{name}`", partial(_catalog, name))


def _catalog(name: str) -> Finding:
    from catalog.iceberg.catalogs import namespaces, open_catalog
    from compactor.cli.checks import Finding, Grade
    from compactor.units import format_count

    with closing(open_catalog(name)) as catalog:
        kind = type(catalog).__name__.removesuffix("Catalog")
        found = sum(1 for _ in namespaces(catalog, depth=1))
    return Finding(
        f"catalog `{name}`", Grade.OK, f"{kind}, answers with {format_count(found, 'namespace')}"
    )


def _table_findings(target: str) -> Iterator[Finding]:
    """Check a table from the catalog down to its storage; what needs more is left out."""
    from compactor.cli.checks import Finding, Grade, attempt
    from compactor.cli.targets import opened

    seen: list[Table] = []

    def reach() -> Finding:
        seen.append(opened(target))
        return Finding("table", Grade.OK, f"`{target}`, {seen[0].format}, is supported")

    yield attempt("table", reach)
    if not seen:
        return
    table = seen[0]
    snapshot = table.snapshot()
    yield attempt("credentials", lambda: _credentials(table, snapshot))
    yield attempt("inventory", lambda: _inventory(table, snapshot))
    yield attempt("storage", lambda: _storage(table, snapshot))
    yield attempt("copying", lambda: _copying(table, snapshot))
    yield attempt("table clock", lambda: _table_clock(snapshot))


def _credentials(table: Table, snapshot: Snapshot) -> Finding:
    """Tell whose keys to the storage are used, and how long they hold."""
    from compactor.cli.checks import Finding, Grade
    from compactor.units import format_duration

    loan = table.files(snapshot).storage.loan
    if loan is None:
        return Finding("credentials", Grade.OK, "those of this machine and its configuration")
    left_seconds = loan.expires_at_ms / 1000 - time.time()
    if left_seconds <= 0:
        hint = "compare the clocks of this machine and of the catalog"
        return Finding("credentials", Grade.PROBLEM, "lent, and run out already", hint)
    return Finding(
        "credentials", Grade.OK, f"lent by the catalog, for {format_duration(left_seconds)}"
    )


def _inventory(table: Table, snapshot: Snapshot) -> Finding:
    from compactor.cli.checks import Finding, Grade
    from compactor.units import format_count, format_size

    inventory = table.inventory(snapshot)
    files = format_count(inventory.file_count, "data file")
    deletes = format_count(inventory.delete_files.num_rows, "delete file")
    size = format_size(inventory.size_bytes)
    return Finding("inventory", Grade.OK, f"{files}, {size}, {deletes}")


def _probe(table: Table, snapshot: Snapshot) -> tuple[Storage, Location] | None:
    """Return an unused name where data files go; None while it is not known where they do."""
    files = table.files(snapshot)
    known = table.inventory(snapshot).files["partition_key"]
    if not len(known):
        return None
    name = f"compact-doctor-{uuid.uuid4()}.tmp"
    return files.storage, files.new_location(known[0].as_py(), name)


def _storage(table: Table, snapshot: Snapshot) -> Finding:
    """Write an object where data files go, try to write it again, and take it away."""
    from catalog.errors import ObjectExistsError
    from compactor.cli.checks import Finding, Grade

    found = _probe(table, snapshot)
    if found is None:
        return Finding("storage", Grade.OK, "not probed: the table is empty")
    storage, probe = found
    storage.put_if_absent(probe, b"first")
    try:
        storage.put_if_absent(probe, b"second")
    except ObjectExistsError:
        return Finding("storage", Grade.OK, f"`{probe.parent}` takes conditional writes")
    finally:
        storage.delete([probe])
    hint = "two writers could overwrite each other's metadata: use a store that honours them"
    return Finding("storage", Grade.PROBLEM, f"`{probe.parent}` ignores conditions", hint)


def _copying(table: Table, snapshot: Snapshot) -> Finding:
    """Let the store make an object of a range of another, and look at what it made."""
    from catalog.errors import NotComposableError
    from catalog.storage.parts import CopiedPart, Source, StoredPiece
    from compactor.cli.checks import Finding, Grade

    found = _probe(table, snapshot)
    if found is None or found[0].composed_bytes_min(found[1]) is None:
        return Finding("copying", Grade.OK, "not probed: only buckets of S3 copy by themselves")
    storage, source = found
    target = source.parent.child(f"{source.name}.copy")
    storage.write(source, b"0123456789")
    try:
        version = Source(source, 10, storage.head(source).etag)
        storage.compose(target, [CopiedPart(StoredPiece(version, 2, 3))])
        if storage.read(target) == b"234":
            return Finding("copying", Grade.OK, f"`{source.parent}` copies ranges by itself")
        reason = "the store copies other bytes than it is asked for"
    except NotComposableError as error:
        reason = str(error)
    finally:
        storage.delete([source, target])
    hint = "what is copied passes through the workers; see docs/server-side-copies.md"
    return Finding("copying", Grade.WARNING, reason, hint)


def _table_clock(snapshot: Snapshot) -> Finding:
    from compactor.cli.checks import CLOCK_SKEW_MAX_SECONDS, Finding, Grade
    from compactor.units import format_duration

    ahead_seconds = snapshot.timestamp_ms / 1000 - time.time()
    if ahead_seconds > CLOCK_SKEW_MAX_SECONDS:
        detail = f"the last commit is {format_duration(ahead_seconds)} ahead of this machine"
        return Finding("table clock", Grade.WARNING, detail, "synchronise the writers' clocks")
    age = format_duration(max(0.0, -ahead_seconds))
    return Finding("table clock", Grade.OK, f"last commit {age} ago")


def _render(findings: list[Finding]) -> None:
    from compactor.cli.checks import Grade
    from compactor.cli.console import results

    styles = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.PROBLEM: "red"}
    console = results()
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        grade = f"{finding.grade:<8}"
        console.print(f"{finding.check:<{width}}  ", end="")
        console.print(grade, style=styles[finding.grade], end="")
        console.print(f" {finding.detail}", soft_wrap=True)
        if finding.hint:
            console.print(f"{'':<{width}}  hint: {finding.hint}", soft_wrap=True)
