from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Table(_message.Message):
    __slots__ = ("target", "format", "is_enabled", "is_paused", "is_missing", "trouble", "snapshot_id", "health", "health_reasons", "files", "small_files", "delete_files", "size_bytes", "rows", "schedule", "window", "due_at_ms", "seen_at_ms", "compacted_at_ms", "waiting")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    IS_ENABLED_FIELD_NUMBER: _ClassVar[int]
    IS_PAUSED_FIELD_NUMBER: _ClassVar[int]
    IS_MISSING_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    HEALTH_REASONS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    SMALL_FILES_FIELD_NUMBER: _ClassVar[int]
    DELETE_FILES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    DUE_AT_MS_FIELD_NUMBER: _ClassVar[int]
    SEEN_AT_MS_FIELD_NUMBER: _ClassVar[int]
    COMPACTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    target: str
    format: str
    is_enabled: bool
    is_paused: bool
    is_missing: bool
    trouble: str
    snapshot_id: str
    health: int
    health_reasons: _containers.RepeatedScalarFieldContainer[str]
    files: int
    small_files: int
    delete_files: int
    size_bytes: int
    rows: int
    schedule: str
    window: str
    due_at_ms: int
    seen_at_ms: int
    compacted_at_ms: int
    waiting: str
    def __init__(self, target: _Optional[str] = ..., format: _Optional[str] = ..., is_enabled: _Optional[bool] = ..., is_paused: _Optional[bool] = ..., is_missing: _Optional[bool] = ..., trouble: _Optional[str] = ..., snapshot_id: _Optional[str] = ..., health: _Optional[int] = ..., health_reasons: _Optional[_Iterable[str]] = ..., files: _Optional[int] = ..., small_files: _Optional[int] = ..., delete_files: _Optional[int] = ..., size_bytes: _Optional[int] = ..., rows: _Optional[int] = ..., schedule: _Optional[str] = ..., window: _Optional[str] = ..., due_at_ms: _Optional[int] = ..., seen_at_ms: _Optional[int] = ..., compacted_at_ms: _Optional[int] = ..., waiting: _Optional[str] = ...) -> None: ...

class ListTablesRequest(_message.Message):
    __slots__ = ("pattern", "limit", "cursor")
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    pattern: str
    limit: int
    cursor: str
    def __init__(self, pattern: _Optional[str] = ..., limit: _Optional[int] = ..., cursor: _Optional[str] = ...) -> None: ...

class ListTablesReply(_message.Message):
    __slots__ = ("tables", "next_cursor")
    TABLES_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    tables: _containers.RepeatedCompositeFieldContainer[Table]
    next_cursor: str
    def __init__(self, tables: _Optional[_Iterable[_Union[Table, _Mapping]]] = ..., next_cursor: _Optional[str] = ...) -> None: ...

class GetTableRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: str
    def __init__(self, target: _Optional[str] = ...) -> None: ...

class PlanRequest(_message.Message):
    __slots__ = ("target", "policy")
    class PolicyEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TARGET_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    target: str
    policy: _containers.ScalarMap[str, str]
    def __init__(self, target: _Optional[str] = ..., policy: _Optional[_Mapping[str, str]] = ...) -> None: ...

class PlanReply(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: str
    def __init__(self, plan: _Optional[str] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("target", "cause")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    target: str
    cause: str
    def __init__(self, target: _Optional[str] = ..., cause: _Optional[str] = ...) -> None: ...

class Work(_message.Message):
    __slots__ = ("work_id", "target", "state", "reason", "source", "cause", "attempts", "job_id", "first_at_ms", "not_before_ms", "claimed_at_ms", "finished_at_ms", "groups", "groups_written", "groups_committed", "input_bytes", "bytes_moved", "cpu_seconds", "is_over")
    WORK_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_AT_MS_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    GROUPS_COMMITTED_FIELD_NUMBER: _ClassVar[int]
    INPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_MOVED_FIELD_NUMBER: _ClassVar[int]
    CPU_SECONDS_FIELD_NUMBER: _ClassVar[int]
    IS_OVER_FIELD_NUMBER: _ClassVar[int]
    work_id: int
    target: str
    state: str
    reason: str
    source: str
    cause: str
    attempts: int
    job_id: str
    first_at_ms: int
    not_before_ms: int
    claimed_at_ms: int
    finished_at_ms: int
    groups: int
    groups_written: int
    groups_committed: int
    input_bytes: int
    bytes_moved: int
    cpu_seconds: float
    is_over: bool
    def __init__(self, work_id: _Optional[int] = ..., target: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., source: _Optional[str] = ..., cause: _Optional[str] = ..., attempts: _Optional[int] = ..., job_id: _Optional[str] = ..., first_at_ms: _Optional[int] = ..., not_before_ms: _Optional[int] = ..., claimed_at_ms: _Optional[int] = ..., finished_at_ms: _Optional[int] = ..., groups: _Optional[int] = ..., groups_written: _Optional[int] = ..., groups_committed: _Optional[int] = ..., input_bytes: _Optional[int] = ..., bytes_moved: _Optional[int] = ..., cpu_seconds: _Optional[float] = ..., is_over: _Optional[bool] = ...) -> None: ...

class GetWorkRequest(_message.Message):
    __slots__ = ("work_id",)
    WORK_ID_FIELD_NUMBER: _ClassVar[int]
    work_id: int
    def __init__(self, work_id: _Optional[int] = ...) -> None: ...

class ListWorkRequest(_message.Message):
    __slots__ = ("target", "unfinished", "limit")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    UNFINISHED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    target: str
    unfinished: bool
    limit: int
    def __init__(self, target: _Optional[str] = ..., unfinished: _Optional[bool] = ..., limit: _Optional[int] = ...) -> None: ...

class ListWorkReply(_message.Message):
    __slots__ = ("work",)
    WORK_FIELD_NUMBER: _ClassVar[int]
    work: _containers.RepeatedCompositeFieldContainer[Work]
    def __init__(self, work: _Optional[_Iterable[_Union[Work, _Mapping]]] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("work_id", "reason")
    WORK_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    work_id: int
    reason: str
    def __init__(self, work_id: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("table", "limit")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    table: str
    limit: int
    def __init__(self, table: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListJobsReply(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("job", "table", "format", "state", "reason", "is_running", "groups", "groups_committed", "input_bytes", "snapshot_before", "created_at_ms", "updated_at_ms", "finished_at_ms")
    JOB_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_COMMITTED_FIELD_NUMBER: _ClassVar[int]
    INPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    job: str
    table: str
    format: str
    state: str
    reason: str
    is_running: bool
    groups: int
    groups_committed: int
    input_bytes: int
    snapshot_before: str
    created_at_ms: int
    updated_at_ms: int
    finished_at_ms: int
    def __init__(self, job: _Optional[str] = ..., table: _Optional[str] = ..., format: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., is_running: _Optional[bool] = ..., groups: _Optional[int] = ..., groups_committed: _Optional[int] = ..., input_bytes: _Optional[int] = ..., snapshot_before: _Optional[str] = ..., created_at_ms: _Optional[int] = ..., updated_at_ms: _Optional[int] = ..., finished_at_ms: _Optional[int] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("group_id", "partition", "state", "attempts", "input_files", "input_bytes", "output_bytes", "reason")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FILES_FIELD_NUMBER: _ClassVar[int]
    INPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    partition: str
    state: str
    attempts: int
    input_files: int
    input_bytes: int
    output_bytes: int
    reason: str
    def __init__(self, group_id: _Optional[str] = ..., partition: _Optional[str] = ..., state: _Optional[str] = ..., attempts: _Optional[int] = ..., input_files: _Optional[int] = ..., input_bytes: _Optional[int] = ..., output_bytes: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("attempt_id", "group_id", "state", "error", "cpu_seconds", "predicted_bytes", "granted_bytes", "peak_memory_bytes", "started_at_ms", "finished_at_ms")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CPU_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_BYTES_FIELD_NUMBER: _ClassVar[int]
    GRANTED_BYTES_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    group_id: str
    state: str
    error: str
    cpu_seconds: float
    predicted_bytes: int
    granted_bytes: int
    peak_memory_bytes: int
    started_at_ms: int
    finished_at_ms: int
    def __init__(self, attempt_id: _Optional[str] = ..., group_id: _Optional[str] = ..., state: _Optional[str] = ..., error: _Optional[str] = ..., cpu_seconds: _Optional[float] = ..., predicted_bytes: _Optional[int] = ..., granted_bytes: _Optional[int] = ..., peak_memory_bytes: _Optional[int] = ..., started_at_ms: _Optional[int] = ..., finished_at_ms: _Optional[int] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("batch_id", "state", "groups", "snapshot_id", "reason", "started_at_ms", "finished_at_ms")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    state: str
    groups: int
    snapshot_id: str
    reason: str
    started_at_ms: int
    finished_at_ms: int
    def __init__(self, batch_id: _Optional[str] = ..., state: _Optional[str] = ..., groups: _Optional[int] = ..., snapshot_id: _Optional[str] = ..., reason: _Optional[str] = ..., started_at_ms: _Optional[int] = ..., finished_at_ms: _Optional[int] = ...) -> None: ...

class JobDetail(_message.Message):
    __slots__ = ("job", "report", "groups", "attempts", "batches")
    JOB_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    job: Job
    report: str
    groups: _containers.RepeatedCompositeFieldContainer[Group]
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    batches: _containers.RepeatedCompositeFieldContainer[Batch]
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., report: _Optional[str] = ..., groups: _Optional[_Iterable[_Union[Group, _Mapping]]] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., batches: _Optional[_Iterable[_Union[Batch, _Mapping]]] = ...) -> None: ...

class Setting(_message.Message):
    __slots__ = ("name", "value", "origin")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    origin: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., origin: _Optional[str] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("target", "settings")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    target: str
    settings: _containers.RepeatedCompositeFieldContainer[Setting]
    def __init__(self, target: _Optional[str] = ..., settings: _Optional[_Iterable[_Union[Setting, _Mapping]]] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: str
    def __init__(self, target: _Optional[str] = ...) -> None: ...

class SetPolicyRequest(_message.Message):
    __slots__ = ("pattern", "policy", "care")
    class PolicyEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class CareEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    CARE_FIELD_NUMBER: _ClassVar[int]
    pattern: str
    policy: _containers.ScalarMap[str, str]
    care: _containers.ScalarMap[str, str]
    def __init__(self, pattern: _Optional[str] = ..., policy: _Optional[_Mapping[str, str]] = ..., care: _Optional[_Mapping[str, str]] = ...) -> None: ...

class UnsetPolicyRequest(_message.Message):
    __slots__ = ("pattern",)
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    pattern: str
    def __init__(self, pattern: _Optional[str] = ...) -> None: ...

class PauseTableRequest(_message.Message):
    __slots__ = ("target", "is_paused")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    IS_PAUSED_FIELD_NUMBER: _ClassVar[int]
    target: str
    is_paused: bool
    def __init__(self, target: _Optional[str] = ..., is_paused: _Optional[bool] = ...) -> None: ...
