"""What the service and its jobs log: lines of JSON, or of text on a terminal, without secrets.

Modules log as all Python does; what a line is about stands beside it, by `extra` or, in a process
that does one thing, by `Logs.about`.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import TextIO

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import JSONRenderer, TimeStamper, format_exc_info
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

from compactor.service.config import ServiceConfig
from compactor.service.secrecy import Blotter, secrets_of

# What a line may be about.
ABOUT = ("table", "trigger", "job", "attempt", "instance", "source")
_FIRST = ("timestamp", "level", "event")
_LOG = logging.getLogger(__name__)
_Line = MutableMapping[str, object]


class Logs:
    """The one place that all loggers of a process write to.

    Attributes:
        about: what all lines of the process are about.

    Args:
        stream: where lines go.
        blotter: takes secrets out of them.
    """

    def __init__(self, stream: TextIO, blotter: Blotter) -> None:
        self.about: dict[str, object] = {}
        self._blotter = blotter
        self._stream = stream

    def begin(self, *, level: int, others_level: int | None = None) -> None:
        """Take over all loggers of the process, and what nobody catches.

        Args:
            level: of lines of this program.
            others_level: of lines of libraries; None for the same.
        """
        logging.basicConfig(handlers=[self.handler()], level=others_level or level, force=True)
        for name in ("catalog", "compactor", "runtime"):
            logging.getLogger(name).setLevel(level)
        logging.captureWarnings(capture=True)
        sys.excepthook = _uncaught
        threading.excepthook = _uncaught_in_thread

    def handler(self) -> logging.Handler:
        """Return what writes lines."""
        handler = logging.StreamHandler(self._stream)
        formatter = ProcessorFormatter(
            foreign_pre_chain=[add_log_level, add_logger_name, ExtraAdder(allow=ABOUT)],
            processors=[
                ProcessorFormatter.remove_processors_meta,
                TimeStamper(fmt="iso", utc=True),
                self._tell_about,
                format_exc_info,
                self._blot,
                self._renderer(),
            ],
        )
        handler.setFormatter(formatter)
        return handler

    def _renderer(self) -> structlog.typing.Processor:
        if self._stream.isatty():
            # Tracebacks with the values of variables would tell secrets.
            return ConsoleRenderer(exception_formatter=plain_traceback)
        return JSONRenderer(ensure_ascii=False)

    def _tell_about(self, _: object, __: str, line: _Line) -> _Line:
        first = {name: line[name] for name in _FIRST if name in line}
        return {**first, **self.about, **line}

    def _blot(self, _: object, __: str, line: _Line) -> _Line:
        return {key: self._blotter.value(value) for key, value in line.items()}


def begin_logs(config: ServiceConfig, *, is_verbose: bool) -> None:
    """Write what a service logs to stderr."""
    blotter = Blotter(secrets_of(config, os.environ))
    Logs(sys.stderr, blotter).begin(level=logging.DEBUG if is_verbose else logging.INFO)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    _LOG.critical("nobody has caught this", exc_info=(kind, error, trace))


def _uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_value is not None and not issubclass(caught.exc_type, SystemExit):
        name = caught.thread.name if caught.thread else "?"
        error = (caught.exc_type, caught.exc_value, caught.exc_traceback)
        _LOG.critical("the thread `%s` has ended by a defect", name, exc_info=error)
