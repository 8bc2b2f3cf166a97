"""Sends every logger of this process to standard error, each event as one line, and keeps libraries quiet."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from backupd.errors import BackupdError
from backupd.known_secrets import learn_environment, masked
from backupd.lines.bound import bound
from backupd.lines.entry import RECORD, RENDERERS, STEPS, quoted, time_of
from backupd.lines.settings import LineForm, LineSettings, hand_on

# The first part of the names of backupd's own loggers. Every other one is a library's.
OWN_LOGGERS = ("service", "run", "policies", "replication", "capture", "replay")


def set_up(settings: LineSettings, *, small: bool = False) -> None:
    """Write lines from now on; may be called again with other settings.

    Args:
        settings: the form and the level; processes that are started later inherit them.
        small: without structlog, for a process that must stay small. The lines are the same.
    """
    learn_environment(os.environ)
    hand_on(settings, os.environ)
    handler = LineHandler(_formatter(settings.form, small=small), settings.form)
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, LineHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    logging.lastResort = handler  # of loggers that do not propagate and have no handler, as Apprise's between two sends
    # Libraries are held here, not each by its name: nobody can list those that another release brings along.
    root.setLevel(logging.WARNING)
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(settings.level.upper())
    logging.captureWarnings(True)
    _catch_what_nobody_caught()


def _formatter(form: LineForm, *, small: bool) -> logging.Formatter:
    if small:
        return SmallFormatter(form)
    from backupd.lines.chain import formatter

    return formatter(form)


class SmallFormatter(logging.Formatter):
    """The steps of a line one after the other, without structlog."""

    def __init__(self, form: LineForm) -> None:
        super().__init__()
        self._render: Callable[..., str] = RENDERERS[form]

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        entry: Any = {RECORD: record, "event": record.getMessage()}
        for step in STEPS:
            entry = step(None, "", entry)
        return self._render(None, "", entry)


class LineHandler(logging.Handler):
    """Writes each line with one call, so that lines of several processes do not get between each other."""

    def __init__(self, formatter: logging.Formatter, form: LineForm) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.form = form

    def filter(self, record: logging.LogRecord) -> bool:
        """Not what a library says below a warning, even when it has turned its own logger's level down."""
        if record.levelno < logging.WARNING and record.name.partition(".")[0] not in OWN_LOGGERS:
            return False
        return bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write it; never raises, and never says on its own what the line would have been."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a line that cannot be made must not end what it is about
            line = self._unsayable(record, error)
        try:
            _write(line + "\n")
        except (OSError, ValueError):  # nobody reads any more: that stops no backup
            pass

    def _unsayable(self, record: logging.LogRecord, error: Exception) -> str:
        # Neither the message nor its arguments: what could not be made could not be masked either.
        facts = {
            "time": time_of(record),
            "level": record.levelname.lower(),
            "from": masked(record.name),
            "event": "a line could not be put together",
            **bound(),
            "place": f"{record.module}:{record.lineno}",
            "because": type(error).__name__,
        }
        if self.form is LineForm.JSON:
            return json.dumps(facts)
        return " ".join(f"{name}={quoted(value)}" for name, value in facts.items())


def _write(text: str) -> None:
    stream = sys.stderr
    raw = text.encode("utf-8", "backslashreplace")
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):  # a stream of a test's
        stream.write(text)
        return
    stream.flush()
    while raw:
        raw = raw[os.write(descriptor, raw) :]


def _catch_what_nobody_caught() -> None:
    """Tracebacks that Python would print as they are become lines, too; those of threads, and of what is collected."""

    def in_main(kind: type[BaseException], bug: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, bug, trace)
            return
        _say_bug("ended by a bug", (kind, bug, trace))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            _say_bug("a thread ended by a bug", (args.exc_type, args.exc_value, args.exc_traceback))

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            _say_bug("a bug that nobody could be told", (args.exc_type, args.exc_value, args.exc_traceback))

    sys.excepthook, threading.excepthook, sys.unraisablehook = in_main, in_thread, unraisable


def _say_bug(event: str, bug: tuple[type[BaseException], BaseException, TracebackType | None]) -> None:
    logging.getLogger("service").critical(event, exc_info=bug)


def say_error(error: BackupdError) -> None:
    """Why this process ends: three lines for a person, or one line of JSON."""
    handlers = [one for one in logging.getLogger().handlers if isinstance(one, LineHandler)]
    if any(one.form is LineForm.JSON for one in handlers):
        facts = {"because": error.because, "next": error.next_step, "exit_status": error.exit_status}
        logging.getLogger("service").critical("%s", error.problem, extra={"facts": facts})
    else:
        sys.stderr.write(masked("\n".join(error.lines())) + "\n")
