"""The pages as HTTP answers: what they show, who may see them, and what forms need."""

import hashlib
import re
from contextlib import contextmanager
from html import unescape
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from compactor.jobs.store import AttemptRecord
from compactor.service.auth import Authenticator
from compactor.service.config import load_service_config
from compactor.service.dashboard import figures
from compactor.service.dashboard import pages as page_module
from compactor.service.dashboard.pages import make_router
from compactor.service.executor import Executor
from compactor.service.parts import Parts
from compactor.service.registry import Registry
from compactor.service.store import open_service_store
from tests.compactor.service.rpc.serving import make_table

HOSTILE = 'lake.ns."><script>alert(1)</script>'


class Site:
    """The pages over a store of their own."""

    def __init__(self, parts, client):
        self.parts = parts
        self.client = client

    def get(self, path, status=200):
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text
        return unescape(answer.text)

    def form_key(self, path="/tables"):
        return re.search(r'name="form_key" value="(\w+)"', self.get(path)).group(1)

    def post(self, path, **form):
        return self.client.post(path, data=form, follow_redirects=False)


@contextmanager
def site(directory, targets, auth=None):
    file = directory / "compact.toml"
    tables = "".join(f"[[tables]]\ntarget = '{one}'\n" for one in targets)
    file.write_text(
        f'[store]\nurl = "sqlite:///{directory}/jobs.db"\n'
        f'[runtime]\nurl = "inline"\nprofiles = "{directory}/profiles.db"\n'
        '[budget]\nprice_per_vcpu_hour = 40\ncurrency = "EUR"\n'
        f'[service]\nlogs = "{directory}/logs"\n'
        f'[webhooks.lake]\nkind = "s3"\nsecrets = ["0123456789abcdef"]\n{tables}'
    )
    config = load_service_config(file, environment={})
    with open_service_store(config.settings.store.url) as store:
        registry = Registry(store, config)
        registry.apply_configuration()
        authenticator = Authenticator.of(auth or {})
        parts = Parts.of(config, store, registry=registry, authenticator=authenticator)
        app = FastAPI(docs_url=None, redoc_url=None)
        app.include_router(make_router(parts))
        with TestClient(app, base_url="http://localhost") as client:
            yield Site(parts, client)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pages")
    target = make_table(directory / "orders")
    with site(directory, [target, HOSTILE]) as found:
        found.target = target
        yield found


def test_a_table_from_its_page_to_its_job(pages):
    page = f"/tables/{quote(pages.target, safe='')}"
    assert "nothing has asked for a job" in pages.get(page)
    answer = pages.post("/actions/compact", target=pages.target, form_key=pages.form_key(page))
    assert (answer.status_code, answer.headers["location"]) == (303, page)
    parts = pages.parts
    executor = Executor(parts.store, parts.config, parts.registry, instance="test")
    assert executor.fill()
    assert "running" in pages.get("/")
    executor.drain(wait_seconds=60)
    job = re.search(r'href="/jobs/(\w+)"', pages.get(page)).group(1)
    shown = pages.get(f"/jobs/{job}")
    assert "succeeded" in shown
    assert shown.count("<rect") >= 1
    assert "6 small" in pages.get(page) or "as it should be" in pages.get(page)
    assert job in pages.get("/queue")
    assert job not in pages.get("/queue?state=pending")
    assert "job-submitted" in pages.get("/settings")
    overview = " ".join(pages.get("/").split())
    assert "<dt>Data files saved</dt><dd>5</dd>" in overview
    cost = r'<dt>vCPU-hours</dt><dd>0\.\d+</dd><dd class="detail">0\.\d\d EUR</dd>'
    assert re.search(cost, overview)
    assert re.search(r"what was granted</dt><dd>\d+\.\d\d%</dd>", overview)


def test_every_page_answers_and_keeps_to_itself(pages):
    for path in ("/", "/tables", "/tables?q=orders&poor=true", "/queue", "/sources", "/settings"):
        answer = pages.client.get(path)
        assert answer.status_code == 200, answer.text
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        # What a page loads comes from the service itself, and nothing of it stands in the page.
        assert not re.search(r'(src|href|action)="(https?:)?//', answer.text)
        assert not re.search(r"<script(?![^>]* src=)|style=|<style| on\w+=", answer.text)
    for name in set(re.findall(r'"(/static/[^"]+)"', pages.client.get("/").text)):
        assert pages.client.get(name).status_code == 200, name


def test_names_are_text_wherever_they_stand(pages):
    for path in ("/tables", f"/tables/{quote(HOSTILE, safe='')}"):
        raw = pages.client.get(path).text
        assert "<script>alert" not in raw
        assert "&lt;script&gt;alert" in raw


@pytest.mark.parametrize("key", ["", "0" * 64, "ü"])
def test_a_form_of_another_page_does_nothing(pages, key):
    for path in ("/actions/compact", "/actions/pause", "/actions/cancel", "/logout"):
        answer = pages.post(
            path, target=pages.target, trigger_id="1", is_paused="yes", form_key=key
        )
        assert answer.status_code in (403, 422), answer.text
    assert not pages.parts.views.table(pages.target).is_paused


def test_a_page_elsewhere_whose_name_leads_here_sees_nothing(pages):
    answer = pages.client.get("/", headers={"host": "rebound.example"})
    assert answer.status_code == 403
    assert pages.target not in answer.text


def test_pause_and_resume(pages):
    page = f"/tables/{quote(pages.target, safe='')}"
    for is_paused in ("yes", "no"):
        key = pages.form_key(page)
        pages.post("/actions/pause", target=pages.target, is_paused=is_paused, form_key=key)
        assert pages.parts.views.table(pages.target).is_paused == (is_paused == "yes")


def test_what_is_not_there(pages):
    assert "is not registered" in pages.get("/tables/lake.a.b", status=404)
    assert "no single job" in pages.get("/jobs/nonsense", status=404)


def test_tokens_are_asked_for_and_kept_in_a_cookie_that_no_script_sees(tmp_path):
    def token(name, scope, tables):
        digest = hashlib.sha256(name.encode()).hexdigest()
        return {"name": name, "sha256": digest, "scope": scope, "tables": tables}

    ours, theirs = "lake.ns.ours", "lake.ns.theirs"
    auth = {"tokens": [token("reader", "read", ["*"]), token("operator", "operate", [ours])]}
    with site(tmp_path, [ours, theirs], auth) as guarded:
        assert "Sign in" in guarded.get("/", status=401)
        assert guarded.post("/login", token="guess").status_code == 401
        cookie = guarded.post("/login", token="reader").headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert theirs in guarded.get("/tables")
        assert "Compact now" not in guarded.get(f"/tables/{ours}")
        guarded.client.cookies.clear()
        guarded.post("/login", token="operator")
        assert theirs not in guarded.get("/tables")
        guarded.get(f"/tables/{theirs}", status=403)
        key = guarded.form_key(f"/tables/{ours}")
        refused = guarded.post("/actions/compact", target=theirs, form_key=key)
        assert refused.status_code == 403
        assert guarded.post("/actions/compact", target=ours, form_key=key).status_code == 303
        # Nor is there a number by which the name of another table is told.
        hidden = guarded.parts.operations.submit(theirs, cause="", actor="ada")
        answer = guarded.post("/actions/cancel", trigger_id=hidden, form_key=key)
        assert answer.status_code == 404
        assert theirs not in answer.text
        assert theirs not in guarded.get("/queue")
        assert guarded.parts.views.trigger(hidden).state == "pending"


def test_pages_of_somebody_who_sees_some_tables_are_full_and_name_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "PAGE_ROWS", 2)
    digest = hashlib.sha256(b"reader").hexdigest()
    auth = {"tokens": [{"name": "reader", "sha256": digest, "tables": ["lake.ours.*"]}]}
    ours = [f"lake.ours.t{number}" for number in range(3)]
    with site(tmp_path, [*ours, "lake.ns9.a", "lake.ours2.b", "lake.z.c"], auth) as guarded:
        guarded.post("/login", token="reader")
        first = guarded.get("/tables")
        assert [one for one in ours if one in first] == ours[:2]
        following = re.search(r'rel="next" href="([^"]+)"', first).group(1)
        last = guarded.get(following)
        assert ours[2] in last
        assert 'rel="next"' not in last
        assert not re.search(r"ns9|ours2|lake\.z", first + last)


@pytest.mark.parametrize("path", ["/queue?before=9" + "9" * 20, "/queue?before=-1"])
def test_numbers_that_no_row_has_are_refused(pages, path):
    assert pages.client.get(path).status_code == 422


def test_a_page_is_loaded_again_from_where_it_was_asked_for(pages):
    shown = pages.client.get(f"/tables/{quote(pages.target, safe='')}?x=1").text
    assert f'hx-get="/tables/{quote(pages.target, safe="")}?x=1"' in shown


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 10**6) | st.none(), st.integers(0, 2**40)),
        max_size=30,
    )
)
def test_drawings_stay_within_their_frame(attempts):
    from tests.compactor.jobs.test_retelling import WAITING, detail

    records = tuple(
        AttemptRecord(
            str(n), "a", "written", "", 0.0, size, size, size, start, length and start + length
        )
        for n, (start, length, size) in enumerate(attempts)
    )
    drawn = figures.timeline(detail(WAITING, records), now_ms=3 * 10**6)
    for bar in drawn.bars:
        assert 0 <= bar.x <= figures.TIMELINE_WIDTH
        assert bar.width >= 1
        assert bar.y + figures.ROW_HEIGHT <= drawn.height
    for one in figures.grants(records):
        assert 0 <= one.peak <= 1
        assert 0 <= one.granted <= 1
