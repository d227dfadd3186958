from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Table(_message.Message):
    __slots__ = ("target", "namespace", "location", "format", "health", "health_reasons", "health_at_ms", "files", "small_files", "delete_files", "size_bytes", "rows", "snapshot_id", "schedule", "window", "due_at_ms", "is_enabled", "is_paused", "is_missing", "trouble", "compacted_at_ms", "state", "why")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    HEALTH_REASONS_FIELD_NUMBER: _ClassVar[int]
    HEALTH_AT_MS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    SMALL_FILES_FIELD_NUMBER: _ClassVar[int]
    DELETE_FILES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    DUE_AT_MS_FIELD_NUMBER: _ClassVar[int]
    IS_ENABLED_FIELD_NUMBER: _ClassVar[int]
    IS_PAUSED_FIELD_NUMBER: _ClassVar[int]
    IS_MISSING_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    COMPACTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    target: str
    namespace: str
    location: str
    format: str
    health: int
    health_reasons: _containers.RepeatedScalarFieldContainer[str]
    health_at_ms: int
    files: int
    small_files: int
    delete_files: int
    size_bytes: int
    rows: int
    snapshot_id: str
    schedule: str
    window: str
    due_at_ms: int
    is_enabled: bool
    is_paused: bool
    is_missing: bool
    trouble: str
    compacted_at_ms: int
    state: str
    why: str
    def __init__(self, target: _Optional[str] = ..., namespace: _Optional[str] = ..., location: _Optional[str] = ..., format: _Optional[str] = ..., health: _Optional[int] = ..., health_reasons: _Optional[_Iterable[str]] = ..., health_at_ms: _Optional[int] = ..., files: _Optional[int] = ..., small_files: _Optional[int] = ..., delete_files: _Optional[int] = ..., size_bytes: _Optional[int] = ..., rows: _Optional[int] = ..., snapshot_id: _Optional[str] = ..., schedule: _Optional[str] = ..., window: _Optional[str] = ..., due_at_ms: _Optional[int] = ..., is_enabled: _Optional[bool] = ..., is_paused: _Optional[bool] = ..., is_missing: _Optional[bool] = ..., trouble: _Optional[str] = ..., compacted_at_ms: _Optional[int] = ..., state: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class ListTablesRequest(_message.Message):
    __slots__ = ("matching", "health_below", "limit", "cursor")
    MATCHING_FIELD_NUMBER: _ClassVar[int]
    HEALTH_BELOW_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    matching: str
    health_below: int
    limit: int
    cursor: str
    def __init__(self, matching: _Optional[str] = ..., health_below: _Optional[int] = ..., limit: _Optional[int] = ..., cursor: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("plan", "health")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    plan: bytes
    health: bytes
    def __init__(self, plan: _Optional[bytes] = ..., health: _Optional[bytes] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("target", "cause")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    target: str
    cause: str
    def __init__(self, target: _Optional[str] = ..., cause: _Optional[str] = ...) -> None: ...

class Trigger(_message.Message):
    __slots__ = ("trigger_id", "target", "state", "status", "why", "source", "cause", "hints", "priority", "attempts", "error_class", "job_id", "first_at_ms", "last_at_ms", "claimed_at_ms", "finished_at_ms", "bytes_moved", "cpu_seconds", "is_cancelling")
    TRIGGER_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_CLASS_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    BYTES_MOVED_FIELD_NUMBER: _ClassVar[int]
    CPU_SECONDS_FIELD_NUMBER: _ClassVar[int]
    IS_CANCELLING_FIELD_NUMBER: _ClassVar[int]
    trigger_id: int
    target: str
    state: str
    status: str
    why: str
    source: str
    cause: str
    hints: int
    priority: int
    attempts: int
    error_class: str
    job_id: str
    first_at_ms: int
    last_at_ms: int
    claimed_at_ms: int
    finished_at_ms: int
    bytes_moved: int
    cpu_seconds: float
    is_cancelling: bool
    def __init__(self, trigger_id: _Optional[int] = ..., target: _Optional[str] = ..., state: _Optional[str] = ..., status: _Optional[str] = ..., why: _Optional[str] = ..., source: _Optional[str] = ..., cause: _Optional[str] = ..., hints: _Optional[int] = ..., priority: _Optional[int] = ..., attempts: _Optional[int] = ..., error_class: _Optional[str] = ..., job_id: _Optional[str] = ..., first_at_ms: _Optional[int] = ..., last_at_ms: _Optional[int] = ..., claimed_at_ms: _Optional[int] = ..., finished_at_ms: _Optional[int] = ..., bytes_moved: _Optional[int] = ..., cpu_seconds: _Optional[float] = ..., is_cancelling: _Optional[bool] = ...) -> None: ...

class GetTriggerRequest(_message.Message):
    __slots__ = ("trigger_id",)
    TRIGGER_ID_FIELD_NUMBER: _ClassVar[int]
    trigger_id: int
    def __init__(self, trigger_id: _Optional[int] = ...) -> None: ...

class ListTriggersRequest(_message.Message):
    __slots__ = ("target", "states", "limit", "before")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    target: str
    states: _containers.RepeatedScalarFieldContainer[str]
    limit: int
    before: int
    def __init__(self, target: _Optional[str] = ..., states: _Optional[_Iterable[str]] = ..., limit: _Optional[int] = ..., before: _Optional[int] = ...) -> None: ...

class ListTriggersReply(_message.Message):
    __slots__ = ("triggers",)
    TRIGGERS_FIELD_NUMBER: _ClassVar[int]
    triggers: _containers.RepeatedCompositeFieldContainer[Trigger]
    def __init__(self, triggers: _Optional[_Iterable[_Union[Trigger, _Mapping]]] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("trigger_id", "job", "reason")
    TRIGGER_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    trigger_id: int
    job: str
    reason: str
    def __init__(self, trigger_id: _Optional[int] = ..., job: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("trigger", "job")
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    trigger: Trigger
    job: JobDetail
    def __init__(self, trigger: _Optional[_Union[Trigger, _Mapping]] = ..., job: _Optional[_Union[JobDetail, _Mapping]] = ...) -> None: ...

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
