"""The job API: a real server, and the client of the command line."""

import hashlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from compactor.errors import SettingsError
from compactor.service import operations
from compactor.service.operations import PLANS_MAX
from compactor.service.rpc import api_pb2, api_pb2_grpc
from compactor.service.rpc.client import ServiceClient
from compactor.service.rpc.failures import RemoteError
from compactor.service.rpc.gate import REFLECTIONS_MAX
from compactor.service.rpc.server import THREADS, serve
from tests.compactor.service.rpc.serving import make_table, served
from tests.compactor.service.tls_server import write_certificate

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("served")
    targets = [make_table(directory / name) for name in ("orders", "clicks")]
    with served(directory, targets) as running:
        yield running


@pytest.fixture(scope="module")
def target(api):
    return api.parts.config.table_rules[0].pattern


@pytest.fixture
def client(api):
    with ServiceClient(api.address) as client:
        yield client


def test_a_job_from_the_asking_to_its_report(api, client, target):
    submitted = client.submit(target, cause="a test")
    assert (submitted.state, submitted.cause) == ("pending", "a test")
    assert client.submit(target, cause="again").trigger_id == submitted.trigger_id
    api.work()
    *_, last = client.watch(submitted.trigger_id)
    assert (last.trigger.state, last.trigger.status) == ("done", "succeeded")
    assert last.job.job.groups_committed == 1
    assert last.job == api.parts.store.job(last.trigger.job_id) == client.job(last.trigger.job_id)
    assert client.jobs(table=target, limit=5) == api.parts.store.jobs(table=target, limit=5)
    assert client.jobs(table="another", limit=5) == ()
    assert client.job("nonsense") is None
    with pytest.raises(RemoteError, match="runs no more"):
        client.cancel(last.job, reason="too late")


def test_what_waits_can_be_cancelled(client, target):
    waiting = client.submit(target, cause="never mind")
    ended = client.cancel_trigger(waiting.trigger_id, reason="changed my mind")
    assert (ended.state, ended.why) == ("cancelled", "cancelled by local: changed my mind")
    assert [one.trigger.state for one in client.watch(waiting.trigger_id)] == ["cancelled"]


def test_a_plan_is_made_elsewhere_and_is_the_whole_plan(client, api):
    target = api.parts.config.table_rules[1].pattern
    plan, health = client.plan(target, {})
    assert (plan.table, health.files, len(plan.groups)) == (target, 6, 1)
    plan, _ = client.plan(target, {"min_input_files": "7"})
    assert plan.groups == ()
    with pytest.raises(RemoteError) as refused:
        client.plan(target, {"speling": "1"})
    assert refused.value.code == "settings-refused"


def test_tables_come_in_pages(api, client, target):
    assert list(client.targets("clicks")) == [api.parts.config.table_rules[1].pattern]
    stub = api_pb2_grpc.CompactorStub(grpc.insecure_channel(api.address.removeprefix("http://")))
    first = stub.ListTables(api_pb2.ListTablesRequest(limit=1))
    rest = stub.ListTables(api_pb2.ListTablesRequest(cursor=first.next_cursor))
    names = [one.target for one in (*first.tables, *rest.tables)]
    assert names == sorted(names)
    assert target in names
    assert rest.next_cursor == ""


@pytest.mark.parametrize("call", ["submit", "plan"])
def test_a_table_that_is_not_registered_is_not_opened(client, call, tmp_path):
    target = make_table(tmp_path / "hidden", files=1)
    with pytest.raises(RemoteError) as refused:
        client.submit(target, cause="") if call == "submit" else client.plan(target, {})
    assert refused.value.code == "table-not-found"
    assert "[[tables]]" in refused.value.hint


def test_policies_have_origins_and_can_be_set(api, target):
    stub = api_pb2_grpc.CompactorStub(grpc.insecure_channel(api.address.removeprefix("http://")))

    def setting(policy, name):
        return next((one.value, one.origin) for one in policy.settings if one.name == name)

    request = api_pb2.SetPolicyRequest(
        pattern=target, policy={"min_input_files": "3"}, care={"priority": "1"}
    )
    policy = stub.SetPolicy(request)
    assert setting(policy, "min_input_files") == ("3", "policy set by local")
    assert setting(policy, "priority")[0] == "1"
    policy = stub.UnsetPolicy(api_pb2.UnsetPolicyRequest(pattern=target))
    assert setting(policy, "min_input_files")[1] == "default"
    with pytest.raises(grpc.RpcError, match="min_input_files"):
        stub.SetPolicy(api_pb2.SetPolicyRequest(pattern=target, policy={"min_input_files": "many"}))


def test_a_table_can_be_paused(api, target):
    stub = api_pb2_grpc.CompactorStub(grpc.insecure_channel(api.address.removeprefix("http://")))
    paused = stub.PauseTable(api_pb2.PauseTableRequest(target=target, is_paused=True))
    assert (paused.is_paused, paused.why) == (True, "paused")
    assert not stub.PauseTable(api_pb2.PauseTableRequest(target=target)).is_paused


def test_health_and_reflection_are_the_usual_ones(api):
    channel = grpc.insecure_channel(api.address.removeprefix("http://"))
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    (listed,) = stub.ServerReflectionInfo(iter([asked]))
    names = [one.name for one in listed.list_services_response.service]
    assert "compactor.v1.Compactor" in names


def test_scopes_and_tables_of_tokens(tmp_path):
    def token(name, scope, tables):
        digest = hashlib.sha256(name.encode()).hexdigest()
        return {"name": name, "sha256": digest, "scope": scope, "tables": tables}

    ours, theirs = (make_table(tmp_path / name, files=1) for name in ("ours", "theirs"))
    auth = {"tokens": [token("reader", "read", ["*"]), token("operator", "operate", [ours])]}
    with served(tmp_path, [ours, theirs], auth) as api:

        def code(who, target):
            with ServiceClient(api.address, who) as client:
                try:
                    client.submit(target, cause="")
                except RemoteError as error:
                    return error.code
                return "done"

        assert code("", ours) == code("guess", ours) == "unauthenticated"
        assert code("reader", ours) == code("operator", theirs) == "forbidden"
        assert code("operator", ours) == "done"
        with ServiceClient(api.address, "operator") as client:
            assert list(client.targets("")) == [ours]


@pytest.mark.parametrize(
    "server", ["ftp://a", "http://", "https://a:b", "http://example.com", "https://a/path"]
)
def test_addresses_that_are_refused(server):
    with pytest.raises(SettingsError):
        ServiceClient(server)


def test_an_address_that_is_taken_is_not_shared(api, tmp_path):
    with pytest.raises(SettingsError, match="cannot listen"):
        serve(api.address.removeprefix("http://"), api.parts)


def test_a_service_that_is_not_there():
    with ServiceClient("http://127.0.0.1:1") as client, pytest.raises(RemoteError) as away:
        client.jobs(table=None, limit=1)
    assert away.value.code == "server-unreachable"


def test_the_generated_code_is_that_of_the_messages(tmp_path):
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT)]
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    place = "compactor/service/rpc"
    subprocess.run([*command, *outputs, f"{place}/api.proto"], check=True, cwd=ROOT)
    for name in ("api_pb2.py", "api_pb2.pyi", "api_pb2_grpc.py"):
        assert (tmp_path / place / name).read_text() == (ROOT / place / name).read_text()


def test_whoever_has_no_token_gets_no_thread(tmp_path):
    over = threading.Event()
    digest = hashlib.sha256(b"reader").hexdigest()
    auth = {"tokens": [{"name": "reader", "sha256": digest}]}
    with served(tmp_path, [], auth) as api, ServiceClient(api.address, "reader") as client:
        channel = grpc.insecure_channel(api.address.removeprefix("http://"))
        calls = [
            # Headers come, and the request never does.
            channel.stream_unary(f"/{name}").future(_endless(over))
            for name in ("compactor.v1.Compactor/GetJob", "grpc.health.v1.Health/Check")
            for _ in range(THREADS)
        ]
        assert client.jobs(table=None, limit=1) == ()
        jobs = calls[:THREADS]
        assert {one.exception(60).code().name for one in jobs} == {"UNAUTHENTICATED"}
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            list(stub.ServerReflectionInfo(_endless(over)))
        channel.close()
    over.set()


def test_few_may_reflect_at_once(api):
    channel = grpc.insecure_channel(api.address.removeprefix("http://"))
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    over = threading.Event()
    streams = [stub.ServerReflectionInfo(_endless(over, asked)) for _ in range(REFLECTIONS_MAX)]
    assert all(next(one) for one in streams)
    with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
        next(stub.ServerReflectionInfo(_endless(over, asked)))
    channel.close()
    over.set()


def test_few_tables_are_planned_at_once(api, client, target, monkeypatch):
    monkeypatch.setattr(operations, "ask_child", lambda *_, **__: held.wait(60) and [])
    held = threading.Event()
    with ThreadPoolExecutor(PLANS_MAX + 1) as pool:
        plans = [pool.submit(client.plan, target, {}) for _ in range(PLANS_MAX + 1)]
        first = next(as_completed(plans))
        held.set()
        assert first.exception().code == "busy"
        assert sorted(one.exception().code for one in plans)[:1] == ["busy"]


def test_every_method_asks_for_a_scope(tmp_path):
    digest = hashlib.sha256(b"reader").hexdigest()
    auth = {"tokens": [{"name": "reader", "sha256": digest, "tables": ["ours.*"]}]}
    with served(tmp_path, [], auth) as api:
        channel = grpc.insecure_channel(api.address.removeprefix("http://"))
        methods = api_pb2.DESCRIPTOR.services_by_name["Compactor"].methods
        theirs = {}
        for method in methods:
            call = channel.unary_stream(
                f"/compactor.v1.Compactor/{method.name}",
                request_serializer=lambda message: message.SerializeToString(),
            )
            request = getattr(api_pb2, method.input_type.name)()
            for token in ("", "reader"):
                with_token = [("authorization", f"Bearer {token}")]
                try:
                    list(call(request, metadata=with_token, timeout=20))
                    theirs[method.name, token] = "OK"
                except grpc.RpcError as error:
                    theirs[method.name, token] = error.code().name
        channel.close()
    assert {code for (_, token), code in theirs.items() if not token} == {"UNAUTHENTICATED"}
    ours = {name: code for (name, token), code in theirs.items() if token}
    assert {name for name, code in ours.items() if code == "OK"} == {
        "ListTables",
        "ListTriggers",
        "ListJobs",
    }
    beyond = ("Submit", "Cancel", "PauseTable", "SetPolicy", "UnsetPolicy", "GetPolicy")
    assert {ours[name] for name in beyond} == {"PERMISSION_DENIED"}


def test_a_certificate_of_ones_own_is_trusted_when_that_is_said(api, tmp_path):
    pair = tmp_path / "pair.pem"
    write_certificate(pair, "localhost")
    server, port = serve("127.0.0.1:0", api.parts, certificate=pair, key=pair)
    address = f"https://localhost:{port}"
    with ServiceClient(address) as client, pytest.raises(RemoteError) as refused:
        client.jobs(table=None, limit=1)
    assert refused.value.code == "server-unreachable"
    with ServiceClient(address, authorities=str(pair)) as client:
        client.jobs(table=None, limit=1)
    with pytest.raises(SettingsError, match="authorities"):
        ServiceClient(address, authorities=str(tmp_path / "none.pem"))
    server.stop(0).wait()


def _endless(over, *requests):
    yield from requests
    over.wait(60)
