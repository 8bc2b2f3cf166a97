"""The log's lines of runs, made of what the journal notes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backupd.journal.journal import Journal
from backupd.journal.records import RunKind
from backupd.lines.bound import bind, unbind
from backupd.model.rules import Task
from backupd.model.states import RunEvent, RunState
from backupd.service.run_lines import RunLines, kind_of, say_ended
from backupd.service.worker import Ending, Report


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.db", now=lambda: datetime(2026, 11, 22, tzinfo=UTC))
    yield opened
    opened.close()


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, dict[str, Any]]]:
    return [(one.levelname, one.getMessage(), getattr(one, "facts", {})) for one in caplog.records]


def test_a_runs_states_are_said_under_the_id_that_it_was_given(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lines = RunLines()
    journal.hear = lines.hear
    run_id = journal.new_id(RunKind.BACKUP)
    journal.call_next(RunKind.BACKUP, run_id)
    bind(run=run_id)
    try:
        other = journal.begin_run(database="orders", kind=RunKind.TRUNCATE)
        run = journal.begin_run(database="orders", kind=RunKind.BACKUP, type="full")
        assert run.id == run_id
        journal.set_label(run.id, "F-1")
        journal.move(run.id, RunEvent.PREPARE, frozen_seconds=0.12345678, stored_bytes=7)
        journal.move(run.id, RunEvent.ABORT, because="it was cut")
        journal.finish(other.id, RunState.COMPLETE, "log truncated")
    finally:
        unbind("run")
    again = journal.begin_run(database="orders", kind=RunKind.BACKUP)
    assert again.id != run_id
    found = said(caplog)
    assert [(level, event) for level, event, _ in found] == [
        ("INFO", "truncate planned"),
        ("INFO", "backup planned"),
        ("INFO", "backup prepared"),
        ("WARNING", "backup aborted"),
        ("INFO", "truncate complete"),
        ("INFO", "backup planned"),
    ]
    assert [facts["run"] for _, _, facts in found] == [run_id] * 5 + [again.id]
    assert [facts.get("part") for _, _, facts in found] == [other.id, None, None, None, other.id, None]
    assert found[2][2]["frozen_seconds"] == 0.123457
    assert (found[3][2]["backup"], found[3][2]["because"]) == ("F-1", "it was cut")
    assert lines.totals == {"stored_bytes": 7}


def test_a_bugs_traceback_is_one_line_of_its_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    report = Report(Ending.FAILED, "a bug: ValueError: x", ("Traceback ...\n", "ValueError: x\n"))
    say_ended("orders", Task.FULL, "r1", report, 1.23456)
    ended, bug = said(caplog)
    assert (ended[0], ended[1], ended[2]["duration_seconds"]) == ("ERROR", "a run ended: failed", 1.235)
    assert (bug[2]["run"], bug[2]["traceback"]) == ("r1", "Traceback ...\nValueError: x")


def test_each_task_has_a_kind_of_run() -> None:
    assert {task: kind_of(task) for task in Task} == dict.fromkeys(Task, RunKind.BACKUP) | {
        Task.PRUNE: RunKind.PRUNE,
        Task.VERIFY: RunKind.VERIFY,
        Task.DRILL: RunKind.DRILL,
    }
