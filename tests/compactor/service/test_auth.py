"""Tokens, scopes and tables."""

import hashlib
import tomllib

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from compactor.cli.serve import command
from compactor.errors import SettingsError
from compactor.service.auth import (
    LOCAL,
    Authenticator,
    ForbiddenError,
    Principal,
    Scope,
    UnauthenticatedError,
    bearer,
    new_token,
)

NOW_MS = 1_780_000_000_000


def digest(token):
    return hashlib.sha256(token.encode()).hexdigest()


def section(**changes):
    return {"tokens": [{"name": "ci", "sha256": digest("secret"), "scope": "operate", **changes}]}


def test_a_new_token_is_accepted_by_its_digest_alone():
    token, its_digest = new_token()
    authenticator = Authenticator.of(section(sha256=its_digest))
    principal = authenticator.authenticate(token, now_ms=NOW_MS)
    assert (principal.name, principal.scope) == ("ci", Scope.OPERATE)
    assert token not in repr(authenticator)
    assert new_token()[0] != token


@given(st.text())
def test_nothing_else_is(token):
    with pytest.raises(UnauthenticatedError):
        Authenticator.of(section(sha256=digest("none of these\0"))).authenticate(
            token, now_ms=NOW_MS
        )


def test_without_tokens_whoever_is_there_is_local():
    authenticator = Authenticator.of({})
    assert authenticator.is_open
    assert authenticator.authenticate("", now_ms=NOW_MS) is LOCAL


@pytest.mark.parametrize(
    ("expires", "is_known"),
    [("2020-01-01", False), ("2099-01-01", True), ("2099-01-01T00:00:00Z", True)],
)
def test_tokens_end(expires, is_known):
    values = tomllib.loads(f"expires = {expires}")
    authenticator = Authenticator.of(section(**values))
    if is_known:
        assert authenticator.authenticate("secret", now_ms=NOW_MS)
    else:
        with pytest.raises(UnauthenticatedError, match="expired"):
            authenticator.authenticate("secret", now_ms=NOW_MS)


@pytest.mark.parametrize(
    "values",
    [
        {"speling": 1},
        {"tokens": [{"name": "a"}]},
        section(scope="root"),
        section(sha256="secret"),
        section(sha256=digest("x").upper()),
        section(name=""),
        section(expires="2027-01-01"),
        {"tokens": section()["tokens"] * 2},
    ],
)
def test_what_is_refused(values):
    with pytest.raises(SettingsError):
        Authenticator.of(values)


def test_scopes_include_those_before_them():
    operator = Principal("o", Scope.OPERATE)
    operator.check(Scope.READ)
    operator.check(Scope.OPERATE, "lake.a.b")
    with pytest.raises(ForbiddenError, match="needs admin"):
        operator.check(Scope.ADMIN)


def test_rights_end_at_the_tables_of_a_token():
    one = Principal("o", Scope.ADMIN, ("lake.sales.*",))
    one.check(Scope.ADMIN, "lake.sales.orders")
    for target in ("lake.web.clicks", None):
        with pytest.raises(ForbiddenError):
            one.check(Scope.READ, target)


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", ""), ("abc", ""), ("", "")],
)
def test_the_header(header, token):
    assert bearer(header) == token


@pytest.mark.parametrize(
    ("tables", "pattern", "may"),
    [
        (("*",), "lake.*", True),
        (("lake.sales.*",), "lake.sales.*", True),
        (("lake.sales.*",), "lake.sales.o*", True),
        (("lake.sales.*",), "lake.sales.orders", True),
        (("lake.*.orders",), "lake.*.orders", True),
        (("lake.sales.*",), "lake.*", False),
        (("lake.sales.?",), "lake.sales.*", False),
        (("lake.sales.[!x]*",), "lake.sales.*", False),
        (("lake.sales.*",), "lake.hr.pay", False),
    ],
)
def test_a_pattern_is_within_the_rights_of_a_token(tables, pattern, may):
    admin = Principal("a", Scope.ADMIN, tables)
    if may:
        admin.check_pattern(Scope.ADMIN, pattern)
    else:
        with pytest.raises(ForbiddenError):
            admin.check_pattern(Scope.ADMIN, pattern)


def test_the_command_makes_tokens_that_are_taken():
    made = CliRunner().invoke(command, ["--new-token", 'o"ps'], standalone_mode=False)
    assert made.exception is None
    token = made.output.splitlines()[1]
    entry = tomllib.loads(made.output.replace(token, ""))
    principal = Authenticator.of(entry["auth"]).authenticate(token, now_ms=NOW_MS)
    assert (principal.name, principal.scope) == ('o"ps', Scope.READ)
