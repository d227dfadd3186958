"""The receivers whose senders prove themselves by a token or a signature of the body alone."""

import hashlib
import hmac
import json

import pytest

from compactor.service.webhooks.cloudevents import CloudEventsReceiver
from compactor.service.webhooks.dbt import DbtReceiver
from compactor.service.webhooks.eventbridge import EventBridgeReceiver
from compactor.service.webhooks.hudi import DEFAULT_KEY, HudiReceiver
from compactor.service.webhooks.iceberg_metrics import IcebergMetricsReceiver
from compactor.service.webhooks.objects import is_commit
from compactor.service.webhooks.request import (
    EVENTS_MAX,
    WebhookMalformedError,
    WebhookUnverifiedError,
)
from compactor.service.webhooks.s3_records import S3Receiver
from tests.compactor.service.webhooks.requests import TOKEN, request, with_token

COMMIT = "sales/orders/_delta_log/00000000000000000007.json"


def record(key=COMMIT, name="ObjectCreated:Put", source="aws:s3", **more):
    return {
        "eventSource": source,
        "eventName": name,
        "eventTime": "2026-11-23T00:00:00Z",
        "s3": {"bucket": {"name": "lake"}, "object": {"key": key, "eTag": "e", "size": 1}},
        **more,
    }


class TestObjects:
    @pytest.mark.parametrize(
        "key",
        [
            COMMIT,
            "t/metadata/00001-9e.metadata.json",
            "metadata/v3.metadata.json",
            "t/.hoodie/20261123000000000.commit",
            "t/.hoodie/timeline/20261123000000000_20261123000001000.deltacommit",
        ],
    )
    def test_commits(self, key):
        assert is_commit(key)

    @pytest.mark.parametrize(
        "key",
        [
            "t/part-0.parquet",
            "t/_delta_log/_last_checkpoint",
            "t/_delta_log/00000000000000000007.checkpoint.parquet",
            "t/_delta_log/7.json",
            "t/metadata/snap-1.avro",
            "t/.hoodie/20261123000000000.deltacommit.inflight",
            "t/.hoodie/20261123000000000.clean",
            "t/.hoodie/metadata/files/x.log",
            "",
        ],
    )
    def test_others(self, key):
        assert not is_commit(key)


class TestS3:
    receiver = S3Receiver("rgw", (TOKEN,))

    @pytest.mark.parametrize(
        ("source", "key", "found"),
        [
            ("aws:s3", "a+b%2B/_delta_log/00000000000000000001.json", "a b+"),
            ("minio:s3", "a%2Fb/_delta_log/00000000000000000001.json", "a/b"),
            ("ceph:s3", "a+b%41/_delta_log/00000000000000000001.json", "a+b%41"),
        ],
    )
    def test_keys_of_three_dialects(self, source, key, found):
        delivery = self.receiver.receive(with_token({"Records": [record(key, source=source)]}))
        locations = [hint.location for hint in delivery.hints]
        assert locations == [f"s3://lake/{found}/_delta_log/00000000000000000001.json"]

    def test_a_test_event_and_other_objects_say_nothing(self):
        assert self.receiver.receive(with_token({"Event": "s3:TestEvent"})).hints == ()
        others = [record("t/part-0.parquet"), record(name="ObjectRemoved:Delete")]
        assert self.receiver.receive(with_token({"Records": others})).hints == ()

    def test_the_secret_in_every_record_proves_ceph(self):
        proved = record(source="ceph:s3", opaqueData=TOKEN.decode())
        assert self.receiver.receive(request({"Records": [proved, proved]})).hints
        for records in ([], [record()], [proved, record()], [record(opaqueData="other")]):
            with pytest.raises(WebhookUnverifiedError):
                self.receiver.receive(request({"Records": records}))

    def test_a_wrong_token_is_not_helped_by_the_record(self):
        proved = record(opaqueData=TOKEN.decode())
        with pytest.raises(WebhookUnverifiedError):
            self.receiver.receive(with_token({"Records": [proved]}, token=b"another"))

    def test_another_writing_of_one_object_is_another_delivery(self):
        ids = {
            self.receiver.receive(with_token({"Records": [one]})).delivery_id
            for one in (record(), record(), record(eventTime="2026-11-23T00:00:01Z"))
        }
        assert len(ids) == 2


class TestEventBridge:
    receiver = EventBridgeReceiver("bus", (TOKEN,), catalog="lake")

    def test_the_key_of_an_object_is_taken_as_it_is(self):
        event = {
            "id": "constant",
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {"bucket": {"name": "lake"}, "object": {"key": f"a+b%41/{COMMIT}"}},
        }
        delivery = self.receiver.receive(request(event, x_api_key=TOKEN.decode()))
        assert [hint.location for hint in delivery.hints] == [f"s3://lake/a+b%41/{COMMIT}"]
        event["detail-type"] = "Object Deleted"
        assert self.receiver.receive(with_token(event)).hints == ()

    def test_senders_that_give_every_event_one_id_are_told_apart(self):
        def event(number):
            return {
                "id": "constant",
                "source": "aws.s3",
                "detail-type": "Object Created",
                "detail": {
                    "bucket": {"name": "lake"},
                    "object": {"key": COMMIT, "sequencer": str(number)},
                },
            }

        ids = [self.receiver.receive(with_token(event(n))).delivery_id for n in (1, 2, 2)]
        assert ids[0] != ids[1] == ids[2]

    def test_changes_of_a_database_name_every_table(self):
        event = {
            "source": "aws.glue",
            "detail-type": "Glue Data Catalog Database State Change",
            "detail": {"databaseName": "sales", "changedTables": ["a", "b"]},
        }
        targets = [hint.target for hint in self.receiver.receive(with_token(event)).hints]
        assert targets == ["lake.sales.a", "lake.sales.b"]
        without = EventBridgeReceiver("bus", (TOKEN,))
        with pytest.raises(WebhookMalformedError, match="no catalog"):
            without.receive(with_token(event))

    def test_events_of_others_ask_for_nothing(self):
        event = {"source": "my.app", "detail-type": "x", "detail": {}}
        assert self.receiver.receive(with_token(event)).hints == ()


REPORT = {
    "report-type": "commit-report",
    "table-name": "whatever.the.client.says",
    "snapshot-id": 5178,
    "sequence-number": 3,
    "operation": "append",
    "metrics": {"added-data-files": {"unit": "count", "value": 3}},
}


class TestIceberg:
    receiver = IcebergMetricsReceiver("iceberg", (TOKEN,), "lake")

    def post(self, path="/v1/main/namespaces/a%1Fb/tables/my%20table/metrics", **changes):
        good = with_token({**REPORT, **changes})
        return self.receiver.receive(type(good)(path, good.headers, good.body, good.received_at_ms))

    def test_the_table_is_the_one_of_the_path(self):
        delivery = self.post()
        (hint,) = delivery.hints
        assert (hint.target, hint.snapshot_id, hint.operation) == (
            "lake.a.b.my table",
            "5178",
            "append",
        )
        assert self.post().delivery_id == delivery.delivery_id
        assert self.post(**{"snapshot-id": 5179}).delivery_id != delivery.delivery_id

    def test_reports_of_scans_ask_for_nothing(self):
        assert self.post(**{"report-type": "scan-report"}).hints == ()

    @pytest.mark.parametrize("path", ["/", "/webhooks/iceberg", "/v1/namespaces/a/views/b/metrics"])
    def test_other_paths_are_malformed(self, path):
        with pytest.raises(WebhookMalformedError, match="path"):
            self.post(path=path)


CALLBACK = {
    "commitTime": "20261123000000000",
    "tableName": "orders",
    "basePath": "s3://lake/orders",
    "hoodieWriteStat": [{"path": "p", "numWrites": 1}],
    "commitActionType": "deltacommit",
}


class TestHudi:
    receiver = HudiReceiver("hudi", (TOKEN,))

    def test_an_instant_of_a_table_comes_once(self):
        key = TOKEN.decode()
        delivery = self.receiver.receive(request(CALLBACK, hudi_callback_key=key))
        (hint,) = delivery.hints
        assert (hint.location, hint.operation) == ("s3://lake/orders", "deltacommit")
        again = self.receiver.receive(request(CALLBACK, hudi_callback_key=key))
        later = request({**CALLBACK, "commitTime": "20261123000000001"}, hudi_callback_key=key)
        assert delivery.delivery_id == again.delivery_id
        assert delivery.delivery_id != self.receiver.receive(later).delivery_id

    @pytest.mark.parametrize("key", [None, "", "wrong", DEFAULT_KEY.decode()])
    def test_other_keys_are_refused(self, key):
        headers = {} if key is None else {"hudi_callback_key": key}
        with pytest.raises(WebhookUnverifiedError):
            self.receiver.receive(request(CALLBACK, **headers))

    def test_the_key_that_everybody_knows_is_refused_even_if_it_is_set(self):
        naive = HudiReceiver("hudi", (DEFAULT_KEY,))
        with pytest.raises(WebhookUnverifiedError):
            naive.receive(request(CALLBACK, hudi_callback_key=DEFAULT_KEY.decode()))


class TestDbt:
    receiver = DbtReceiver("dbt", (b"secret",), {"123": ("lake.a.b", "lake.a.c")})

    def post(self, status="Success", job="123", secret=b"secret"):
        body = json.dumps({"data": {"runId": "9", "jobId": job, "runStatus": status}}).encode()
        signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
        return self.receiver.receive(request(body, authorization=signature))

    def test_the_tables_of_a_job_that_ended_well(self):
        assert [hint.target for hint in self.post().hints] == ["lake.a.b", "lake.a.c"]
        assert self.post(status="Errored").hints == ()
        assert self.post(job="7").hints == ()

    def test_another_secret_is_refused(self):
        with pytest.raises(WebhookUnverifiedError):
            self.post(secret=b"other")


EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "uri:lakekeeper",
    "type": "updateTable",
    "tabular-id": "not a name that the specification allows",
    "namespace": "sales",
    "name": "orders",
    "data": {"requirements": []},
}


class TestCloudEvents:
    receiver = CloudEventsReceiver("events", (TOKEN,), catalog="lake")

    def targets(self, sent):
        return [hint.target for hint in self.receiver.receive(sent).hints]

    def test_structured(self):
        sent = with_token(EVENT, content_type="application/cloudevents+json; charset=utf-8")
        assert self.targets(sent) == ["lake.sales.orders"]

    def test_binary(self):
        said = {"ce_id": "1", "ce_source": "x", "ce_type": "t", "ce_subject": "sales.%C3%BC"}
        sent = with_token({}, content_type="application/json", **said)
        assert self.targets(sent) == ["lake.sales.ü"]

    def test_batches(self):
        two = [EVENT, {**EVENT, "id": "2", "data": {"table": "other.a.b"}}]
        sent = with_token(two, content_type="application/cloudevents-batch+json")
        assert self.targets(sent) == ["lake.sales.orders", "other.a.b"]

    @pytest.mark.parametrize("body", [[], {}, {"id": "1"}, {"id": "", "source": "x"}, "text", 7])
    def test_events_without_identity_are_malformed(self, body):
        with pytest.raises(WebhookMalformedError):
            self.targets(with_token(body, content_type="application/cloudevents+json"))

    def test_a_batch_has_an_end(self):
        many = [{"id": str(n), "source": "x"} for n in range(EVENTS_MAX + 1)]
        with pytest.raises(WebhookMalformedError, match="longer"):
            self.targets(with_token(many, content_type="application/cloudevents-batch+json"))

    def test_an_event_that_names_no_table_asks_for_nothing(self):
        event = {"id": "1", "source": "x", "type": "t", "data": [1]}
        assert self.targets(with_token(event, content_type="application/cloudevents+json")) == []


@pytest.mark.parametrize(
    "receiver",
    [TestS3.receiver, TestEventBridge.receiver, TestIceberg.receiver, TestCloudEvents.receiver],
)
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", f"Basic {TOKEN.decode()}"])
def test_no_token_no_entry(receiver, header):
    with pytest.raises(WebhookUnverifiedError):
        receiver.receive(request({}, authorization=header))
