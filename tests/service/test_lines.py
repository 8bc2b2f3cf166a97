"""Each event is one line."""

from __future__ import annotations

import logging
import sys

import pytest

from backupd.service.lines import LineFormatter, log_to_stderr, quoted


def line(message: str, **more: object) -> str:
    record = logging.LogRecord("service", logging.INFO, "x.py", 1, message, None, None)
    vars(record).update(more)
    return LineFormatter().format(record)


def test_facts_follow_the_event() -> None:
    text = line("replication started", facts={"database": "orders"})
    assert text.startswith("time=20")
    assert text.endswith('level=info from=service event="replication started" database=orders')


def test_a_traceback_stays_on_the_line() -> None:
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        text = line("a bug", exc_info=sys.exc_info())
    assert "\n" not in text
    assert "ZeroDivisionError" in text


def test_values_are_quoted_when_they_must_be() -> None:
    assert quoted("a-b/c.d:1") == "a-b/c.d:1"
    assert quoted("") == '""'
    assert quoted('say "x" \\ y') == '"say \\"x\\" \\\\ y"'


def test_libraries_that_say_where_they_found_credentials_are_not_heard(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    try:
        log_to_stderr("debug")
        logging.getLogger("botocore.credentials").info("Found credentials in environment variables.")
        logging.getLogger("botocore.auth").debug("what was signed")
        logging.getLogger("service").info("a run begins")
        logging.getLogger("botocore.endpoint").warning("a warning")
    finally:
        root.handlers[:], level = kept
        root.setLevel(level)
    heard = [line.partition("event=")[2] for line in capsys.readouterr().err.splitlines()]
    assert heard == ['"a run begins"', '"a warning"']
