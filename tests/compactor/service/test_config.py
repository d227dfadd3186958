"""The sections of the service: values checked, unknown keys refused by name, origins kept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compactor.errors import SettingsError
from compactor.jobs.store import JobStore
from compactor.service.config import care_of, load_service_config
from compactor.service.registry import Registry, check_rules
from tests.compactor.service.conftest import Configure

SAMPLE = Path(__file__).resolve().parents[3] / "docs" / "compact.toml.example"


def test_every_section_is_read(configure: Configure) -> None:
    config = configure(
        """
        [service]
        listen = "127.0.0.1:0"
        jobs_max = 3
        debounce = "10s"
        [budget]
        bytes_per_day = "1TiB"
        zone = "Europe/Berlin"
        [policy]
        min_input_files = 7
        [policy."hot"]
        min_input_files = 2
        [webhooks.lake]
        kind = "standard"
        [[tables]]
        target = "lake.sales.orders"
        schedule = "every 1h"
        policy = "hot"
        [[tables]]
        target = "lake.*"
        window = "22:00-06:00"
        policy = { min_input_files = 3 }
        """
    )
    assert (config.service.jobs_max, config.service.debounce_seconds) == (3, 10.0)
    assert config.budget.bytes_per_day == 1 << 40
    assert config.webhooks["lake"].values == {"kind": "standard"}
    assert [rule.pattern for rule in config.table_rules] == ["lake.*", "lake.sales.orders"]
    care, origins = care_of(config.table_rules)
    assert (care.schedule, care.window) == ("every 1h", "22:00-06:00")
    assert "lake.sales.orders" in origins["schedule"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[service]\nlistn = 'x'", "unknown setting `service.listn`"),
        ("[service]\njobs_max = 0", "service.jobs_max"),
        ("[service]\nsweep_every = '0s'", "must be above 0"),
        ("[service]\ndebounce = '10m'", "debounce_max"),
        ("[service]\ntls_key = 'k.pem'", "go together"),
        ("[budget]\nzone = 'Mars'", "no time zone"),
        ("[[tables]]\nschedule = 'every 1h'", "no `target`"),
        ("[[tables]]\ntarget = 'lake.a.b'\nschedule = 'often'", "not a schedule"),
        ("[[tables]]\ntarget = 'lake.a.b'\nwindow = 'nights'", "not a window"),
        ("[[tables]]\ntarget = 'lake.a.b'\npriority = 10", "priority"),
        ("[[tables]]\ntarget = 'lake.a.b'\nfoo = 1", "unknown setting `tables.foo`"),
        ("[[tables]]\ntarget = 'lake.a.b'\npolicy = 'none'", "no policy is named `none`"),
        ("[[tables]]\ntarget = 'lake.a.b'\npolicy = { x = 1 }", "unknown setting `policy.x`"),
        ("[tables]\ntarget = 'lake.a.b'", "is not a list"),
        ("[webhooks]\nlake = 1", "is not a section"),
        ("[servce]\nlisten = 'x'", "unknown section"),
    ],
)
def test_what_is_wrong_is_refused_by_name(configure: Configure, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        configure(text)


def test_variables_of_the_environment_override_files(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[service]\njobs_max = 3\n")
    variables = {"HOME": str(tmp_path), "COMPACT_SERVICE__JOBS_MAX": "5"}
    assert load_service_config(path, environment=variables).service.jobs_max == 5


def test_a_policy_that_makes_no_sense_is_refused_before_anything_runs(
    store: JobStore, configure: Configure
) -> None:
    config = configure(
        '[policy]\nsort_by = "a"\n[[tables]]\ntarget = "lake.a.b"\nschedule = "every 1h"\n'
    )
    with pytest.raises(SettingsError, match="sort_by names a"):
        check_rules(Registry(store, config), config)


def test_each_value_in_force_has_an_origin(store: JobStore, configure: Configure) -> None:
    config = configure(
        """
        [policy]
        min_input_files = 7
        [policy."lake.sales.*"]
        min_age = "5m"
        [[tables]]
        target = "lake.sales.orders"
        policy = { delete_ratio = 0.2 }
        schedule = "every 1h"
        """
    )
    registry = Registry(store, config)
    registry.set_policy("lake.*", policy={"min_input_files": 9}, care={"priority": 1}, actor="ada")
    told = {one.name: one for one in registry.rules().explain("lake.sales.orders")}
    assert (told["min_input_files"].value, told["min_input_files"].origin) == (
        "9",
        "policy set by ada",
    )
    assert "lake.sales.*" in told["min_age_seconds"].origin
    assert "[[tables]] `lake.sales.orders`" in told["delete_ratio"].origin
    assert told["effort"].origin == "default"
    assert (told["priority"].value, told["schedule"].value) == ("1", "every 1h")
    with pytest.raises(SettingsError):
        registry.set_policy("lake.*", policy={"min_input_files": 1}, care={}, actor="ada")
    assert registry.unset_policy("lake.*", actor="ada")
    told = {one.name: one for one in registry.rules().explain("lake.sales.orders")}
    assert told["min_input_files"].value == "7"


def test_the_sample_is_understood(tmp_path: Path) -> None:
    config = load_service_config(SAMPLE, environment={"HOME": str(tmp_path)})
    assert "lake.sales.orders" in [rule.pattern for rule in config.table_rules]
    assert config.webhooks["lake"].values["kind"] == "standard"
    # What is commented out as the default is the default.
    plain = SAMPLE.read_text().replace("# jobs_per_namespace_max = 1", "")
    spoken = re.sub(r"^# (?=[a-z_]+ = (\"[^/]|\d))", "", plain, flags=re.MULTILINE)
    path = tmp_path / "spoken.toml"
    path.write_text(spoken.replace('url = "postgresql://compact@db.example.com/compact"', ""))
    all_said = load_service_config(path, environment={"HOME": str(tmp_path)})
    assert all_said.service == config.service
