"""The part of the configuration that the service alone reads: frozen values, each checked.

The sections `[service]`, `[[tables]]`, `[budget]`, `[webhooks.<name>]`, `[notifications.<name>]`
and `[auth]` stand in the same files as all others. The last three are handed on as they are to
those who know what belongs in them, and who refuse what does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compactor.errors import SettingsError
from compactor.service.due import Schedule, Window, zone_of
from compactor.setting_keys import Count, Duration, Key, Name, Ratio, Sections, Size, similar
from compactor.setting_keys import converted_value as converted
from compactor.settings import (
    ENVIRONMENT_PREFIX,
    PolicyRule,
    Settings,
    load_settings,
    parsed_file,
    policy_rule,
)

WEBHOOKS, NOTIFICATIONS, AUTH = "webhooks", "notifications", "auth"
PRIORITY_DEFAULT, PRIORITY_LAST = 5, 9
_TEXT_SECTIONS = ("service", "budget")


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """How the service runs.

    Attributes:
        listen: address and port of HTTP; port 0 takes a free one.
        grpc_listen: address and port of the job API.
        tls_certificate: PEM file; needed, with its key, to listen on other addresses than loopback.
        tls_key: PEM file.
        logs: directory of the logs of jobs; None puts it beside the job store's default.
        jobs_max: jobs that this instance runs at once.
        jobs_per_namespace_max: jobs of one namespace that run at once; None for no limit.
        debounce_seconds: how long a table is left in peace after a trigger, for more to come.
        debounce_max_seconds: how long triggers that keep coming can put a job off.
        sweep_seconds: how often the heads of all tables are looked at.
        discover_seconds: how often patterns of tables are looked up in their catalogs.
        attempts_max: tries at a job before it is given up.
        retry_delay_seconds: what the delay before a second try is drawn from; it doubles.
        retry_delay_max_seconds: the most that it is drawn from.
        aging_seconds: what waiting is worth: so much of it makes up for one step of priority.
        job_seconds_max: how long a job may run before it is stopped; what it committed stays.
        job_memory_bytes: memory of a job's workers; None shares the machine among the jobs.
        drain_seconds: how long running jobs are waited for when the service ends.
        deliveries_kept_seconds: how long a replayed delivery is recognised.
        rate_max: requests per second from one source; 0 for no limit.
    """

    listen: str = "127.0.0.1:8460"
    grpc_listen: str = "127.0.0.1:8461"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    logs: Path | None = None
    jobs_max: int = 2
    jobs_per_namespace_max: int | None = None
    debounce_seconds: float = 30.0
    debounce_max_seconds: float = 300.0
    sweep_seconds: float = 300.0
    discover_seconds: float = 900.0
    attempts_max: int = 5
    retry_delay_seconds: float = 10.0
    retry_delay_max_seconds: float = 900.0
    aging_seconds: float = 600.0
    job_seconds_max: float = 6 * 3600.0
    job_memory_bytes: int | None = None
    drain_seconds: float = 60.0
    deliveries_kept_seconds: float = 7 * 86_400.0
    rate_max: float = 5000.0


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent from midnight to midnight.

    Attributes:
        bytes_per_day: bytes that jobs read and write; None for no limit.
        jobs_per_day: jobs begun; None for no limit.
        zone: whose midnight it is.
        price_per_vcpu_hour: what an hour of one CPU costs, for the pages; None shows no money.
        currency: of the price.
    """

    bytes_per_day: int | None = None
    jobs_per_day: int | None = None
    zone: str = "UTC"
    price_per_vcpu_hour: float | None = None
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class TableRule:
    """One `[[tables]]`: what is wanted of the tables that fit a pattern; None says nothing.

    Attributes:
        pattern: a target, or a glob of targets that is looked up in the catalog.
        origin: where it stands, for people.
        values: by the fields of `Care`.
    """

    pattern: str
    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Care:
    """How a table is looked after, besides the policy of its compaction.

    Attributes:
        is_enabled: whether jobs are begun.
        schedule: when a job is due.
        window: when jobs may begin; None for any time.
        priority: 0 comes first, `PRIORITY_LAST` last.
        debounce_seconds: as in `ServiceOptions`.
        debounce_max_seconds: as in `ServiceOptions`.
        health_below: a score of health under which a job is due; None for none.
        runtime: where the tasks of its jobs run; None takes `[runtime]`.
        job_seconds_max: as in `ServiceOptions`.
        job_memory_bytes: as in `ServiceOptions`.
        location: URI that its objects lie under, for events that tell of objects.
    """

    is_enabled: bool = True
    schedule: str | None = None
    window: str | None = None
    priority: int = PRIORITY_DEFAULT
    debounce_seconds: float | None = None
    debounce_max_seconds: float | None = None
    health_below: int | None = None
    runtime: str | None = None
    job_seconds_max: float | None = None
    job_memory_bytes: int | None = None
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A section that is handed on unread.

    Attributes:
        name: what stands behind the point, `lake` for `[webhooks.lake]`.
        values: as the file has them.
        origin: the file and the section, for messages.
    """

    name: str
    values: Mapping[str, Any]
    origin: str


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Everything that the service is told.

    Attributes:
        settings: what all commands read.
        service: how it runs.
        budget: what may be spent.
        table_rules: weakest first; a later one overrides an earlier one.
        policy_rules: the policies of files and of `[[tables]]`, weakest first.
        webhooks: sections by name.
        notifications: sections by name.
        auth: the section.
    """

    settings: Settings
    service: ServiceOptions
    budget: Budget
    table_rules: tuple[TableRule, ...]
    policy_rules: tuple[PolicyRule, ...]
    webhooks: Mapping[str, Section]
    notifications: Mapping[str, Section]
    auth: Section


_KEYS: Sections = {
    "service": {
        "listen": Key("listen", str),
        "grpc_listen": Key("grpc_listen", str),
        "tls_certificate": Key("tls_certificate", Path),
        "tls_key": Key("tls_key", Path),
        "logs": Key("logs", Path),
        "jobs_max": Key("jobs_max", Count),
        "jobs_per_namespace_max": Key("jobs_per_namespace_max", Count, "unlimited"),
        "debounce": Key("debounce_seconds", Duration),
        "debounce_max": Key("debounce_max_seconds", Duration),
        "sweep_every": Key("sweep_seconds", Duration),
        "discover_every": Key("discover_seconds", Duration),
        "attempts_max": Key("attempts_max", Count),
        "retry_delay": Key("retry_delay_seconds", Duration),
        "retry_delay_max": Key("retry_delay_max_seconds", Duration),
        "aging": Key("aging_seconds", Duration),
        "job_time_max": Key("job_seconds_max", Duration),
        "job_memory": Key("job_memory_bytes", Size, "auto"),
        "drain": Key("drain_seconds", Duration),
        "deliveries_kept": Key("deliveries_kept_seconds", Duration),
        "rate_max": Key("rate_max", Ratio),
    },
    "budget": {
        "bytes_per_day": Key("bytes_per_day", Size, "unlimited"),
        "jobs_per_day": Key("jobs_per_day", Count, "unlimited"),
        "zone": Key("zone", str),
        "price_per_vcpu_hour": Key("price_per_vcpu_hour", Ratio),
        "currency": Key("currency", str),
    },
    "tables": {
        "enabled": Key("is_enabled", bool),
        "schedule": Key("schedule", str),
        "window": Key("window", str),
        "priority": Key("priority", int),
        "debounce": Key("debounce_seconds", Duration),
        "debounce_max": Key("debounce_max_seconds", Duration),
        "health_below": Key("health_below", Count),
        "runtime": Key("runtime", str),
        "job_time_max": Key("job_seconds_max", Duration),
        "job_memory": Key("job_memory_bytes", Size, "auto"),
        "location": Key("location", str),
    },
}


@dataclass(slots=True)
class _Reader:
    """Collects what the files say, weakest first."""

    plain: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: {} for name in _TEXT_SECTIONS}
    )
    named: dict[str, dict[str, Section]] = field(
        default_factory=lambda: {WEBHOOKS: {}, NOTIFICATIONS: {}}
    )
    auth: Section = field(default_factory=lambda: Section(AUTH, {}, "[auth]"))
    table_rules: list[TableRule] = field(default_factory=list)
    policies: list[tuple[str, object, str]] = field(default_factory=list)

    def read(self, path: Path) -> None:
        content = parsed_file(path)
        origin = f"`{path}`"
        for section in _TEXT_SECTIONS:
            for option, value in _section(content, section, origin).items():
                self.put(Name(section, option, f"{section}.{option}", origin, False), value)
        for kind, sections in self.named.items():
            for name, values in _section(content, kind, origin).items():
                shown = f"{origin}, section [{kind}.{name}]"
                sections[name] = Section(name, _mapping(values, f"{kind}.{name}", origin), shown)
        if AUTH in content:
            self.auth = Section(AUTH, _section(content, AUTH, origin), f"{origin}, section [auth]")
        self._read_tables(content.get("tables", []), origin)

    def put(self, name: Name, value: object) -> None:
        key = name.key(_KEYS)
        self.plain[name.section][key.field] = converted(name, key, value)

    def _read_tables(self, entries: object, origin: str) -> None:
        if not isinstance(entries, list):
            raise SettingsError(f"`tables` in {origin} is not a list", hint="write `[[tables]]`")
        for entry in sorted(entries, key=_narrowness):
            rest = dict(_mapping(entry, "tables", origin))
            pattern = rest.pop("target", None)
            if not isinstance(pattern, str) or not pattern:
                raise SettingsError(f"a table in {origin} has no `target`")
            shown = f"{origin}, [[tables]] `{pattern}`"
            policy = rest.pop("policy", None)
            if policy is not None:
                self.policies.append((pattern, policy, shown))
            self.table_rules.append(TableRule(pattern, shown, care_values(rest, origin=shown)))


def load_service_config(
    config: Path | None = None, *, environment: Mapping[str, str] | None = None
) -> ServiceConfig:
    """Read the configuration of the service, and with it that of all commands.

    Args:
        config: the one file to read; None looks for those that other commands read.
        environment: variables to read, those of the process by default.

    Raises:
        SettingsError: a file cannot be read, a key is unknown, or a value is not what it must be.
    """
    settings = load_settings(config, environment=environment)
    reader = _Reader()
    for path in reversed(settings.files):
        reader.read(path)
    _read_environment(reader, os.environ if environment is None else environment)
    budget = Budget(**reader.plain["budget"])
    zone_of(budget.zone)
    inline = tuple(_policy(settings, *entry) for entry in reader.policies)
    result = ServiceConfig(
        settings=settings,
        service=ServiceOptions(**reader.plain["service"]),
        budget=budget,
        table_rules=tuple(reader.table_rules),
        policy_rules=(*settings.policy_rules, *inline),
        webhooks=reader.named[WEBHOOKS],
        notifications=reader.named[NOTIFICATIONS],
        auth=reader.auth,
    )
    _refuse_senseless(result)
    return result


def care_values(values: Mapping[str, object], *, origin: str) -> dict[str, Any]:
    """Check what is said of the care of a table; return it by the fields of `Care`.

    Raises:
        SettingsError: a setting is unknown, or a value is not what it must be.
    """
    found: dict[str, Any] = {}
    for option, value in values.items():
        name = Name("tables", option, f"tables.{option}", origin, is_text=False)
        key = name.key(_KEYS)
        found[key.field] = converted(name, key, value)
    if "schedule" in found:
        Schedule.parse(found["schedule"])
    if "window" in found:
        Window.parse(found["window"])
    if not 0 <= found.get("priority", PRIORITY_DEFAULT) <= PRIORITY_LAST:
        raise SettingsError(f"the priority in {origin} is not between 0 and {PRIORITY_LAST}")
    return found


def care_of(rules: Iterable[TableRule]) -> tuple[Care, dict[str, str]]:
    """Return what rules, weakest first, add up to, and the origin of each value they give."""
    care, origins = Care(), dict[str, str]()
    for rule in rules:
        care = replace(care, **rule.values)
        origins.update(dict.fromkeys(rule.values, rule.origin))
    return care, origins


def _read_environment(reader: _Reader, environment: Mapping[str, str]) -> None:
    for variable, value in sorted(environment.items()):
        path = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        section, _, option = path.partition("__")
        if variable.startswith(ENVIRONMENT_PREFIX) and section in _TEXT_SECTIONS and value:
            reader.put(Name(section, option, variable, "the environment", is_text=True), value)


def _section(content: Mapping[str, Any], name: str, origin: str) -> Mapping[str, Any]:
    return _mapping(content.get(name, {}), name, origin)


def _mapping(value: object, shown: str, origin: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"`{shown}` in {origin} is not a section", hint=f"write `[{shown}]`")
    return value


def _narrowness(entry: object) -> tuple[int, int]:
    pattern = entry.get("target", "") if isinstance(entry, dict) else ""
    return PolicyRule(str(pattern), {}).narrowness


def _policy(settings: Settings, pattern: str, policy: object, origin: str) -> PolicyRule:
    """Return the rule of a table that gives its policy itself, or names one of `[policy."name"]`.

    Raises:
        SettingsError: a value is wrong, or there is no policy of the name.
    """
    if isinstance(policy, Mapping):
        return policy_rule(pattern, policy, origin=origin)
    named = {rule.pattern: rule for rule in settings.policy_rules}
    if policy not in named:
        hint = similar(str(policy), named) if named else f'write a section [policy."{policy}"]'
        raise SettingsError(f"no policy is named `{policy}` ({origin})", hint=hint)
    return PolicyRule(pattern, named[str(policy)].values, f"policy `{policy}`, {origin}")


def _refuse_senseless(config: ServiceConfig) -> None:
    options = config.service
    if options.debounce_max_seconds < options.debounce_seconds:
        raise SettingsError("service.debounce_max is less than service.debounce")
    if (options.tls_certificate is None) != (options.tls_key is None):
        raise SettingsError("service.tls_certificate and service.tls_key go together")
    for name in ("sweep_seconds", "discover_seconds", "aging_seconds", "job_seconds_max"):
        if getattr(options, name) <= 0:
            raise SettingsError(f"service: {name} must be above 0")
