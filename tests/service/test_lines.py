"""Each event is one line."""

from __future__ import annotations

import logging
import sys

from backupd.service.lines import LineFormatter, quoted


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
