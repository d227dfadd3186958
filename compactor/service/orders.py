"""What the service asks of its child processes, and what they answer: values, as lines of JSON.

Whatever opens a table happens in a child: the service itself stays small, and a table that takes
its reader down takes nothing else with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from compactor.jobs.options import JobOptions
from compactor.planner.policy import Policy
from compactor.service.config import ServiceOptions
from compactor.service.queue import Claim
from compactor.settings import RuntimeSettings, StoreSettings

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class JobOrder:
    """Compact a table under a claim of the queue.

    Attributes:
        claim: the claim.
        policy: what is wanted.
        run: how the job runs.
        runtime: where its tasks run, and what they may take.
        store: where it is recorded.
        options: of the service, for how the row goes on.
        seconds_max: it is stopped after so long; what it has committed stays.
        kept: where what was read of manifests is kept; None for nowhere.
    """

    claim: Claim
    policy: Policy
    run: JobOptions
    runtime: RuntimeSettings
    store: StoreSettings
    options: ServiceOptions
    seconds_max: float
    kept: Path | None = None


@dataclass(frozen=True, slots=True)
class HeadsOrder:
    """Tell which tables have changed.

    Attributes:
        tables: targets with the heads they had.
    """

    tables: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class HealthOrder:
    """Look into tables.

    Attributes:
        tables: targets with their policies.
        kept: as for a job.
    """

    tables: tuple[tuple[str, Policy], ...]
    kept: Path | None = None


@dataclass(frozen=True, slots=True)
class FindOrder:
    """Tell which tables the catalogs have that fit patterns."""

    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanOrder:
    """Plan the compaction of a table; nothing is touched.

    Attributes:
        target: the table.
        policy: what is wanted.
        kept: as for a job.
    """

    target: str
    policy: Policy
    kept: Path | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """What was planned, or why it could not be.

    Attributes:
        plan: as the job store keeps it; empty with an error.
        health: the health of the table, as JSON; empty with an error.
        code: of the error; empty without one.
        message: what went wrong.
        hint: what to do next.
    """

    plan: bytes = b""
    health: bytes = b""
    code: str = ""
    message: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """A table that is not as it was, or cannot be looked at.

    Attributes:
        target: the table.
        head: what it has now; empty when that cannot be told.
        trouble: why it cannot be told.
        is_missing: whether there is no such table.
    """

    target: str
    head: str
    trouble: str = ""
    is_missing: bool = False


@dataclass(frozen=True, slots=True)
class HealthSeen:
    """The figures of `Health` that are kept."""

    score: int
    files: int
    small_files: int
    delete_files: int
    size_bytes: int
    rows: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found in a table.

    Attributes:
        target: the table.
        snapshot_id: its current snapshot.
        format: its format, for people.
        health: None when the table cannot be read.
        trouble: why it cannot.
        is_missing: whether there is no such table.
    """

    target: str
    snapshot_id: str = ""
    format: str = ""
    health: HealthSeen | None = None
    trouble: str = ""
    is_missing: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The tables that fit a pattern, or why they cannot be told."""

    pattern: str
    targets: tuple[str, ...] = field(default=())
    trouble: str = ""


def encode(value: object) -> bytes:
    """Return a value as one line."""
    return msgspec.json.encode(value, enc_hook=_plain) + b"\n"


def _plain(value: object) -> object:
    """Write paths as text, and values of settings as what they are values of."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, tuple):
        return tuple(value)
    raise NotImplementedError(f"{type(value)} has no form as text")


def decode(line: bytes, kind: type[_Value]) -> _Value:
    """Read a value.

    Raises:
        msgspec.DecodeError: it is not one.
    """
    return msgspec.json.decode(line, type=kind, dec_hook=_from_text)


def _from_text(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(f"{kind} has no form as text")
