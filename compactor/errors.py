"""Errors of the compactor side: few types, each with a stable code, each saying what to do next."""

from __future__ import annotations

from catalog.errors import ExplainedError


class CompactorError(ExplainedError):
    """Base of every error raised by `compactor`."""

    code = "compactor-error"


class SettingsError(CompactorError):
    """A setting is unknown or its value is not what it must be; nothing was started."""

    code = "settings-refused"


class PlanFileError(CompactorError):
    """A saved plan cannot be read: damaged, or written in a form this version does not know."""

    code = "plan-file-refused"


class PlanStaleError(CompactorError):
    """The table is no longer what the plan was made from; plan again."""

    code = "plan-stale"


class VerificationError(CompactorError):
    """A rewrite's rows are not the rows of its inputs; nothing of it was committed."""

    code = "verification-failed"


class ChangesRefusedError(CompactorError):
    """Changes cannot be merged into the table as they are; nothing was written."""

    code = "changes-refused"


class JobFailedError(CompactorError):
    """A job could not do its work; what it committed before stays."""

    code = "job-failed"


class TableBusyError(CompactorError):
    """Another job is compacting the same table."""

    code = "table-busy"
    retryable = True
