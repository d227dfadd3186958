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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from compactor.errors import SettingsError
from compactor.jobs.failpoints import VARIABLE as FAILPOINT_VARIABLE
from compactor.jobs.options import JobOptions
from compactor.planner.policy import Order, Policy
from compactor.proof import Proof
from compactor.setting_keys import (
    Count,
    Duration,
    Key,
    Name,
    Ratio,
    Sections,
    Size,
    SortTerms,
    Whole,
    converted_value,
    similar,
)
from compactor.sort_keys import Strategy
from compactor.splicing import Effort

MIB = 1024 * 1024
FILE_NAME = "compact.toml"
ENVIRONMENT_PREFIX = "COMPACT_"
CONFIG_VARIABLE = "COMPACT_CONFIG"
# Names the configuration file itself, or a place for a test to kill the program: no settings.
_SERVICE_VARIABLES = ("COMPACT_SERVER", "COMPACT_TOKEN", "COMPACT_SERVER_CA")
_NO_SETTINGS = (CONFIG_VARIABLE, FAILPOINT_VARIABLE, *_SERVICE_VARIABLES)
# Read by the service alone, from the same files: `compactor.service.config`.
SERVICE_SECTIONS = ("service", "webhooks", "tables", "notifications", "budget", "auth")
_WILDCARDS = "*?[]"


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
    """What one source says of the targets that fit a pattern.

    Attributes:
        pattern: the targets.
        values: by the fields of `Policy`.
        origin: the source and its section, for people.
    """

    pattern: str
    values: Mapping[str, Any]
    origin: str = ""

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
        state: the directory for what a program keeps from run to run.
    """

    store: StoreSettings
    runtime: RuntimeSettings
    run: JobOptions
    policy_rules: tuple[PolicyRule, ...]
    files: tuple[Path, ...]
    state: Path

    @property
    def kept(self) -> Path:
        """The directory of what was read of manifests."""
        return self.state / "manifests"

    def policy(self, target: str) -> Policy:
        """Return the policy in force for a target."""
        return combined_policy(self.policy_rules, target)


_SECTIONS: Sections = {
    "store": {"url": Key("url", str), "history": Key("history_seconds", Duration)},
    "runtime": {
        "url": Key("url", str),
        "workers": Key("workers", Count, "auto"),
        "memory": Key("memory_bytes", Size, "auto", least=MEMORY_MIN_BYTES),
        "profiles": Key("profiles", Path),
    },
    "run": {
        "verify": Key("proof", Proof),
        "attempts_max": Key("attempts_max", Count),
        "in_flight_max": Key("in_flight_max", Count),
        "commit_groups_max": Key("commit_groups_max", Count),
        "commit_size_max": Key("commit_bytes_max", Size),
        "failures_max": Key("failures_max", Count),
        "rounds_max": Key("rounds_max", Count),
        "commits_max": Key("commits_max", Count, "unlimited"),
        "commit_failures_max": Key("commit_failures_max", Whole),
        "merge_attempts_max": Key("merge_attempts_max", Count),
    },
    "policy": {
        "target_file_size": Key("target_file_size_bytes", Size, "table"),
        "small_file_ratio": Key("small_file_ratio", Ratio),
        "large_file_ratio": Key("large_file_ratio", Ratio),
        "min_input_files": Key("min_input_files", Count),
        "delete_ratio": Key("delete_ratio", Ratio),
        "delete_files_min": Key("delete_files_min", Count),
        "partitions": Key("partitions", tuple[str, ...]),
        "files": Key("files", tuple[str, ...]),
        "max_group_size": Key("max_group_bytes", Size),
        "max_bytes": Key("max_job_bytes", Size, "unlimited"),
        "min_age": Key("min_age_seconds", Duration),
        "order": Key("order", Order),
        "effort": Key("effort", Effort),
        "splice_row_group_size_min": Key("splice_row_group_bytes_min", Size),
        "splice_chunk_size_min": Key("splice_chunk_bytes_min", Size),
        "splice_row_groups_max": Key("splice_row_groups_max", Count),
        "splice_footer_size_max": Key("splice_footer_bytes_max", Size),
        "strategy": Key("strategy", Strategy),
        "sort_by": Key("sort_by", SortTerms),
        "overlap_depth_max": Key("overlap_depth_max", Count),
        "sort_memory": Key("sort_memory_bytes", Size),
        "convert_delete_files_min": Key("convert_delete_files_min", Count),
        "rewrite_all": Key("rewrites_all", bool),
        "output_spec": Key("output_spec", str, "own"),
    },
}


@dataclass(frozen=True, slots=True)
class _Source:
    """One place that settings come from, read and checked.

    Attributes:
        origin: the source, for people.
        sections: values by section and field.
        policies: values by pattern and field.
    """

    origin: str
    sections: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: {} for name in _SECTIONS if name != "policy"}
    )
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)

    def put(self, name: Name, value: object) -> None:
        """Check one value and keep it."""
        key = name.key(_SECTIONS)
        target = self.sections.get(name.section)
        if target is None:
            target = self.policies.setdefault(name.pattern, {})
        target[key.field] = converted_value(name, key, value)

    def rules(self) -> list[PolicyRule]:
        """Return the rules of this source, broadest first."""
        rules = [
            PolicyRule(pattern, values, f"{self.origin} for `{pattern}`")
            for pattern, values in self.policies.items()
        ]
        return sorted(rules, key=lambda rule: rule.narrowness)


def combined_policy(rules: Iterable[PolicyRule], target: str) -> Policy:
    """Return the policy that rules, weakest first, add up to for a target.

    Raises:
        SettingsError: together they make no sense.
    """
    values: dict[str, Any] = {}
    for rule in rules:
        if fnmatchcase(target, rule.pattern):
            values.update(rule.values)
    return replace(Policy(), **values)


def policy_rule(pattern: str, values: Mapping[str, object], *, origin: str) -> PolicyRule:
    """Return a rule that does not stand in a section `[policy]`, its values checked.

    Args:
        pattern: the targets.
        values: as a file has them, by the names of the settings.
        origin: the source, for people.

    Raises:
        SettingsError: a setting is unknown, or a value is not what it must be.
    """
    source = _Source(origin)
    for option, value in values.items():
        source.put(Name("policy", option, f"policy.{option}", origin, False, pattern), value)
    return PolicyRule(pattern, source.policies.get(pattern, {}), origin)


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
    merged = _Source("")
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
        state=state,
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
    source = _Source("flags")
    for dotted, (shown, value) in flags.items():
        section, option = dotted.split(".")
        source.put(Name(section, option, shown, origin="", is_text=True), value)
    return source


def _read_environment(environment: Mapping[str, str]) -> _Source:
    source = _Source("the environment")
    for variable, value in sorted(environment.items()):
        is_setting = variable.startswith(ENVIRONMENT_PREFIX) and variable not in _NO_SETTINGS
        if not is_setting or not value:
            continue
        path = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        section, _, option = path.partition("__")
        if section in SERVICE_SECTIONS:
            continue
        name = Name(section, option, variable, origin="the environment", is_text=True)
        source.put(name, value.split(",") if name.key(_SECTIONS).kind == tuple[str, ...] else value)
    return source


def _read_file(path: Path) -> _Source:
    source = _Source(f"`{path}`")
    for section, content in parsed_file(path).items():
        if section in SERVICE_SECTIONS:
            continue
        if not isinstance(content, dict):
            name = Name(section, "", section, origin=f"`{path}`", is_text=False)
            raise name.refused("unknown setting", hint=similar(section, _SECTIONS))
        for option, value in content.items():
            if section == "policy" and isinstance(value, dict):
                _put_rule(source, path, pattern=option, values=value)
                continue
            shown = f"{section}.{option}"
            source.put(Name(section, option, shown, f"`{path}`", is_text=False), value)
    return source


def _put_rule(source: _Source, path: Path, *, pattern: str, values: Mapping[str, object]) -> None:
    for option, value in values.items():
        shown = f'policy."{pattern}".{option}'
        name = Name("policy", option, shown, f"`{path}`", is_text=False, pattern=pattern)
        source.put(name, value)


def parsed_file(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        SettingsError: it is not there, cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"no configuration file `{path}`") from error
    except OSError as error:
        raise SettingsError(f"cannot read `{path}`: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"`{path}` is not TOML: {error}") from error
