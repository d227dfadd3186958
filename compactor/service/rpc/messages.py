"""Records of the job store as messages of the job API, and back: field by field, by name."""

from __future__ import annotations

from dataclasses import fields
from enum import StrEnum
from typing import Any, TypeVar

from google.protobuf.message import Message

from compactor.jobs.state import GroupState, JobState
from compactor.jobs.store import AttemptRecord, BatchRecord, GroupRecord, JobDetail, JobRecord
from compactor.service.rpc import api_pb2

_Message = TypeVar("_Message", bound=Message)
_STATES: dict[type, type[StrEnum]] = {JobRecord: JobState, GroupRecord: GroupState}
_Record = TypeVar("_Record", JobRecord, GroupRecord, AttemptRecord, BatchRecord)


def to_message(kind: type[_Message], value: Any) -> _Message:
    """Return a message with the fields of a frozen value that it has, too; None is left out."""
    said = {one.name: getattr(value, one.name) for one in fields(value)}
    known = kind.DESCRIPTOR.fields_by_name
    return kind(**{name: one for name, one in said.items() if name in known and one is not None})


def to_job_detail(detail: JobDetail) -> api_pb2.JobDetail:
    """Return the message of a job with everything it did."""
    return api_pb2.JobDetail(
        job=to_message(api_pb2.Job, detail.job),
        report=detail.report,
        groups=[to_message(api_pb2.Group, one) for one in detail.groups],
        attempts=[to_message(api_pb2.Attempt, one) for one in detail.attempts],
        batches=[to_message(api_pb2.Batch, one) for one in detail.batches],
    )


def job_record(message: api_pb2.Job) -> JobRecord:
    """Return the record of a message."""
    return _record(JobRecord, message)


def job_detail(message: api_pb2.JobDetail) -> JobDetail:
    """Return a job with everything it did."""
    return JobDetail(
        job=job_record(message.job),
        report=message.report if message.HasField("report") else None,
        groups=tuple(_record(GroupRecord, one) for one in message.groups),
        attempts=tuple(_record(AttemptRecord, one) for one in message.attempts),
        batches=tuple(_record(BatchRecord, one) for one in message.batches),
    )


def _record(kind: type[_Record], message: Message) -> _Record:
    values: dict[str, Any] = {}
    for one in fields(kind):
        described = message.DESCRIPTOR.fields_by_name[one.name]
        is_absent = described.has_presence and not message.HasField(one.name)
        values[one.name] = None if is_absent else getattr(message, one.name)
    if kind in _STATES:
        values["state"] = _STATES[kind](values["state"])
    return kind(**values)
