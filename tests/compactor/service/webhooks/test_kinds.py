"""Sections of the configuration made into receivers, or refused by name."""

import pytest

from compactor.errors import SettingsError
from compactor.service.webhooks.dbt import DbtReceiver
from compactor.service.webhooks.kinds import is_polled, make_queue, make_receiver
from compactor.service.webhooks.standard import StandardReceiver

GOOD = "whsec_" + "c" * 43 + "="
TOKEN = "0123456789abcdef"


def make(name, section):
    return make_receiver(name, section, fetch=lambda url: url.encode())


def test_the_kind_is_the_name_unless_it_is_said():
    assert isinstance(make("standard", {"secrets": [GOOD]}), StandardReceiver)
    receiver = make("mine", {"kind": "standard", "secrets": [GOOD]})
    assert (type(receiver), receiver.source) == (StandardReceiver, "mine")


def test_secrets_come_from_files_and_the_environment_as_well(tmp_path, monkeypatch):
    other = GOOD.replace("cc", "dd")
    (tmp_path / "secrets").write_text(f"{other}\n")
    monkeypatch.setenv("HOOK", GOOD)
    receiver = make("standard", {"secrets_env": "HOOK", "secrets_file": str(tmp_path / "secrets")})
    assert len(set(receiver.secrets)) == 2


@pytest.mark.parametrize(
    ("name", "section", "what"),
    [
        ("unknown", {}, "unknown kind"),
        ("standard", {}, "no secret"),
        ("standard", {"secrets": ["weak"]}, "whsec_"),
        ("standard", {"secrets": [GOOD], "speling": 1}, "speling"),
        ("standard", {"secrets": GOOD}, "array"),
        ("standard", {"secrets_env": "NO_SUCH_VARIABLE"}, "no secret"),
        ("standard", {"secrets_file": "/no/such/file"}, "cannot be read"),
        ("s3", {"secrets": ["short"]}, "fewer than"),
        ("hudi", {"secrets": ["hudi_write_commit_http_callback"]}, "Hudi sends if none"),
        ("iceberg", {"secrets": [TOKEN]}, "catalog"),
        ("sns", {}, "topics"),
        ("sns", {"topics": []}, "length"),
        ("dbt", {"secrets": [TOKEN]}, "jobs"),
    ],
)
def test_what_is_refused(name, section, what):
    with pytest.raises(SettingsError, match=what):
        make(name, section)


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("cloudevents", {"secrets": [TOKEN]}),
        ("eventbridge", {"secrets": [TOKEN], "catalog": "lake"}),
        ("s3", {"secrets": [TOKEN]}),
        ("sns", {"topics": ["arn:aws:sns:eu-west-1:1:t"]}),
        ("iceberg", {"secrets": [TOKEN], "catalog": "lake"}),
        ("hudi", {"secrets": [TOKEN]}),
    ],
)
def test_every_kind_can_be_made(name, section):
    assert make(name, section).source == name


def test_tables_of_jobs_of_dbt():
    receiver = make("dbt", {"secrets": [TOKEN], "jobs": {"1": ["lake.a.b"]}})
    assert isinstance(receiver, DbtReceiver)
    assert receiver.tables == {"1": ("lake.a.b",)}


def test_a_queue_is_polled():
    section = {"kind": "sqs", "url": "https://queue", "region": "eu-west-1"}
    assert is_polled("lake", section)
    assert not is_polled("standard", {})
    assert make_queue("lake", section).region == "eu-west-1"
    with pytest.raises(SettingsError, match="region"):
        make_queue("lake", {"kind": "sqs", "url": "https://queue"})
