"""The settings in force: flags, environment and configuration files merged into one frozen value.

Precedence, highest first: flags, `COMPACT_*`, the nearest `compact.toml` from the working directory
upwards, `$XDG_CONFIG_HOME/compact/compact.toml`, `/etc/compact/compact.toml`, defaults.  A file
that is named explicitly takes the place of all three files.  Within one source the
narrowest `[policy."pattern"]` that fits a target wins.

Every value knows where it came from, and what is not understood is refused by name.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from enum import EnumType
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import msgspec

from compactor.clustering import SortKey, Strategy, parse_sort_keys
from compactor.errors import SettingsError
from compactor.jobs.failpoints import VARIABLE as FAILPOINT_VARIABLE
from compactor.jobs.options import JobOptions
from compactor.planner.policy import Order, Policy
from compactor.rewrite.task import Proof
from compactor.splicing import Effort
from compactor.units import format_size, parse_duration, parse_size

MIB = 1024 * 1024
FILE_NAME = "compact.toml"
ENVIRONMENT_PREFIX = "COMPACT_"
CONFIG_VARIABLE = "COMPACT_CONFIG"
# Names the configuration file itself, or a place for a test to kill the program: no settings.
_NO_SETTINGS = (CONFIG_VARIABLE, FAILPOINT_VARIABLE)
EVERY_TARGET = "*"
_WILDCARDS = "*?[]"


class Size(int):
    """Marks a key that takes a size; the value is in bytes."""


class Duration(float):
    """Marks a key that takes a duration; the value is in seconds."""


class SortTerms(tuple[SortKey, ...]):
    """Marks a key that takes terms of an order: one text, or a list of texts."""


Count = Annotated[int, msgspec.Meta(ge=1)]
Ratio = Annotated[float, msgspec.Meta(ge=0)]
# What `msgspec` says of other values is for programmers.
_WANTED = {Count: "not a whole number from 1 up", Ratio: "not a number from 0 up"}
# Less than this no task can be granted: the libraries that read and write take as much.
MEMORY_MIN_BYTES = 64 * MIB
Flags = Mapping[str, tuple[str, object]]
"""Flags that were given: dotted key (`policy.min_age`) -> (spelling of the flag, value)."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where jobs are recorded.

    Attributes:
        url: SQLAlchemy URL of the job store.
        history_seconds: how long jobs are kept after their end; 0 keeps them all.
    """

    url: str
    history_seconds: float = 90 * 86_400.0


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """Where tasks run and what they may take.

    Attributes:
        url: `local`, `inline`, `ray` for a cluster started for the run, or the address of one.
        workers: worker processes at most; None lets the runtime choose.
        memory_bytes: memory of all workers together; None lets the runtime choose.
        profiles: file in which the profiles of tasks are kept, from which grants are learned.
    """

    profiles: Path
    url: str = "local"
    workers: int | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """What one source says of the targets that fit a pattern."""

    pattern: str
    values: Mapping[str, Any]

    @property
    def narrowness(self) -> tuple[int, int]:
        """Grows with the text that a pattern fixes, then with the fewer wildcards it has."""
        wildcards = sum(self.pattern.count(sign) for sign in _WILDCARDS)
        return len(self.pattern) - wildcards, -wildcards


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set.

    Attributes:
        store: where jobs are recorded.
        runtime: where tasks run.
        run: how a job runs.
        policy_rules: weakest first; a later one overrides an earlier one.
        files: the configuration files that were read, strongest first.
    """

    store: StoreSettings
    runtime: RuntimeSettings
    run: JobOptions
    policy_rules: tuple[PolicyRule, ...]
    files: tuple[Path, ...]

    def policy(self, target: str) -> Policy:
        """Return the policy in force for a target."""
        values: dict[str, Any] = {}
        for rule in self.policy_rules:
            if fnmatchcase(target, rule.pattern):
                values.update(rule.values)
        return replace(Policy(), **values)


@dataclass(frozen=True, slots=True)
class _Key:
    """A setting: the field it fills, what its value must be, and the word that means None.

    Attributes:
        least: the smallest value of a size, in bytes.
    """

    field: str
    kind: Any
    none_word: str | None = None
    least: int = 0


_SECTIONS: Mapping[str, Mapping[str, _Key]] = {
    "store": {"url": _Key("url", str), "history": _Key("history_seconds", Duration)},
    "runtime": {
        "url": _Key("url", str),
        "workers": _Key("workers", Count, "auto"),
        "memory": _Key("memory_bytes", Size, "auto", least=MEMORY_MIN_BYTES),
        "profiles": _Key("profiles", Path),
    },
    "run": {
        "verify": _Key("proof", Proof),
        "attempts_max": _Key("attempts_max", Count),
        "in_flight_max": _Key("in_flight_max", Count),
        "commit_groups_max": _Key("commit_groups_max", Count),
        "commit_size_max": _Key("commit_bytes_max", Size),
        "failures_max": _Key("failures_max", Count),
        "rounds_max": _Key("rounds_max", Count),
    },
    "policy": {
        "target_file_size": _Key("target_file_size_bytes", Size, "table"),
        "small_file_ratio": _Key("small_file_ratio", Ratio),
        "large_file_ratio": _Key("large_file_ratio", Ratio),
        "min_input_files": _Key("min_input_files", Count),
        "delete_ratio": _Key("delete_ratio", Ratio),
        "delete_files_min": _Key("delete_files_min", Count),
        "partitions": _Key("partitions", tuple[str, ...]),
        "files": _Key("files", tuple[str, ...]),
        "max_group_size": _Key("max_group_bytes", Size),
        "max_bytes": _Key("max_job_bytes", Size, "unlimited"),
        "min_age": _Key("min_age_seconds", Duration),
        "order": _Key("order", Order),
        "effort": _Key("effort", Effort),
        "splice_row_group_size_min": _Key("splice_row_group_bytes_min", Size),
        "splice_chunk_size_min": _Key("splice_chunk_bytes_min", Size),
        "splice_row_groups_max": _Key("splice_row_groups_max", Count),
        "splice_footer_size_max": _Key("splice_footer_bytes_max", Size),
        "strategy": _Key("strategy", Strategy),
        "sort_by": _Key("sort_by", SortTerms),
        "overlap_depth_max": _Key("overlap_depth_max", Count),
        "sort_memory": _Key("sort_memory_bytes", Size),
    },
}


@dataclass(frozen=True, slots=True)
class _Source:
    """One place that settings come from, read and checked.

    Attributes:
        sections: values by section and field.
        policies: values by pattern and field.
    """

    sections: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: {} for name in _SECTIONS if name != "policy"}
    )
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)

    def put(self, name: _Name, value: object) -> None:
        """Check one value and keep it."""
        key = name.key()
        target = self.sections.get(name.section)
        if target is None:
            target = self.policies.setdefault(name.pattern, {})
        target[key.field] = _converted(name, key, value)

    def rules(self) -> list[PolicyRule]:
        """Return the rules of this source, broadest first."""
        rules = [PolicyRule(pattern, values) for pattern, values in self.policies.items()]
        return sorted(rules, key=lambda rule: rule.narrowness)


@dataclass(frozen=True, slots=True)
class _Name:
    """A setting as its source spells it.

    Attributes:
        section: name of the section.
        option: name within the section.
        shown: how the source spells it, for messages.
        origin: the source, for messages; empty when `shown` says it.
        is_text: whether the source knows text only, as flags and the environment do.
        pattern: the targets it is for, in the section `policy`.
    """

    section: str
    option: str
    shown: str
    origin: str
    is_text: bool
    pattern: str = EVERY_TARGET

    def key(self) -> _Key:
        """Look the setting up.

        Raises:
            SettingsError: there is none of this name.
        """
        keys = _SECTIONS.get(self.section)
        if keys is None:
            raise self.refused("unknown section", hint=_similar(self.section, _SECTIONS))
        found = keys.get(self.option)
        if found is None:
            raise self.refused("unknown setting", hint=_similar(self.option, keys))
        return found

    def refused(self, what: str, *, hint: str, why: str = "") -> SettingsError:
        """Return the error that names this setting, its source and the reason."""
        place = f" in {self.origin}" if self.origin else ""
        reason = f": {why}" if why else ""
        return SettingsError(f"{what} `{self.shown}`{place}{reason}", hint=hint)


def load_settings(
    config: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Flags | None = None,
    directory: Path | None = None,
) -> Settings:
    """Read and merge every source.

    Args:
        config: the one configuration file to read; None looks for them.
        environment: variables to read, those of the process by default.
        flags: values of flags by dotted key; they override everything.
        directory: where the search for `compact.toml` begins, the working directory by default.

    Raises:
        SettingsError: a file cannot be read, a key is unknown, or a value is not what it must be.
    """
    variables = os.environ if environment is None else environment
    named = config or (Path(variables[CONFIG_VARIABLE]) if variables.get(CONFIG_VARIABLE) else None)
    files = [named] if named else list(_found_files(directory or Path.cwd(), variables))
    sources = [_read_flags(flags or {}), _read_environment(variables)]
    sources += [_read_file(path) for path in files]
    weakest_first = sources[::-1]
    merged = _Source()
    for source in weakest_first:
        for section, values in source.sections.items():
            merged.sections[section].update(values)
    state = Path(variables.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "compact"
    store = {"url": f"sqlite:///{state}/jobs.db", **merged.sections["store"]}
    runtime = {"profiles": state / "profiles.db", **merged.sections["runtime"]}
    return Settings(
        store=StoreSettings(**store),
        runtime=RuntimeSettings(**runtime),
        run=JobOptions(**merged.sections["run"]),
        policy_rules=tuple(rule for source in weakest_first for rule in source.rules()),
        files=tuple(files),
    )


def _found_files(directory: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield the configuration files that exist, strongest first."""
    nearest = (place / FILE_NAME for place in (directory, *directory.resolve().parents))
    project = next((path for path in nearest if path.is_file()), None)
    if project is not None:
        yield project
    user = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    for path in (user / "compact" / FILE_NAME, Path("/etc/compact") / FILE_NAME):
        if path.is_file() and path != project:
            yield path


def _read_flags(flags: Flags) -> _Source:
    source = _Source()
    for dotted, (shown, value) in flags.items():
        section, option = dotted.split(".")
        source.put(_Name(section, option, shown, origin="", is_text=True), value)
    return source


def _read_environment(environment: Mapping[str, str]) -> _Source:
    source = _Source()
    for variable, value in sorted(environment.items()):
        is_setting = variable.startswith(ENVIRONMENT_PREFIX) and variable not in _NO_SETTINGS
        if not is_setting or not value:
            continue
        path = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        section, _, option = path.partition("__")
        name = _Name(section, option, variable, origin="the environment", is_text=True)
        source.put(name, value.split(",") if name.key().kind == tuple[str, ...] else value)
    return source


def _read_file(path: Path) -> _Source:
    source = _Source()
    for section, content in _parsed(path).items():
        if not isinstance(content, dict):
            name = _Name(section, "", section, origin=f"`{path}`", is_text=False)
            raise name.refused("unknown setting", hint=_similar(section, _SECTIONS))
        for option, value in content.items():
            if section == "policy" and isinstance(value, dict):
                _put_rule(source, path, pattern=option, values=value)
                continue
            shown = f"{section}.{option}"
            source.put(_Name(section, option, shown, f"`{path}`", is_text=False), value)
    return source


def _put_rule(source: _Source, path: Path, *, pattern: str, values: Mapping[str, object]) -> None:
    for option, value in values.items():
        shown = f'policy."{pattern}".{option}'
        name = _Name("policy", option, shown, f"`{path}`", is_text=False, pattern=pattern)
        source.put(name, value)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"no configuration file `{path}`") from error
    except OSError as error:
        raise SettingsError(f"cannot read `{path}`: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"`{path}` is not TOML: {error}") from error


def _converted(name: _Name, key: _Key, value: object) -> Any:
    """Check a value; text stands for any type where the source knows text only."""
    if key.none_word is not None and value == key.none_word:
        return None
    try:
        converted = msgspec.convert(value, key.kind, strict=not name.is_text, dec_hook=_from_text)
    except ValueError as error:
        is_choice = isinstance(key.kind, EnumType)
        hint = _choices(key.kind, value) if is_choice else ""
        wanted = "not one of the choices" if is_choice else _WANTED.get(key.kind, "")
        why = f"`{value}` is {wanted}" if wanted else str(error)
        raise name.refused("bad value for", hint=hint, why=why) from error
    if key.least and converted < key.least:
        why = f"no task fits into `{value}`"
        hint = f"give at least {format_size(key.least)}"
        raise name.refused("bad value for", hint=hint, why=why)
    return converted


def _choices(kind: EnumType, value: object) -> str:
    return _similar(str(value), {str(choice): choice for choice in list[Any](kind)})


def _from_text(kind: type, value: object) -> Any:
    """Read the types that `msgspec` does not know: text with a unit or a number, and paths."""
    if kind is Path:
        return Path(str(value)).expanduser()
    if kind is SortTerms:
        texts = value if isinstance(value, list | tuple) else [value]
        return SortTerms(key for text in texts for key in parse_sort_keys(str(text)))
    if kind is Size:
        return Size(parse_size(str(value)))
    return Duration(parse_duration(str(value)))


def _similar(word: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(word, known, n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known here: {', '.join(f'`{name}`' for name in known)}"
