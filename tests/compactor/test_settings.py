"""Settings: precedence, patterns, and refusal of what is not understood."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from compactor.errors import SettingsError
from compactor.planner.policy import GIB, MIB, Order, Policy
from compactor.rewrite.task import Proof
from compactor.settings import _SECTIONS, Settings, load_settings


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config" / "compact").mkdir(parents=True)
    (tmp_path / "project" / "deep").mkdir(parents=True)
    return tmp_path


def load(home: Path, *, config: Path | None = None, flags=None, **variables: str) -> Settings:
    environment = {"XDG_CONFIG_HOME": f"{home}/config", "XDG_STATE_HOME": "/state", **variables}
    directory = home / "project" / "deep"
    return load_settings(config, environment=environment, flags=flags, directory=directory)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def user_file(home: Path, text: str) -> Path:
    return write(home / "config" / "compact" / "compact.toml", text)


def project_file(home: Path, text: str) -> Path:
    return write(home / "project" / "compact.toml", text)


def refusal(home: Path, text: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(home, config=write(home / "c.toml", text))
    return caught.value


def test_defaults_need_no_file(home: Path) -> None:
    settings = load(home)
    assert settings.policy("lake.sales.orders") == Policy()
    assert settings.store.url == "sqlite:////state/compact/jobs.db"
    assert settings.runtime.url == "local"
    assert settings.run.proof is Proof.COUNTS
    assert settings.files == ()


def test_each_source_overrides_the_weaker_ones(home: Path) -> None:
    user_file(home, "[policy]\nmin_input_files = 2\ndelete_ratio = 0.2\nmin_age = '2h'\n")
    assert load(home).policy("t").min_input_files == 2
    project_file(home, "[policy]\nmin_input_files = 3\ndelete_ratio = 0.3\n")
    assert load(home).policy("t").min_input_files == 3
    variables = {"COMPACT_POLICY__MIN_INPUT_FILES": "4"}
    assert load(home, **variables).policy("t").min_input_files == 4
    flags = {"policy.min_input_files": ("--min-input-files", "5")}
    policy = load(home, flags=flags, **variables).policy("t")
    assert (policy.min_input_files, policy.delete_ratio, policy.min_age_seconds) == (5, 0.3, 7200)


def test_a_named_file_stands_alone(home: Path) -> None:
    project_file(home, "[runtime]\nworkers = 7\n")
    named = write(home / "own.toml", "[runtime]\nurl = 'inline'\n")
    settings = load(home, config=named)
    assert (settings.runtime.url, settings.runtime.workers) == ("inline", None)
    assert load(home, COMPACT_CONFIG=str(named)).files == (named,)


def test_the_narrowest_pattern_wins_within_a_source(home: Path) -> None:
    project_file(
        home,
        '[policy."lake.sales.orders"]\nmin_input_files = 30\n'
        '[policy."lake.*"]\nmin_input_files = 10\norder = "oldest-first"\n'
        '[policy."lake.sales.*"]\nmin_input_files = 20\n'
        "[policy]\nmin_input_files = 9\nmax_bytes = '1GiB'\n",
    )
    settings = load(home)
    found = [
        settings.policy(name).min_input_files
        for name in ("other.t", "lake.web.t", "lake.sales.t", "lake.sales.orders")
    ]
    assert found == [9, 10, 20, 30]
    orders = settings.policy("lake.sales.orders")
    assert (orders.order, orders.max_job_bytes) == (Order.OLDEST_FIRST, GIB)


def test_values_carry_units_and_words(home: Path) -> None:
    project_file(
        home,
        "[policy]\ntarget_file_size = '256MiB'\nmin_age = '1h30m'\npartitions = ['day=2026-*']\n"
        "max_group_size = 1048576\n[runtime]\nmemory = '4GiB'\nworkers = 'auto'\n",
    )
    settings = load(home)
    policy = settings.policy("t")
    assert (policy.target_file_size_bytes, policy.min_age_seconds) == (256 * MIB, 5400)
    assert (policy.partitions, policy.max_group_bytes) == (("day=2026-*",), MIB)
    assert (settings.runtime.memory_bytes, settings.runtime.workers) == (4 * GIB, None)
    variables = {"COMPACT_POLICY__PARTITIONS": "a=1,b=2", "COMPACT_RUNTIME__WORKERS": "3"}
    settings = load(home, COMPACT_RUN__VERIFY="full", **variables)
    assert settings.policy("t").partitions == ("a=1", "b=2")
    assert (settings.runtime.workers, settings.run.proof) == (3, Proof.FULL)
    table = {"COMPACT_POLICY__TARGET_FILE_SIZE": "table"}
    assert load(home, **table).policy("t").target_file_size_bytes is None


def test_unknown_keys_are_refused_by_name(home: Path) -> None:
    error = refusal(home, "[policy]\nmin_input_file = 3\n")
    assert str(error) == f"unknown setting `policy.min_input_file` in `{home}/c.toml`"
    assert error.hint == "did you mean `min_input_files`?"
    error = refusal(home, '[policy."lake.*"]\ndelete_ration = 3\n')
    assert 'policy."lake.*".delete_ration' in str(error)
    error = refusal(home, "[runtimes]\nurl = 'local'\n")
    assert (str(error).split(" in ")[0], error.hint) == (
        "unknown section `runtimes.url`",
        "did you mean `runtime`?",
    )
    assert "`catalogs.lake`" in str(refusal(home, "[catalogs.lake]\nuri = 'x'\n"))
    assert "unknown setting `verify`" in str(refusal(home, "verify = 'full'\n"))


def test_unknown_variables_are_refused_by_name(home: Path) -> None:
    with pytest.raises(SettingsError, match="`COMPACT_POLICY__MIN_FILES` in the environment"):
        load(home, COMPACT_POLICY__MIN_FILES="3")
    with pytest.raises(SettingsError, match="unknown section `COMPACT_SERVANT`"):
        load(home, COMPACT_SERVANT="x")
    assert load(home, COMPACT_SERVANT="").runtime.url == "local"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[policy]\nmin_input_files = '9'", "policy.min_input_files", ""),
        ("[policy]\nmin_input_files = 0", "`0` is not a whole number from 1 up", ""),
        ("[policy]\nmin_input_files = true", "`True` is not a whole number", ""),
        ("[policy]\ndelete_ratio = -0.5", "`-0.5` is not a number from 0 up", ""),
        ("[runtime]\nmemory = '1KiB'", "no task fits into `1KiB`", "give at least 64.0 MiB"),
        ("[policy]\ntarget_file_size = '12 parsecs'", "`12 parsecs` is not a size", ""),
        ("[policy]\ntarget_file_size = true", "is not a size", ""),
        ("[policy]\nmin_age = 'soon'", "`soon` is not a duration", ""),
        ("[policy]\norder = 'bytes-dsc'", "bytes-dsc", "did you mean `bytes-desc`?"),
        ("[policy]\npartitions = 'day=1'", "Expected `array`", ""),
        ("[run]\nverify = 'all'", "run.verify", "known here: `counts`, `full`"),
        ("[run\n", "is not TOML", ""),
    ],
)
def test_bad_values_name_key_and_origin(home: Path, text: str, message: str, hint: str) -> None:
    error = refusal(home, text)
    assert message in str(error)
    assert f"{home}/c.toml" in str(error)
    assert error.hint == hint


def test_flags_are_named_as_they_were_typed(home: Path) -> None:
    flags = {"policy.partitions": ("--partition", ("a=1",)), "policy.min_age": ("--min-age", "x")}
    with pytest.raises(SettingsError, match="bad value for `--min-age`: `x` is not a duration"):
        load(home, flags=flags)


def test_a_missing_named_file_is_refused(home: Path) -> None:
    with pytest.raises(SettingsError, match=r"no configuration file `/none/compact\.toml`"):
        load(home, config=Path("/none/compact.toml"))


def test_the_documented_file_is_the_defaults(home: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    text = page.split("```toml\n")[1].split("```")[0]
    documented = load(home, config=write(home / "c.toml", text))
    defaults = load(home)
    assert documented.policy("other.t") == defaults.policy("other.t")
    assert documented.policy("lake.sales.t").min_age_seconds == 900
    assert documented.run == defaults.run
    assert documented.runtime.url == defaults.runtime.url
    assert documented.store.history_seconds == defaults.store.history_seconds
    sections = tomllib.loads(text)
    for section, keys in _SECTIONS.items():
        patterns = {name for name, value in sections[section].items() if isinstance(value, dict)}
        assert set(sections[section]) - patterns == set(keys)
