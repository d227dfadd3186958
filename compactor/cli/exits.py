"""The one error boundary: whatever goes wrong becomes an exit code, a line of error and a hint."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import IntEnum

import click


class ExitCode(IntEnum):
    """What the process says to its caller."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    WORK_FOUND = 4
    NO_SUCH_TABLE = 10
    CONFLICT = 11
    ACCESS_DENIED = 12
    INTERRUPTED = 130


# Click quotes names as Python does; ours stand in backticks.
_QUOTED = re.compile(r"'([^']*)'")
# Codes of errors that callers tell apart; every other one is a failure.
_EXIT_BY_CODE = {
    "table-not-found": ExitCode.NO_SUCH_TABLE,
    "commit-conflict": ExitCode.CONFLICT,
    "plan-stale": ExitCode.CONFLICT,
    "access-denied": ExitCode.ACCESS_DENIED,
    "table-busy": ExitCode.CONFLICT,
    "lock-timeout": ExitCode.CONFLICT,
    "settings-refused": ExitCode.USAGE,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is told to people and programs.

    Attributes:
        code: stable kebab-case name of the kind.
        message: what happened, one line.
        hint: what to do next, empty when there is nothing to add.
        exit_code: what the process ends with.
    """

    code: str
    message: str
    hint: str
    exit_code: ExitCode

    def document(self) -> dict[str, object]:
        """Return the JSON document that stands on stdout under `--json`."""
        told = asdict(self)
        return {"error": {key: told[key] for key in ("code", "message", "hint")}}


def guarded(run: Callable[[], object], arguments: Sequence[str]) -> int:
    """Run a command line and return the exit code; errors go to stderr, and to stdout as JSON."""
    try:
        result = run()
        return result if isinstance(result, int) else ExitCode.DONE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    except BrokenPipeError:
        # The reader of our output is gone: there is nobody left to tell.
        _settle_stdout()
        return ExitCode.FAILED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the boundary itself
        failure = describe(error)
        _tell(failure, as_json="--json" in arguments)
        if wants_traceback(arguments) and failure.exit_code is not ExitCode.USAGE:
            _print_traceback(error)
        _settle_stdout()
        return failure.exit_code


def _settle_stdout() -> None:
    """Let what cannot be written go nowhere: Python would fail over it at the very end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def describe(error: BaseException) -> Failure:
    """Say what an exception means to whoever called `compact`."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        hint = "what was committed stays; run the same command again to go on"
        return Failure("interrupted", "interrupted", hint, ExitCode.INTERRUPTED)
    if isinstance(error, click.ClickException):
        return _describe_usage(error)
    known = _known_cause(error)
    if known is not None:
        return known
    if isinstance(error, OSError):
        place = f"`{error.filename}`: " if error.filename else ""
        message = f"{place}{error.strerror or error}"
        return Failure("operating-system", message, "", ExitCode.FAILED)
    hint = "this is a defect of `compact`: run again with -v and report the traceback"
    text = _one_line(f"{type(error).__name__}: {error}")
    return Failure("internal-error", text, hint, ExitCode.FAILED)


def _known_cause(error: BaseException) -> Failure | None:
    """Describe the innermost error of our own families: a task's error wraps the real one."""
    from catalog.errors import ExplainedError
    from runtime.errors import RuntimeFailure

    own = (ExplainedError, RuntimeFailure)
    families = [link for link in _chain(error) if isinstance(link, own)]
    outermost = next(iter(families), None)
    if outermost is None or not isinstance(error, own):
        return None
    # The runtime only tells where it happened; what happened is the cause.
    told = next((link for link in families if not isinstance(link, RuntimeFailure)), outermost)
    exit_code = _EXIT_BY_CODE.get(told.code, ExitCode.FAILED)
    return Failure(told.code, _one_line(str(told)), told.hint, exit_code)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    # An error that came out of a task is the cause of the task's failure, which is its own cause.
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _describe_usage(error: click.ClickException) -> Failure:
    hint = ""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        hint = f"see `{context.command_path} --help`"
    message = error.message
    if isinstance(error, click.NoSuchCommand):
        message = f"no command `{error.command_name}`"
    elif isinstance(error, click.NoSuchOption):
        message = f"no option `{error.option_name}`"
    else:
        message = error.format_message()
    if isinstance(error, click.NoSuchCommand | click.NoSuchOption) and error.possibilities:
        hint = f"did you mean `{error.possibilities[0]}`?"
    # Click writes sentences: ours begin in lower case and end without a full stop.
    message = _QUOTED.sub(r"`\1`", message[:1].lower() + message[1:].rstrip("."))
    return Failure("usage", _one_line(message), hint, ExitCode.USAGE)


def _tell(failure: Failure, *, as_json: bool) -> None:
    if as_json:
        # A full disk below stdout may be what went wrong: the line on stderr is told anyway.
        with suppress(OSError):
            click.echo(json.dumps(failure.document(), indent=2))
    label = click.style("error:", fg="red", bold=True)
    click.echo(f"{label} {failure.message}", err=True, color=_color())
    if failure.hint:
        label = click.style("hint:", fg="cyan", bold=True)
        click.echo(f"{label} {failure.hint}", err=True, color=_color())


def _color() -> bool | None:
    """Return False where colours are unwanted; None lets click look at the stream."""
    return False if os.environ.get("NO_COLOR") else None


def wants_traceback(arguments: Sequence[str]) -> bool:
    """Return whether a command line asks for tracebacks."""
    return any(
        argument == "--verbose" or (argument.startswith("-v") and not argument.startswith("--"))
        for argument in arguments
    )


def _print_traceback(error: BaseException) -> None:
    for link in _chain(error):
        remote = getattr(link, "remote_traceback", "")
        if remote:
            click.echo(remote, err=True)
    click.echo("".join(traceback.format_exception(error)), err=True, nl=False)


def _one_line(text: str) -> str:
    return " ".join(text.split())
